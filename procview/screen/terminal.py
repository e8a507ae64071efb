"""The terminal: keys one by one, the other screen, signals; and all of it as it was, however it ends.

A signal that ends us raises `EndedError` wherever we are, even in a write to a terminal that takes nothing; only once,
and never while the terminal is given back. What else is to be noticed comes as a byte in a pipe: signal.set_wakeup_fd.
"""

import codecs
import contextlib
import errno
import os
import select
import signal
import termios
import tty
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Any

_ENTER = b"\x1b[?1049h\x1b[?25l\x1b[2J"
"""The alternate screen, no cursor, empty."""
_LEAVE = b"\x1b[0m\x1b[?25h\x1b[?1049l"
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_NOTICED = (signal.SIGWINCH, signal.SIGTSTP, signal.SIGCONT)
_ESCAPE_SECONDS = 0.05
"""Within which the rest of a key's sequence follows its ESC; a lone one is the key Escape."""
NEWS = 0
"""The byte in the pipe that is no signal's: somebody has something for us."""

_SEQUENCES = {
    "[A": "up", "OA": "up", "[B": "down", "OB": "down", "[C": "right", "OC": "right", "[D": "left", "OD": "left",
    "[H": "home", "OH": "home", "[1~": "home", "[7~": "home", "[F": "end", "OF": "end", "[4~": "end", "[8~": "end",
    "[5~": "page-up", "[6~": "page-down",
}  # fmt: skip
_SINGLE = {"\r": "enter", "\n": "enter", "\x7f": "backspace", "\b": "backspace"}


class EndedError(BaseException):
    """A signal that ends us has come. No Exception, so that nobody takes it for a failure of his own."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Keys:
    """Takes apart what a terminal sends: characters as they are, other keys as words (``up``, ``escape``)."""

    def __init__(self, encoding: str = "utf-8") -> None:
        self._decoder = codecs.getincrementaldecoder(encoding)(errors="replace")
        self._rest = ""

    @property
    def is_in_sequence(self) -> bool:
        """Whether what has come may be the beginning of a key's sequence."""
        return bool(self._rest)

    def feed(self, data: bytes) -> list[str]:
        """The keys in ``data``."""
        text, keys = self._rest + self._decoder.decode(data), []
        self._rest = ""
        while text:
            if text[0] == "\x1b":
                length = _sequence_length(text)
                if length is None:
                    self._rest = text
                    break
                keys.append(_SEQUENCES.get(text[1:length], "unknown") if length > 1 else "escape")
                text = text[length:]
            else:
                keys.append(_SINGLE.get(text[0], text[0]))
                text = text[1:]
        return keys

    def nothing_more(self) -> list[str]:
        """The keys in what was held back, as nothing follows it."""
        rest, self._rest = self._rest, ""
        return ["escape"] if rest == "\x1b" else []


def _sequence_length(text: str) -> int | None:
    """How long the sequence that ``text`` begins with is; None while it may go on."""
    if len(text) == 1:
        return None
    if text[1] == "O":
        return 3 if len(text) > 2 else None
    if text[1] != "[":
        return 1
    for at in range(2, len(text)):
        if "@" <= text[at] <= "~":
            return at + 1
    return None


class Terminal:
    """Reads keys from ``keyboard`` and draws on ``screen``, two descriptors of a terminal.

    Its pipe stays open until the process ends: threads may tell us something at any time.
    """

    def __init__(self, keyboard: int, screen: int, encoding: str = "utf-8") -> None:
        self._keyboard = keyboard
        self._screen = screen
        self._encoding = encoding
        self._keys = Keys(encoding)
        self._news, self._told = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._shown: list[str] | None = None
        self._was: list[Any] = []
        self._is_ending = False

    @contextlib.contextmanager
    def taken(self) -> Iterator["Terminal"]:
        """The terminal is ours meanwhile. Raises OSError, termios.error, EndedError."""
        self._was = termios.tcgetattr(self._keyboard)
        handlers = {number: signal.getsignal(number) for number in (*_ENDING, *_NOTICED)}
        wakeup = signal.set_wakeup_fd(self._told, warn_on_full_buffer=False)
        try:
            try:
                for number in _ENDING:
                    if handlers[number] is not signal.SIG_IGN or number is signal.SIGINT:  # not under nohup
                        signal.signal(number, self._end)
                for number in _NOTICED:
                    signal.signal(number, _nothing)
                self._enter()
                yield self
            finally:
                self._is_ending = True
        finally:  # a signal that ends us has come before, or is not heeded any more
            self._leave()
            signal.set_wakeup_fd(wakeup)
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def tell(self) -> None:
        """From any thread: end the wait of :meth:`pressed`."""
        with contextlib.suppress(OSError):  # full: it ends anyway
            os.write(self._told, bytes([NEWS]))

    def size(self) -> tuple[int, int]:
        """Columns and lines; 80 by 24 where it does not say."""
        columns, lines = os.get_terminal_size(self._screen)
        return columns or 80, lines or 24

    def pressed(self) -> list[str]:
        """Wait for keys or for anything else to be noticed; the keys, if any. Raises EndedError when it is gone."""
        patience = _ESCAPE_SECONDS if self._keys.is_in_sequence else None
        ready, _, _ = select.select([self._keyboard, self._news], [], [], patience)
        if not ready:
            return self._keys.nothing_more()
        if self._news in ready:
            self._notice(os.read(self._news, 512))
        if self._keyboard not in ready:
            return []
        with _hang_up_ends():
            data = os.read(self._keyboard, 512)
        if not data:
            raise EndedError(signal.SIGHUP)
        return self._keys.feed(data)

    def draw(self, lines: Sequence[str]) -> None:
        """Show these lines, none wider than the screen; only those that have changed are sent."""
        before = self._shown
        out = [] if before is not None else ["\x1b[2J"]
        for at, line in enumerate(lines):
            if before is None or at >= len(before) or before[at] != line:
                out.append(f"\x1b[{at + 1};1H\x1b[0m\x1b[K{line}")
        if before is not None and len(before) > len(lines):
            out.append(f"\x1b[{len(lines) + 1};1H\x1b[0m\x1b[J")
        self._shown = list(lines)
        if out:
            self._write("".join(out).encode(self._encoding, "replace"))

    def _notice(self, numbers: bytes) -> None:
        if signal.SIGTSTP in numbers:
            self._leave()
            signal.signal(signal.SIGTSTP, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTSTP)
            signal.signal(signal.SIGTSTP, _nothing)
            self._enter()
        elif signal.SIGCONT in numbers:
            self._enter()  # whoever was in the foreground meanwhile has left it as he likes
        elif signal.SIGWINCH in numbers:
            self._shown = None

    def _enter(self) -> None:
        tty.setcbreak(self._keyboard, termios.TCSANOW)
        self._shown = None
        self._write(_ENTER)

    def _leave(self) -> None:
        with contextlib.suppress(OSError, EndedError, termios.error):  # it may be gone
            flowing = termios.tcgetattr(self._keyboard)
            flowing[0] &= ~termios.IXON  # lets the output go on that somebody has stopped by Ctrl-S
            termios.tcsetattr(self._keyboard, termios.TCSANOW, flowing)
            self._write(_LEAVE)
        with contextlib.suppress(OSError, termios.error):
            termios.tcsetattr(self._keyboard, termios.TCSANOW, self._was)

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        with _hang_up_ends():
            while rest:
                rest = rest[os.write(self._screen, rest) :]

    def _end(self, number: int, _frame: FrameType | None) -> None:
        if not self._is_ending:
            self._is_ending = True
            raise EndedError(number)


@contextlib.contextmanager
def _hang_up_ends() -> Iterator[None]:
    """A terminal that is gone is the end, as the signal is that may be still on its way."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        raise EndedError(signal.SIGHUP) from None


def _nothing(_number: int, _frame: FrameType | None) -> None:
    """The byte in the pipe says it."""
