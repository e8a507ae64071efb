"""The table of containers, as many columns of it as there is room for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from procview.amounts import bytes_text, count_text, percent_text
from procview.printable import printable
from procview.screen.controls import Sort
from procview.screen.rows import Row

NARROWEST_NAME = 12
"""So many characters of a name come before further columns: short ids are that long."""
_FULL, _NEARLY_FULL = 0.95, 0.8


@dataclass(frozen=True, slots=True)
class Column:
    """``rank``: the one with the highest goes first where there is no room."""

    title: str
    width: int
    rank: int
    text: Callable[[Row], str]
    style: Callable[[Row], str] = lambda _: ""
    sort: Sort | None = None
    """The order that goes by it."""


def _alarm(share: float | None) -> str:
    if share is None or share < _NEARLY_FULL:
        return ""
    return "bold red" if share >= _FULL else "yellow"


def _pressure_column(title: str, at: int, rank: int) -> Column:
    def percent(row: Row) -> float | None:
        return row.pressure_percent[at]

    def text(row: Row) -> str:
        return percent_text(None if percent(row) is None else (percent(row) or 0.0) / 100)

    return Column(title, 4, rank, text, lambda row: "yellow" if (percent(row) or 0.0) >= 10 else "", Sort.PRESSURE)


COLUMNS = (
    Column("CPU%", 5, 0, lambda row: percent_text(row.cpu_share), lambda row: _alarm(row.cpu_share), Sort.CPU),
    Column("CPUS", 4, 4, lambda row: _cpus(row.cpu_limit)),
    Column("THR%", 4, 6, lambda row: percent_text(row.throttled_share),
           lambda row: "yellow" if row.throttled_share else "", Sort.THROTTLING),
    Column("MEM%", 4, 1, lambda row: percent_text(row.memory_share), lambda row: _alarm(row.memory_share), Sort.MEMORY),
    Column("USED", 5, 2, lambda row: bytes_text(row.memory_used_bytes)),
    Column("LIMIT", 5, 3, lambda row: bytes_text(row.memory_total_bytes)),
    Column("SWAP", 5, 9, lambda row: bytes_text(row.swap_used_bytes), sort=Sort.SWAP),
    _pressure_column("PCPU", 0, 10),
    _pressure_column("PMEM", 1, 8),
    _pressure_column("PIO", 2, 11),
    Column("LOAD", 5, 7, lambda row: "-" if row.load is None else f"{row.load:.2f}"[:5].rstrip("."), sort=Sort.LOAD),
    Column("RD/S", 5, 5, lambda row: count_text(row.reads_per_second), sort=Sort.READS),
)  # fmt: skip


def fitting(width: int) -> list[Column]:
    """The columns for which there is room beside a name, in ``width`` characters."""
    kept = sorted(COLUMNS, key=lambda column: column.rank)
    while kept and _needed(kept) > width:
        kept.pop()
    return [column for column in COLUMNS if column in kept]


def natural_width(rows: Sequence[Row]) -> int:
    """What all columns and whole names take."""
    longest = max((cell_len(printable(row.name)) for row in rows), default=0)
    return _needed(COLUMNS) + max(0, longest - NARROWEST_NAME)


def table(rows: Sequence[Row], sort: Sort, width: int, selected: int | None = None) -> Table:
    """``selected`` is the place of one of ``rows``."""
    columns = fitting(width)
    longest = max((cell_len(printable(row.name)) for row in rows), default=0)
    name_width = min(max(longest, NARROWEST_NAME), max(1, width - _needed(columns) + NARROWEST_NAME))
    drawn = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False, header_style="bold")
    drawn.add_column("", width=1, no_wrap=True)
    drawn.add_column(_title("NAME", sort is Sort.NAME), width=name_width, no_wrap=True, overflow="ellipsis")
    for column in columns:
        title = _title(column.title, column.sort is sort)
        drawn.add_column(title, width=column.width, no_wrap=True, justify="right", overflow="crop")
    for at, row in enumerate(rows):
        cells = [Text(column.text(row), style=column.style(row)) for column in columns]
        name = Text(printable(row.name), style="bold red" if row.is_degraded else "")
        drawn.add_row(Text(_FLAGS.get(row.state, "?")), name, *cells, style="reverse" if at == selected else "")
    return drawn


_FLAGS = {"attached": " ", "degraded": "!", "none": "-"}


def _needed(columns: Sequence[Column]) -> int:
    return 2 + NARROWEST_NAME + sum(column.width + 1 for column in columns)


def _title(title: str, is_sorted: bool) -> Text:
    return Text(title, style="bold underline" if is_sorted else "bold")


def _cpus(cpus: float | None) -> str:
    if cpus is None:
        return "-"
    return f"{cpus:.0f}" if cpus == int(cpus) or cpus >= 100 else f"{cpus:.2f}"[:4]
