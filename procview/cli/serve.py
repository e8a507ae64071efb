"""``procview serve``: the daemon, in the foreground."""

from typing import TYPE_CHECKING

import click

from procview.cli.options import absolute_path, config_option, place_option, roots_options

if TYPE_CHECKING:
    from procview.roots import Roots


@click.command()
@click.option("--mount", metavar="DIR", callback=absolute_path, help="Where to mount.  [default: the setting mount]")
@place_option
@click.option("--replace", is_flag=True, help="Take the place of the daemon that runs, without a gap.")
@click.option("--lane/--no-lane", default=None, help="Whether with the fast lane.  [default: the setting lane]")
@click.option(
    "--transport",
    type=click.Choice(["auto", "dev", "uring"]),
    help="How requests come to the lane.  [default: the setting transport]",
)
@config_option
@roots_options
def serve(
    mount: str | None,
    run_directory: str | None,
    replace: bool,
    lane: bool | None,
    transport: str | None,
    config: str | None,
    roots: "Roots",
) -> None:
    """Mount the views, put them into all containers that have slots for them, and serve them until SIGTERM.

    Then, and whenever it dies or hangs, containers read the host's files.

    SIGHUP reads the configuration again, SIGUSR1 writes counters to the log, SIGUSR2 starts a successor that takes
    over. Wants root.
    """
    from procview import logs
    from procview.daemon import life
    from procview.fs.mount import MountError
    from procview.lock import LockedError
    from procview.logs import Log
    from procview.settings import SettingsError
    from procview.standby import store_when_it_is_time

    logs.set_up("info")
    options = {"mount": mount, "run_directory": run_directory, "lane": lane, "transport": transport}
    given = {name: value for name, value in options.items() if value is not None}
    try:
        store = store_when_it_is_time()
        life.run(config=config, overrides=given, replace=replace, roots=roots, store=store)
    except (SettingsError, MountError, LockedError, OSError) as error:
        Log("procview").error("serve-failed", "%s", error)
        raise SystemExit(1) from None
    except Exception:
        Log("procview").exception("crashed", "ended by an unexpected error")
        raise SystemExit(1) from None
