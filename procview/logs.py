"""Log lines on stderr: with journal priorities under systemd, and at a bounded rate.

What a container can cause again and again carries ``extra={"event": "..."}``; each event has a token bucket, and what
it holds back is counted in the next line that gets through. Lines without an event (start, stop, reload) always pass.
"""

import logging
import os
import sys
import time
from collections.abc import Callable

BURST = 5
"""Lines of one event that may come at once."""
REFILL_SECONDS = 10.0
"""One more line of an event is allowed after each of these."""

_FOREIGN = ("pyfuse3", "trio")
"""Loggers that are not ours and name no event: one bucket each."""

_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (logging.NOTSET, 7))


class BoundedRate(logging.Filter):
    """Holds back records of an event beyond its token bucket. Events are words of the code, so the table is small."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._buckets: dict[str, tuple[float, float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        event = getattr(record, "event", None)
        if event is None:
            event = record.name.partition(".")[0]
            if event not in _FOREIGN:
                return True
        now = self._clock()
        tokens, then, held_back = self._buckets.get(event, (float(BURST), now, 0))
        tokens = min(float(BURST), tokens + (now - then) / REFILL_SECONDS)
        if tokens < 1:
            self._buckets[event] = (tokens, now, held_back + 1)
            return False
        self._buckets[event] = (tokens - 1, now, 0)
        if held_back:
            record.msg = f"{record.getMessage()} ({held_back} more suppressed)"
            record.args = None
        return True


class _Formatter(logging.Formatter):
    """One record, one journal entry's worth of lines; each line gets ``<N>`` when the journal reads stderr."""

    def __init__(self, journal: bool) -> None:
        super().__init__("procview: %(message)s" if not journal else "%(message)s")
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        if not self._journal:
            return text
        priority = next(number for level, number in _PRIORITIES if record.levelno >= level)
        return "\n".join(f"<{priority}>{line}" for line in text.splitlines())


def set_up(level: str) -> None:
    """Send all logging to stderr from ``level`` (a word of the setting ``log_level``) on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter(_stderr_is_journal()))
    handler.addFilter(BoundedRate())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    set_level(level)


def set_level(level: str) -> None:
    """Change the level of a running program."""
    logging.getLogger().setLevel(level.upper())


def _stderr_is_journal() -> bool:
    """Whether stderr is the stream JOURNAL_STREAM names (device:inode); a child's redirected stderr is not."""
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        stat = os.fstat(sys.stderr.fileno())
        return (int(device), int(inode)) == (stat.st_dev, stat.st_ino)
    except (OSError, ValueError):
        return False
