"""Is there a daemon, and does it answer: the lock file, the process that holds it, the mount, one real read.

Touches the run directory, /proc/<pid>/stat of the daemon and, in a child, one file of the mount.
"""

import enum
import os
import time
from dataclasses import dataclass

import psutil

from procview.check.commands import JOURNAL, RESTART, START
from procview.check.findings import Finding, Severity
from procview.children import ask
from procview.lock import holder
from procview.mount_namespace import VARIABLE
from procview.mounts import MountEntry, top_mount

ANSWER_SECONDS = 1.0
"""A daemon that has not answered within this time hangs. A read takes it a fraction of a millisecond."""
START_SECONDS = 10.0
"""A process younger than this that has not mounted yet is starting."""

_START = f"{START}; why it ended: {JOURNAL}"
_RESTART = f"{RESTART}; what happened: {JOURNAL}"


class State(enum.Enum):
    """What a reader of a view can expect now. The value says it as a reason."""

    SERVING = "the daemon serves"
    STARTING = "the daemon is starting"
    BROKEN = "the daemon runs, but does not serve"
    HANGING = "the daemon hangs"
    DEAD = "the daemon is dead"


@dataclass(frozen=True, slots=True)
class Service:
    """What was found of the daemon; the other subjects build on it."""

    state: State
    finding: Finding
    device: str | None = None
    """Of the file system that is mounted (``0:53``), whoever serves it; None: none is."""

    @property
    def serving(self) -> bool:
        return self.state is State.SERVING


def look(lock: str, mount: str, table: list[MountEntry]) -> Service:
    """Find out. ``mount`` is a path without links, ``table`` our own mount table. Raises OSError."""
    entry = top_mount(mount, table)
    device = entry.device if entry is not None and entry.ours else None
    locked = holder(lock)
    if locked is None:
        if os.path.lexists(lock):
            return Service(State.DEAD, _critical("dead: it ended without cleaning up", _START), device)
        return Service(State.DEAD, _critical("not running", _START), device)
    process = _Process.of(locked.pid)
    if device is None:
        return _without_a_mount(process, mount, entry)
    started = time.monotonic()
    answer = ask(lambda: _uptime(f"{mount}/proc/uptime"), ANSWER_SECONDS)
    took_ms = (time.monotonic() - started) * 1000
    if answer.text is not None:
        text = f"{process} serves {mount} and answered in {took_ms:.0f} ms"
        return Service(State.SERVING, Finding("daemon", Severity.OK, text), device)
    if answer.timed_out or process.stopped:
        text = f"hanging: {process} does not answer who reads {mount}"
        return Service(State.HANGING, _critical(text, _RESTART), device)
    return Service(State.BROKEN, _critical(f"{process} runs, but {answer.error}", _RESTART), device)


def _without_a_mount(process: "_Process", mount: str, entry: MountEntry | None) -> Service:
    if process.stopped:
        return Service(State.HANGING, _critical(f"hanging: {process}; its mount has been taken away", _RESTART))
    if entry is not None:
        text = f"{process} runs, but {entry.fs_type} of {entry.source} is mounted over {mount}"
        return Service(State.BROKEN, _critical(text, f"umount {mount}, then {_RESTART}"))
    if process.mounts_elsewhere:
        text = f"{process} mounts in a mount namespace of its own, where no container sees it"
        advice = f"give its unit back the line Environment={VARIABLE}=/proc/1/ns/mnt, then {_RESTART}"
        return Service(State.BROKEN, _critical(text, advice))
    if process.age_seconds < START_SECONDS:
        text = f"{process} is starting: nothing is mounted at {mount} yet"
        return Service(State.STARTING, Finding("daemon", Severity.WARNING, text, "look again in a few seconds"))
    return Service(State.BROKEN, _critical(f"{process} runs, but nothing is mounted at {mount}", _RESTART))


@dataclass(frozen=True, slots=True)
class _Process:
    pid: int | None
    stopped: bool = False
    age_seconds: float = 0.0
    mounts_elsewhere: bool = False
    """Whether it has a mount namespace of its own and was not told of another one."""

    @classmethod
    def of(cls, pid: int | None) -> "_Process":
        try:
            process = psutil.Process(pid) if pid is not None else None
            if process is not None:
                stopped = process.status() in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)
                return cls(pid, stopped, time.time() - process.create_time(), _mounts_elsewhere(process))
        except (psutil.Error, ValueError):
            pass
        return cls(pid)

    def __str__(self) -> str:
        if self.pid is None:
            return "a process that cannot be told"
        return f"pid {self.pid}" + (" (stopped by a signal)" if self.stopped else "")


def _mounts_elsewhere(process: psutil.Process) -> bool:
    try:
        theirs, ours = (os.readlink(f"/proc/{pid}/ns/mnt") for pid in (process.pid, "self"))
    except OSError:
        return False
    return theirs != ours and VARIABLE not in process.environ()


def _uptime(path: str) -> str:
    """The text of the uptime at ``path``. Raises OSError, ValueError."""
    with open(path, encoding="ascii") as file:
        text = file.read(1000)
    if len([float(word) for word in text.split()]) != 2:
        raise ValueError(f"{path} is no uptime")
    return text


def _critical(text: str, advice: str) -> Finding:
    return Finding("daemon", Severity.CRITICAL, text, advice)
