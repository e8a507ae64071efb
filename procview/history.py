"""What is counted beyond one daemon's life: starts, takeovers, how long containers had no views.

A small file in the run directory, as old as that (mostly: since boot), a line for each count. It is made once; then
numbers are written over numbers of the same length, so that a full /run stops nobody. Whoever withdraws views (daemon,
guard, a command) writes when; the daemon that publishes them again, which holds the run directory's lock, writes the
rest. A file that is no good counts from zero.
"""

import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from procview.logs import Log

log = Log(__name__)

FIELDS = ("withdrawn_at_ns", "starts", "takeovers", "withdrawals", "withdrawn_ns")
"""``withdrawn_at_ns``: when views were taken away, by CLOCK_BOOTTIME; 0: they are in place, or never were."""
_WIDTH = 20
_LINE = re.compile(rb"([a-z_]+) +([0-9]+)\n")
_LINE_BYTES = 40


class History:
    """Of one run directory. Nothing here raises OSError: who serves is not to fail because of what it counts."""

    def __init__(self, run_directory: str) -> None:
        self._path = f"{run_directory}/history"

    def make(self) -> None:
        """Make the file unless there is one."""
        with _logged(self._path), suppress(FileExistsError):
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(self._path, flags, 0o644)
            with open(fd, "wb") as file:
                file.write(b"".join(_line(name, 0) for name in FIELDS))

    def read(self) -> Mapping[str, int]:
        """All FIELDS; 0 where nothing is known."""
        found = dict.fromkeys(FIELDS, 0)
        with suppress(OSError), open(self._path, "rb") as file:
            for name in FIELDS:
                match = _LINE.fullmatch(file.read(_LINE_BYTES))
                if match is not None and match[1] == name.encode():
                    found[name] = int(match[2])
        return found

    def started(self, *, took_over: bool) -> None:
        """A daemon is ready, and perhaps goes on with the readers of the one before it."""
        before = self.read()
        self._write("starts", before["starts"] + 1)
        if took_over:
            self._write("takeovers", before["takeovers"] + 1)

    def withdrawn(self) -> None:
        """No views are left, since now; or since somebody said so before."""
        if os.path.exists(self._path) and not self.read()["withdrawn_at_ns"]:  # without a file no daemon ever counted
            self._write("withdrawn_at_ns", time.clock_gettime_ns(time.CLOCK_BOOTTIME))

    def published(self) -> float | None:
        """Views are in place. For how many seconds they were not; None: they were there before, or never."""
        before = self.read()
        if not before["withdrawn_at_ns"]:
            return None
        for_ns = max(0, time.clock_gettime_ns(time.CLOCK_BOOTTIME) - before["withdrawn_at_ns"])
        self._write("withdrawals", before["withdrawals"] + 1)
        self._write("withdrawn_ns", before["withdrawn_ns"] + for_ns)
        self._write("withdrawn_at_ns", 0)
        return for_ns / 1e9

    def remove(self) -> None:
        """The file, if it is there."""
        with _logged(self._path), suppress(FileNotFoundError):
            os.unlink(self._path)

    def _write(self, name: str, value: int) -> None:
        with _logged(self._path):
            fd = os.open(self._path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                os.pwrite(fd, _line(name, value), FIELDS.index(name) * _LINE_BYTES)
            finally:
                os.close(fd)


def _line(name: str, value: int) -> bytes:
    return f"{name:<{_LINE_BYTES - _WIDTH - 1}}{value:>{_WIDTH}}\n".encode("ascii")


@contextmanager
def _logged(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        log.warning("history-lost", "%s: %s: starts and withdrawals are not counted", path, error.strerror)
