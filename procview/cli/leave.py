"""``procview leave``: what systemd runs before it ends the daemon (ExecStop), so that a restart is none for readers."""

import os
from typing import TYPE_CHECKING

import click

from procview.cli.options import settings_options

if TYPE_CHECKING:
    from procview.settings import Settings

NET_SECONDS = 120.0
"""For systemctl(1), and for the daemon's end. The unit's TimeoutStopSec comes first, and systemd then goes on as if
nobody had asked.
"""


@click.command()
@click.argument("unit")
@settings_options
def leave(unit: str, settings: "Settings") -> None:
    """Have the daemon end, and wait for it: for ExecStop in the service UNIT.

    Where systemd is about to start UNIT again, it ends as it is (SIGQUIT): connection, files and counters are left for
    the next one, and readers wait for that. Where UNIT is stopped for good, it withdraws its views (SIGTERM).
    """
    import signal

    from procview.lock import holder

    try:
        job = _job_of(unit)
        owner = holder(f"{settings.run_directory}/lock")
    except (OSError, _NoAnswerError) as error:
        raise click.ClickException(f"whether {unit} is to start again cannot be told: {error}") from None
    if owner is None or owner.pid is None:
        click.echo("no daemon runs")
        return
    again = job in ("restart", "try-restart")
    _have_it_end(owner.pid, signal.SIGQUIT if again else signal.SIGTERM)
    click.echo(f"the daemon (pid {owner.pid}) has ended, and {unit} {'is' if again else 'is not'} to start again")


class _NoAnswerError(Exception):
    """The service manager does not say."""


def _job_of(unit: str) -> str:
    """What systemd is doing with ``unit``: the type of its job, empty if it has none. Raises _NoAnswerError, OSError.

    systemd hands nothing of it to ExecStop, and its jobs are told apart by type only here (systemctl(1), list-jobs).
    """
    import subprocess

    words = ["systemctl", "list-jobs", "--no-legend", "--no-pager", "--full", "--", unit]
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=NET_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise _NoAnswerError("systemctl list-jobs does not answer") from None
    if done.returncode:
        raise _NoAnswerError(f"systemctl list-jobs: {done.stderr.strip() or done.returncode}")
    for line in done.stdout.splitlines():
        match line.split():
            case [_, name, kind, *_] if name == unit:
                return kind
    return ""


def _have_it_end(pid: int, number: int) -> None:
    """And wait. One that has nobody to leave anything with withdraws its views for SIGQUIT as well.

    Not left to systemd: it kills a main process at once that is not its child, as after an exchange (SIGUSR2).
    """
    import select
    import signal

    try:
        daemon = os.pidfd_open(pid)
        try:
            signal.pidfd_send_signal(daemon, number)
            ended = select.select([daemon], [], [], NET_SECONDS)[0]
        finally:
            os.close(daemon)
    except ProcessLookupError:
        return
    except OSError as error:
        raise click.ClickException(f"the daemon (pid {pid}) cannot be told to end: {error.strerror}") from None
    if not ended:
        raise click.ClickException(f"the daemon (pid {pid}) has not ended")
