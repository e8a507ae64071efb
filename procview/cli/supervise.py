"""``procview supervise``: the daemon under a small parent, where there is no systemd."""

import click

from procview.cli.serve import serve


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("--standby/--no-standby", default=True, help="Whether daemons wait to take over.  [default: they do]")
@click.option(
    "--watchdog-seconds",
    type=click.FloatRange(min=0),
    default=10.0,
    show_default=True,
    help="Kill a daemon whose requests have not come back for this long; 0: never.",
)
@click.option(
    "--steady-seconds",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    help="One that has served this long is started again at once.",
)
@click.option("--trial", is_flag=True, hidden=True)
@click.argument("options", nargs=-1, type=click.UNPROCESSED, metavar="[OPTIONS OF serve]...")
def supervise(
    standby: bool, watchdog_seconds: float, steady_seconds: float, trial: bool, options: tuple[str, ...]
) -> None:
    """Run "procview serve" as a service manager would: start it again when it dies, and keep for the next one what the
    readers of a dead one wait for.

    SIGTERM ends both. SIGHUP exchanges both for what is installed now, and so reads the configuration again. SIGUSR1
    and SIGUSR2 are handed on. Wants root.
    """
    import sys

    from procview import logs
    from procview.logs import Log
    from procview.settings import SettingsError, load
    from procview.supervisor import renewal
    from procview.supervisor.options import Options
    from procview.supervisor.run import Supervisor

    config = serve.make_context("procview serve", list(options)).params["config"]
    if trial:  # of the version that is installed now: all is imported, and the command line is understood
        return
    logs.set_up("info")
    log = Log("procview")
    resumed = renewal.inherited()
    exchange = True
    if resumed is not None:
        try:
            load(config)
        except SettingsError as error:
            log.error("reload-refused", "configuration not reloaded, and the daemon not exchanged: %s", error)
            exchange = False
    program = [sys.executable, *sys.orig_argv[1 : len(sys.orig_argv) - len(sys.argv) + 1]]
    try:
        supervisor = Supervisor(
            [*program, "serve", *options],
            [*program, "supervise", "--trial", *options],
            Options(standby=standby, watchdog_seconds=watchdog_seconds, steady_seconds=steady_seconds),
            resumed=resumed,
            exchange=exchange,
        )
        status = supervisor.run()
    except OSError as error:
        log.error("supervise-failed", "%s", error)
        status = 1
    raise SystemExit(status)
