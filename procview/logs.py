"""Log lines on stderr: one event each with its stable id, with journal priorities under systemd, at a bounded rate.

docs/operations.md says of each id what has happened and what to do. What a container can cause again and again has a
token bucket, and what that holds back is counted in the next line that gets through; other lines always pass.
"""

import json
import logging
import os
import sys
import time
from collections.abc import Callable

from procview.printable import printable

BURST = 5
"""Lines of one event that may come at once."""
REFILL_SECONDS = 10.0
"""One more line of an event is allowed after each of these."""
VARIABLE = "PROCVIEW_LOG_FORMAT"
"""Of the environment, and no setting: it counts from the first line on, which may be about the configuration, and for
every process that one starts (a daemon, its guard, its successor)."""
FORMATS = ("text", "json")

_BOUNDED = frozenset(
    {
        "annotation-refused",
        "control-accept-failed",
        "control-asked",
        "control-failed",
        "descriptor-refused",
        "fallback",
        "hook-message-refused",
        "hooked",
        "library",
        "manager-lost",
        "message-refused",
        "open-files-refused",
        "relay-refused",
        "request-failed",
        "request-unexpected",
        "sampling-failed",
        "watchdog-not-fed",
    }
)
_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (logging.NOTSET, 7))


class Log:
    """What a module logs with. ``event`` is the id of the line: words with hyphens between them."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def info(self, event: str, text: str, *arguments: object) -> None:
        """Something went as it should."""
        self._logger.info(text, *arguments, extra={"event": event})

    def warning(self, event: str, text: str, *arguments: object, reason: str | None = None) -> None:
        """Something went wrong, and what follows is bounded; lines of each ``reason`` are counted apart."""
        self._logger.warning(text, *arguments, extra={"event": event, "reason": reason})

    def error(self, event: str, text: str, *arguments: object, with_traceback: bool = False) -> None:
        """Somebody should do something."""
        self._logger.error(text, *arguments, exc_info=with_traceback, extra={"event": event})

    def exception(self, event: str, text: str, *arguments: object) -> None:
        """A mistake of procview: with the traceback of the exception in hand."""
        self.error(event, text, *arguments, with_traceback=True)


class BoundedRate(logging.Filter):
    """Holds back records of an event beyond its token bucket. Ids and reasons are words of the code, so the table is
    small.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._buckets: dict[tuple[str, str | None], tuple[float, float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        event = _event(record)
        if event not in _BOUNDED:
            return True
        # Loggers that are not ours: one bucket each.
        which = event, record.name.partition(".")[0] if event == "library" else getattr(record, "reason", None)
        now = self._clock()
        tokens, then, held_back = self._buckets.get(which, (float(BURST), now, 0))
        tokens = min(float(BURST), tokens + (now - then) / REFILL_SECONDS)
        if tokens < 1:
            self._buckets[which] = (tokens, now, held_back + 1)
            return False
        self._buckets[which] = (tokens - 1, now, 0)
        record.suppressed = held_back
        return True


def _event(record: logging.LogRecord) -> str:
    """The record's id; pyfuse3's and trio's have none of their own."""
    return getattr(record, "event", "library")


class _Text(logging.Formatter):
    """A line for people; a traceback follows in lines of its own."""

    def __init__(self, journal: bool) -> None:
        super().__init__()
        self._start = "" if journal else "procview: "

    def format(self, record: logging.LogRecord) -> str:
        text = f"{self._start}{printable(record.getMessage())} [{_event(record)}]"
        if suppressed := getattr(record, "suppressed", 0):
            text += f" ({suppressed} more suppressed)"
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return text


class _Json(logging.Formatter):
    """One object in one line."""

    def format(self, record: logging.LogRecord) -> str:
        second, microseconds = divmod(int(record.created * 1_000_000), 1_000_000)
        fields: dict[str, object] = {
            # Without datetime, which the guard and the supervisor would import for this alone.
            "time": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(second))}.{microseconds:06}+00:00",
            "level": record.levelname.lower(),
            "event": _event(record),
            "message": record.getMessage(),
            "pid": record.process,
        }
        if reason := getattr(record, "reason", None):
            fields["reason"] = reason
        if suppressed := getattr(record, "suppressed", 0):
            fields["suppressed"] = suppressed
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return json.dumps(fields)


class _Journal(logging.Formatter):
    """Another's lines, each with the ``<N>`` in front that the journal takes for its priority (sd-daemon(3))."""

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        priority = next(number for level, number in _PRIORITIES if record.levelno >= level)
        return "\n".join(f"<{priority}>{line}" for line in self._inner.format(record).splitlines())


def set_up(level: str) -> None:
    """Send all logging to stderr from ``level`` (a word of the setting ``log_level``) on, as VARIABLE says.

    Ends the program if VARIABLE is neither of FORMATS.
    """
    wanted = os.environ.get(VARIABLE, "text")
    if wanted not in FORMATS:
        raise SystemExit(f"procview: {VARIABLE}={wanted!r:.80} is not allowed; it must be {' or '.join(FORMATS)}")
    journal = _stderr_is_journal()
    formatter = _Json() if wanted == "json" else _Text(journal)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Journal(formatter) if journal else formatter)
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
