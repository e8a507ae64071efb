"""``procview render``: what a process would read, without mount or daemon."""

import os
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from procview.cli.options import config_option, roots_options

if TYPE_CHECKING:
    from procview._fast.engine import Engine
    from procview.roots import Roots

_TREES = ("sys/devices/system/cpu", "sys/devices/system/node")


@click.command()
@click.argument("view")
@click.option("--pid", type=click.IntRange(min=1), help="The process that reads.  [default: this one]")
@click.option("--container", metavar="ID", help="The container that reads, by its id or its init's pid.")
@config_option
@roots_options
def render(view: str, pid: int | None, container: str | None, config: str | None, roots: "Roots") -> None:
    """Print VIEW as the process PID, or the container ID, would read it.

    An ID is a container's, or the beginning of one, as its cgroup tells it; or its init's pid. Needs no daemon.

    VIEW is a file of the mount: meminfo, proc/meminfo, /proc/pressure/cpu, sys/devices/system/cpu/online.

    There is no sampler here, so a loadavg starts without a history.
    """
    from procview.roots import open_engine
    from procview.settings import SettingsError, load

    if pid is not None and container is not None:
        raise click.UsageError("--pid or --container: one of these")
    # A closed pipe ends us silently, as it does cat.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        settings = load(config)
    except SettingsError as error:
        raise click.ClickException(str(error)) from None
    if container is not None:
        pid = _init_of(container, roots.proc)
    elif pid is None:
        pid = os.getpid()
    check_process(pid, roots.proc)
    try:
        engine = open_engine(roots, settings)
        try:
            text = _text(engine, pid, view)
        finally:
            engine.close()
    except OSError as error:
        raise click.ClickException(f"{view}: {error.strerror or error}") from None
    sys.stdout.buffer.write(text)
    sys.stdout.buffer.flush()


def _init_of(reference: str, proc: str) -> int:
    """The pid of a container's init. Raises ClickException."""
    from procview.cli.naming import by_reference
    from procview.slots.containers import running

    try:
        container, why_not = by_reference(reference, running(proc))
    except OSError as error:
        raise click.ClickException(f"{error.filename or proc}: {error.strerror}") from None
    if container is None:
        hint = "" if os.geteuid() == 0 else " (only root sees the containers of others)"
        raise click.ClickException(why_not + hint)
    return container.pid


def check_process(pid: int, proc: str) -> None:
    """Raises ClickException if ``pid`` is not a process: its reader would be served the host's file."""
    if proc == "/proc":
        import psutil

        there = psutil.pid_exists(pid)
    else:
        there = os.path.isdir(f"{proc}/{pid}")
    if not there:
        raise click.ClickException(f"no process {pid} in {proc}")


def check_placed(pid: int, fallback: str | None) -> None:
    """Raises ClickException where ``fallback`` says that the process could not be placed."""
    if fallback == "unknown-caller":
        raise click.ClickException(f"process {pid} cannot be placed: it may have ended")
    if fallback == "unreadable-caller":
        raise click.ClickException(f"process {pid} cannot be placed: its namespaces may not be read")


def _text(engine: "Engine", pid: int, view: str) -> bytes:
    """The text of ``view``. Raises ClickException for what is no view, or when ``pid`` cannot be placed; OSError."""
    path = _path(engine, pid, view)
    opened = engine.open(pid, path)
    check_placed(pid, opened.fallback)
    if opened.fallback is not None:
        click.echo(f"procview: this is the host's file: {opened.fallback}", err=True)
    return opened.render()


def _path(engine: "Engine", pid: int, view: str) -> str:
    """The path in the mount that ``view`` means. Raises ClickException."""
    from procview._fast.engine import PROC_VIEWS

    name = view.strip("/")
    for path in (name, f"proc/{name}"):
        if not path.startswith(("proc/", *(f"{tree}/" for tree in _TREES))) or not {"", ".", ".."}.isdisjoint(
            path.split("/")
        ):
            continue
        try:
            kind = engine.kind(pid, path)
        except FileNotFoundError:
            continue
        if kind == "file":
            return path
        if kind == "link":
            raise click.ClickException(f"{path} is a link")
        below = " ".join(engine.listdir(pid, path))
        raise click.ClickException(f"{path} is a directory; in it are: {below}")
    if name.removeprefix("proc/") in PROC_VIEWS:
        raise click.ClickException(f"process {pid} has no {view} (not in this kernel, or not for its cgroup)")
    views = list(PROC_VIEWS)
    for tree in _TREES:
        with suppress(FileNotFoundError):  # a kernel without NUMA
            views += [f"{tree}/{entry}" for entry in engine.listdir(pid, tree)]
    raise click.ClickException(f"no view {view!r}; there are: {' '.join(views)}")
