"""A terminal for programs that draw on one: a pty, and what would be seen on it.

It knows the sequences that procview and rich send, and raises for any other, so that nothing is drawn in a way that
is not looked at here.
"""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

from tests.timing import patient

SECONDS = patient(30)
_SEQUENCE = re.compile(r"\x1b\[(?P<private>\??)(?P<numbers>[0-9;]*)(?P<final>[@-~])")


class Screen:
    """What is seen: ``lines`` of characters, and whether the alternate screen and the cursor are shown."""

    def __init__(self, columns: int, rows: int) -> None:
        self.is_alternate = False
        self.has_cursor = True
        self.said = ""
        """What was written on the ordinary screen, as it came."""
        self.raw = b""
        self.resize(columns, rows)

    def resize(self, columns: int, rows: int) -> None:
        self._columns, self._rows = columns, rows
        self._cells = [[" "] * columns for _ in range(rows)]
        self._at = (0, 0)

    @property
    def lines(self) -> list[str]:
        return ["".join(row).rstrip() for row in self._cells]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def feed(self, data: bytes) -> None:
        """What the program has written; whole sequences only."""
        self.raw += data
        text = data.decode()
        while text:
            if match := _SEQUENCE.match(text):
                self._act(match["private"], [int(word or 0) for word in match["numbers"].split(";")], match["final"])
                text = text[match.end() :]
                continue
            assert text[0] != "\x1b", repr(text[:20])
            if self.is_alternate:
                self._put(text[0])
            else:
                self.said += text[0]
            text = text[1:]

    def _put(self, character: str) -> None:
        assert character.isprintable(), repr(character)
        row, column = self._at
        assert column < self._columns, f"past the right edge: {self.lines[row]}"
        self._cells[row][column] = character
        self._at = row, column + 1

    def _act(self, private: str, numbers: list[int], final: str) -> None:
        row, column = self._at
        match private, numbers, final:
            case "?", [1049], "h" | "l":
                self.is_alternate = final == "h"
            case "?", [25], "h" | "l":
                self.has_cursor = final == "h"
            case "", [line, place], "H":
                self._at = line - 1, place - 1
            case "", [0], "K":
                self._cells[row][column:] = [" "] * (self._columns - column)
            case "", [0 | 2 as how], "J":
                if how == 0:
                    self._cells[row][column:] = [" "] * (self._columns - column)
                for below in range(row + 1 if how == 0 else 0, self._rows):
                    self._cells[below] = [" "] * self._columns
            case "", _, "m":
                pass
            case _:
                raise AssertionError(f"unknown sequence: {private!r} {numbers} {final!r}")


class Program:
    """A program on a terminal of its own, which is its controlling one."""

    def __init__(self, argv: Sequence[str], *, columns: int = 80, rows: int = 24, **environment: str) -> None:
        self.screen = Screen(columns, rows)
        self.ours, theirs = pty.openpty()
        self._size(columns, rows)
        self._theirs = theirs
        self.modes = termios.tcgetattr(theirs)
        """As they were before."""
        self.process = subprocess.Popen(
            argv, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
            env=without_size() | {"TERM": "xterm-256color"} | environment, preexec_fn=_control_terminal,
        )  # fmt: skip
        self._pending = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait(SECONDS)
        os.close(self.ours)
        os.close(self._theirs)

    def type(self, keys: str) -> None:
        os.write(self.ours, keys.encode())

    def resize(self, columns: int, rows: int) -> None:
        self.screen.resize(columns, rows)
        self._size(columns, rows)

    def shows(self, condition: Callable[[Screen], object], what: str) -> None:
        """Wait until the screen is as it should be."""
        deadline = time.monotonic() + SECONDS
        while not condition(self.screen):
            assert time.monotonic() < deadline, f"never shown: {what}\n{self.screen.text}\n---\n{self.screen.said}"
            self.read(0.1)

    def read(self, seconds: float) -> None:
        """Take what the program writes within ``seconds``, if it does."""
        if not select.select([self.ours], [], [], seconds)[0]:
            return
        data = self._pending + os.read(self.ours, 1 << 16)
        # What is cut in the middle of a sequence, or of a character, waits for its rest.
        cut = max(data.rfind(b"\x1b"), 0)
        whole = len(data) if _is_whole(data[cut:]) else cut
        self._pending = data[whole:]
        self.screen.feed(data[:whole])

    def ends(self) -> int:
        """Wait for its end, with all that it writes; its status."""
        deadline = time.monotonic() + SECONDS
        while self.process.poll() is None:
            assert time.monotonic() < deadline, self.screen.text
            self.read(0.05)
        while select.select([self.ours], [], [], 0)[0]:
            self.read(0)
        return self.process.returncode

    def modes_now(self) -> list[Any]:
        return termios.tcgetattr(self._theirs)

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def stopped(self) -> bool:
        """Whether it waits to be continued."""
        with open(f"/proc/{self.process.pid}/stat", encoding="utf-8") as file:
            return file.read().rpartition(")")[2].split()[0] == "T"

    def _size(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self.ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def without_size() -> dict[str, str]:
    """Our environment, but what it says of a terminal.

    To be handed on even where os.environ has none: readline, which pytest loads, puts the size into that of children.
    """
    return {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}


def output_of(argv: Sequence[str]) -> str:
    """All that a program writes on a terminal, as it comes, with whatever sequences; it must succeed."""
    with Program(argv) as program:
        raw = b""
        deadline = time.monotonic() + SECONDS
        while program.process.poll() is None or select.select([program.ours], [], [], 0)[0]:
            assert time.monotonic() < deadline, raw
            if select.select([program.ours], [], [], 0.05)[0]:
                raw += os.read(program.ours, 1 << 16)
        assert program.process.returncode == 0, raw
        return raw.decode()


def _is_whole(tail: bytes) -> bool:
    try:
        text = tail.decode()
    except UnicodeDecodeError:
        return False
    return not text.startswith("\x1b") or _SEQUENCE.match(text) is not None


def _control_terminal() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # where the tests run in the background
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
