"""``procview serve``: the daemon, in the foreground."""

import os
from typing import TYPE_CHECKING

import click

from procview.cli.options import config_option, roots_options

if TYPE_CHECKING:
    from procview.roots import Roots


@click.command()
@click.option(
    "--mount", metavar="DIR", type=click.Path(resolve_path=False), help="Where to mount.  [default: the setting mount]"
)
@config_option
@roots_options
def serve(mount: str | None, config: str | None, roots: "Roots") -> None:
    """Mount the views and serve them until SIGTERM.

    SIGHUP reads the configuration again, SIGUSR1 writes counters to the log. Wants root.
    """
    import logging

    from procview import daemon, logs
    from procview.fs.mount import MountError
    from procview.settings import SettingsError

    logs.set_up("info")
    if mount is not None:
        mount = os.path.abspath(mount)
        if mount == "/":
            raise click.UsageError("--mount cannot be /")
    try:
        daemon.run(config=config, mount=mount, roots=roots)
    except (SettingsError, MountError, OSError) as error:
        logging.getLogger("procview").error("%s", error)
        raise SystemExit(1) from None
    except Exception:
        logging.getLogger("procview").exception("ended by an unexpected error")
        raise SystemExit(1) from None
