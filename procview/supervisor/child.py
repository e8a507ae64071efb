"""The supervisor's processes: how they are started, signalled, and known. Touches /proc/PID/stat and fdinfo."""

import ctypes
import fcntl
import json
import os
import select
import signal
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from typing import Any, NoReturn

from procview import standby
from procview.store import FIRST

NEVER = float("inf")
_PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass
class Child:
    """A process that cannot be taken for another one, whatever becomes of its number."""

    pid: int
    pidfd: int
    kill_at: float = NEVER
    """When it is killed (time.monotonic) unless it says something before."""
    ready_since: float | None = None
    ending: bool = False
    """Whether it is to end, or has said that it does: nothing that it says then prolongs its life."""

    @classmethod
    def opened(cls, pid: int) -> "Child":
        """Of a process that is there. Raises OSError."""
        return cls(pid, os.pidfd_open(pid))

    @classmethod
    def resumed(cls, values: Mapping[str, Any]) -> "Child":
        """From the fields of one, as another version of this class has written them."""
        known = {one.name for one in fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in known})

    def signal(self, number: int) -> None:
        """Send it a signal; nothing happens when it has gone."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, number)

    def expect_within(self, seconds: float) -> None:
        """Let it be killed unless this is called again within ``seconds``."""
        self.kill_at = time.monotonic() + seconds

    def end(self, number: int, seconds: float) -> None:
        """Have it end by a signal, or be killed after ``seconds``."""
        self.signal(number)
        if not self.ending:
            self.ending = True
            self.expect_within(seconds)

    def has_ended(self) -> bool:
        """Whether it has; it may be for somebody else to say how."""
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return bool(poll.poll(0))

    def close(self) -> None:
        """Let go of it."""
        os.close(self.pidfd)


def become_subreaper() -> None:
    """Have what our children leave behind become our children, too: a successor must not get lost. Raises OSError."""
    if _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def parent_of(pid: int) -> int:
    """The parent's number; 0 where it cannot be told."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return int(file.read().rpartition(")")[2].split()[1])  # the name in front of it can be anything
    except (OSError, ValueError, IndexError):
        return 0


def pid_of(pidfd: int) -> int:
    """The number of its process (proc(5), /proc/PID/fdinfo); -1 when it has ended."""
    with open(f"/proc/self/fdinfo/{pidfd}", encoding="utf-8") as file:
        return next((int(line.split()[1]) for line in file if line.startswith("Pid:")), -1)


def start(command: Sequence[str], environment: Mapping[str, str], handed_over: Sequence[tuple[str, int]] = ()) -> Child:
    """Start ``command``, and hand it descriptors with their names. Raises OSError.

    fork(2) by hand: LISTEN_PID has to be known before exec. It is in a session of its own, so that signals of a
    terminal come from us only. What cannot be executed ends with status 127.
    """
    # A signal in the child before exec would be written to our own wake-up socket, and be obeyed by us.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            _become(command, environment, handed_over)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    try:
        return Child.opened(pid)
    except OSError:
        os.kill(pid, signal.SIGKILL)
        raise


def _become(command: Sequence[str], environment: Mapping[str, str], handed_over: Sequence[tuple[str, int]]) -> NoReturn:
    try:
        signal.set_wakeup_fd(-1)
        for number in signal.valid_signals():
            ignored_by_python = number in (signal.SIGPIPE, signal.SIGXFSZ)
            if ignored_by_python or callable(signal.getsignal(number)):
                signal.signal(number, signal.SIG_DFL)
        os.setsid()
        variables = dict(environment)
        if handed_over:
            # Copies beyond the numbers that are to be, so that none is overwritten before its turn.
            above = FIRST + len(handed_over)
            copies = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, above) for _, fd in handed_over]
            for target, fd in enumerate(copies, FIRST):
                os.dup2(fd, target)
            variables["LISTEN_FDS"] = str(len(handed_over))
            variables["LISTEN_FDNAMES"] = ":".join(name for name, _ in handed_over)
            variables["LISTEN_PID"] = str(os.getpid())
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.execve(command[0], list(command), variables)  # noqa: S606 - there is no shell to be started
    except BaseException as error:
        os.write(2, f"procview: cannot start {command[0]}: {error}\n".encode(errors="replace"))
    os._exit(127)


@dataclass
class Standby:
    """A daemon that waits for a word (procview.standby)."""

    channel: socket.socket
    child: Child | None
    """None: it is being forked by another one, and has not yet said who it is."""
    warm: bool | None = None
    """None: not yet; False: it is not going to be."""
    is_fresh: bool = True
    """Whether it was executed, and is of what was installed then; else it is forked from one that was."""

    @classmethod
    def start(cls, command: Sequence[str], environment: Mapping[str, str]) -> "Standby":
        """Start one. Raises OSError."""
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with its:
            its.set_inheritable(True)
            try:
                child = start(command, {**environment, standby.VARIABLE: str(its.fileno())})
            except OSError:
                ours.close()
                raise
        return cls(ours, child)

    def another(self) -> "Standby":
        """Have this one fork another, and wait on. Raises OSError: it has ended."""
        with self._another() as (its, standby):
            self._tell({"another": True}, [its])
        return standby

    def heard(self) -> None:
        """To be called when its channel has something to say: that it is warm, or, with its end, nothing."""
        self.warm = False
        descriptors: list[int] = []
        with suppress(OSError):
            message, descriptors, _, _ = socket.recv_fds(self.channel, 64, 1)
            self.warm = message == standby.WARM
        for pidfd in descriptors:
            if self.child is None and (pid := pid_of(pidfd)) > 0:
                self.child = Child(pid, pidfd)
            else:
                os.close(pidfd)
        if self.warm and self.child is not None:
            self.child.kill_at, self.child.ready_since = NEVER, time.monotonic()

    def go(self, handed_over: Sequence[tuple[str, int]], *, is_last: bool) -> tuple[Child, "Standby | None"]:
        """Have it serve, with these descriptors: it is a child as any other then. If it is the last one, it forks
        another before, which takes it some milliseconds. Raises OSError: it has ended.
        """
        assert self.child is not None
        message: dict[str, Any] = {"names": [name for name, _ in handed_over]}
        descriptors = [fd for _, fd in handed_over]
        standby = None
        with self.channel:
            if is_last:
                with self._another() as (its, standby):
                    self._tell({**message, "another": True}, [*descriptors, its])
            else:
                self._tell(message, descriptors)
        self.child.ready_since = None
        return self.child, standby

    def _tell(self, message: Mapping[str, Any], descriptors: Sequence[int]) -> None:
        socket.send_fds(self.channel, [json.dumps(message).encode()], descriptors)

    @staticmethod
    @contextmanager
    def _another() -> Iterator[tuple[int, "Standby"]]:
        """The descriptor that makes one of whoever gets it; closed here in the end. And that one, for us."""
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with its:
            try:
                yield its.fileno(), Standby(ours, None, is_fresh=False)
            except OSError:
                ours.close()
                raise
