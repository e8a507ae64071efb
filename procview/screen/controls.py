"""What keys change: order, filter, the selected container, the page. Draws nothing, knows no terminal."""

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from procview.screen.rows import Row


class Sort(enum.Enum):
    """By what rows are sorted. Numbers: the largest first, and what is not known last."""

    CPU = "cpu"
    MEMORY = "memory"
    SWAP = "swap"
    THROTTLING = "throttling"
    PRESSURE = "pressure"
    LOAD = "load"
    READS = "reads"
    NAME = "name"


SORT_KEYS = {sort.value[0]: sort for sort in Sort}
"""The key that chooses each: its first letter."""

_NUMBERS: dict[Sort, Callable[[Row], float | None]] = {
    Sort.CPU: lambda row: row.cpu_share,
    Sort.MEMORY: lambda row: row.memory_share,
    Sort.SWAP: lambda row: row.swap_used_bytes,
    Sort.THROTTLING: lambda row: row.throttled_share,
    Sort.PRESSURE: lambda row: row.pressure,
    Sort.LOAD: lambda row: row.load,
    Sort.READS: lambda row: row.reads_per_second,
}

_MOST_TYPED = 100
_PAGE_ROWS = 10


class Page(enum.Enum):
    """What is on the screen."""

    TABLE = enum.auto()
    DETAIL = enum.auto()
    HELP = enum.auto()


@dataclass
class Controls:
    """The state of one screen."""

    sort: Sort = Sort.CPU
    is_reversed: bool = False
    filter: str = ""
    typed: str | None = None
    """What stands in the line of the filter while that is typed."""
    selected: int = 0
    """Its pid namespace; 0: none yet."""
    page: Page = Page.TABLE
    has_ended: bool = False

    @property
    def wanted(self) -> str:
        """The filter, as it is typed."""
        return self.filter if self.typed is None else self.typed

    def arranged(self, rows: Sequence[Row]) -> list[Row]:
        """Those that pass the filter, in their order: degraded ones first, whatever the order."""
        wanted = self.wanted.casefold()
        passed = [row for row in rows if any(wanted in text.casefold() for text in _texts(row))]
        passed.sort(key=lambda row: (row.name.casefold(), row.pid), reverse=self.sort is Sort.NAME and self.is_reversed)
        if self.sort is not Sort.NAME:
            number, sign = _NUMBERS[self.sort], 1 if self.is_reversed else -1
            passed.sort(key=lambda row: sign * (number(row) or 0.0))
            passed.sort(key=lambda row: number(row) is None)
        passed.sort(key=lambda row: not row.is_degraded)
        return passed

    def place(self, arranged: Sequence[Row]) -> int:
        """Where the selected one is in ``arranged``; 0 if it is not there."""
        return next((at for at, row in enumerate(arranged) if row.pid_namespace == self.selected), 0)

    def press(self, key: str, rows: Sequence[Row]) -> None:
        """A key as procview.screen.terminal names it: a character, or a word."""
        if self.typed is not None:
            self._type(key)
        elif key == "q":
            self.has_ended = True
        elif self.page is not Page.TABLE:
            if key in ("escape", "enter", "h", "?", "left", "backspace"):
                self.page = Page.TABLE
            elif key in ("up", "down"):
                self._move(key, rows)
        elif key in ("h", "?"):
            self.page = Page.HELP
        elif key == "/":
            self.typed = self.filter
        elif key == "escape":
            self.filter = ""
        elif key in SORT_KEYS:
            self.is_reversed = SORT_KEYS[key] is self.sort and not self.is_reversed
            self.sort = SORT_KEYS[key]
        else:
            self._move(key, rows)

    def _type(self, key: str) -> None:
        assert self.typed is not None
        if key == "enter":
            self.filter, self.typed = self.typed, None
        elif key == "escape":
            self.typed = None
        elif key == "backspace":
            self.typed = self.typed[:-1]
        elif len(key) == 1 and key.isprintable() and len(self.typed) < _MOST_TYPED:
            self.typed += key

    def _move(self, key: str, rows: Sequence[Row]) -> None:
        arranged = self.arranged(rows)
        if not arranged:
            return
        last = len(arranged) - 1
        steps = {"up": -1, "down": 1, "page-up": -_PAGE_ROWS, "page-down": _PAGE_ROWS, "home": -last, "end": last}
        at = min(max(self.place(arranged) + steps.get(key, 0), 0), last)
        if key in steps or key == "enter":
            self.selected = arranged[at].pid_namespace
        if key == "enter":
            self.page = Page.DETAIL


def _texts(row: Row) -> tuple[str, ...]:
    return row.name, row.command, row.state, row.cgroup or "", str(row.pid)
