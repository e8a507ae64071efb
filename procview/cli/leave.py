"""``procview leave``: what systemd runs before it ends the daemon (ExecStop), so that a restart is none for readers."""

import contextlib
import os
import re
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
    the next one, and readers wait for that. Where UNIT is stopped for good, it withdraws its views (SIGTERM). In the
    middle of an exchange there are two: the one that serves, and UNIT's main process (MAINPID), which follows it.
    """
    import signal

    from procview.lock import holder

    try:
        job = _job_of(unit)
        owner = holder(f"{settings.run_directory}/lock")
    except (OSError, _NoAnswerError) as error:
        raise click.ClickException(f"whether {unit} is to start again cannot be told: {error}") from None
    again = job in ("restart", "try-restart")
    daemons = _daemons(None if owner is None else owner.pid)
    if not daemons:
        click.echo("no daemon runs")
    for pid, pidfd in daemons.items():
        _have_it_end(pid, pidfd, signal.SIGQUIT if again else signal.SIGTERM)
        click.echo(f"the daemon (pid {pid}) has ended, and {unit} {'is' if again else 'is not'} to start again")


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


def _daemons(owner: int | None) -> dict[int, int]:
    """Those that are to end, in that order: pids, and descriptors of them. Who has been told of as the main process
    has its views in place, and follows the owner of the lock as soon as that ends.
    """
    main = os.environ.get("MAINPID", "")
    found = {}
    for pid in (owner, int(main) if re.fullmatch("[1-9][0-9]{0,8}", main) else None):
        if pid is not None:
            try:
                found[pid] = os.pidfd_open(pid)
            except ProcessLookupError:
                pass
            except OSError as error:
                raise click.ClickException(f"the daemon (pid {pid}) cannot be watched: {error.strerror}") from None
    return found


def _have_it_end(pid: int, pidfd: int, number: int) -> None:
    """And wait. One that has nobody to leave anything with withdraws its views for SIGQUIT as well.

    Not left to systemd: it kills a main process at once that is not its child, as after an exchange (SIGUSR2).
    """
    import select
    import signal

    try:
        with contextlib.suppress(ProcessLookupError):  # it has ended by itself
            signal.pidfd_send_signal(pidfd, number)
        ended = select.select([pidfd], [], [], NET_SECONDS)[0]
    except OSError as error:
        raise click.ClickException(f"the daemon (pid {pid}) cannot be told to end: {error.strerror}") from None
    if not ended:
        raise click.ClickException(f"the daemon (pid {pid}) has not ended")
