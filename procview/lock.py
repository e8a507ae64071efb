"""A lock file that says who serves: the kernel gives the lock up when its holder dies, however that happens."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_TRIES = 5
_PAUSE_SECONDS = 0.02


class LockedError(Exception):
    """Another process holds the lock. ``pid`` is what it has written there; None if that is no number."""

    def __init__(self, path: str, pid: int | None) -> None:
        who = f"pid {pid}" if pid is not None else "its pid cannot be told"
        super().__init__(f"another procview ({who}) serves here: it holds {path}")
        self.pid = pid


@contextmanager
def held(path: str) -> Iterator[None]:
    """Hold the lock file ``path``, made with our pid in it and removed at the end. Raises LockedError, OSError."""
    tries = _TRIES
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | _FLAGS, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = _pid_in(fd)
            os.close(fd)
            tries -= 1
            if not tries:
                raise LockedError(path, pid) from None
            time.sleep(_PAUSE_SECONDS)  # it may be somebody who only looks
            continue
        if _same_file(fd, path):
            break
        os.close(fd)  # its owner removed it between our open and our lock: it locks nothing any more
    try:
        _write_pid(fd, path)
        yield
    finally:
        if _same_file(fd, path):  # while still locked, so that nobody else's new file is hit
            os.unlink(path)
        os.close(fd)


def holder(path: str) -> LockedError | None:
    """Who holds the lock file ``path`` (as an error to raise or to ask for its pid), or None. Raises OSError."""
    try:
        fd = os.open(path, os.O_RDONLY | _FLAGS)
    except FileNotFoundError:
        return None
    try:
        # A shared lock, for an instant: whoever wants to hold it meanwhile tries again.
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return LockedError(path, _pid_in(fd))
    finally:
        os.close(fd)
    return None


def _write_pid(fd: int, path: str) -> None:
    """Over what another one has left there, and not after it was cut off: that needs no room, where there is none."""
    try:
        os.ftruncate(fd, os.pwrite(fd, b"%d\n" % os.getpid(), 0))
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None


def _pid_in(fd: int) -> int | None:
    try:
        return int(os.pread(fd, 100, 0))
    except ValueError:
        return None


def _same_file(fd: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False
