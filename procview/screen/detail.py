"""One container, its values beside the host's."""

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from procview.amounts import UNKNOWN, bytes_text, count_text, percent_text, span_text
from procview.printable import printable
from procview.screen.polls import PRESSURES, Host
from procview.screen.rows import Row


def detail(row: Row | None, host: Host) -> RenderableType:
    """None: it has ended."""
    if row is None:
        return Text("this container has ended", style="bold")
    state = Text(printable(row.state), style="bold red" if row.is_degraded else "bold")
    if row.why:
        state.append(f": {printable(row.why)}")
    facts = Table(box=None, show_header=False, padding=(0, 1, 0, 0), pad_edge=False)
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="fold")
    facts.add_row("container", Text(printable(row.name), style="bold"))
    facts.add_row("init", Text(f"{row.pid}, {printable(row.command)}"))
    facts.add_row("cgroup", Text(UNKNOWN if row.cgroup is None else printable(row.cgroup)))
    facts.add_row("state", state)
    values = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    values.add_column("", no_wrap=True, style="bold")
    values.add_column("container", no_wrap=True, overflow="ellipsis")
    values.add_column("host", no_wrap=True, overflow="ellipsis")
    for title, inside, outside in _values(row, host):
        values.add_row(Text(title), Text(inside), Text(outside))
    return Group(facts, Text(), values)


def _values(row: Row, host: Host) -> Iterator[tuple[str, str, str]]:
    yield "CPUs", count_text(row.cpus), count_text(host.cpus)
    yield "CPU quota", _cpus(row.cpu_quota), UNKNOWN
    yield "CPUs in use", _used(row.cpu_used, row.cpu_limit), _used(host.cpu_used, host.cpus)
    if row.throttled_share is not None:
        waited = span_text(None if row.throttled_usec is None else row.throttled_usec / 1e6)
        yield "throttled", f"{percent_text(row.throttled_share)}% of periods; {waited} in all", UNKNOWN
    yield "memory", bytes_text(row.memory_total_bytes), bytes_text(host.memory_total_bytes)
    host_used = _less(host.memory_total_bytes, host.memory_available_bytes)
    yield (
        "memory in use",
        _of(row.memory_used_bytes, row.memory_total_bytes),
        _of(host_used, host.memory_total_bytes),
    )
    yield "memory available", bytes_text(row.memory_available_bytes), bytes_text(host.memory_available_bytes)
    yield "swap", bytes_text(row.swap_total_bytes), bytes_text(host.swap_total_bytes)
    yield "swap in use", bytes_text(row.swap_used_bytes), bytes_text(host.swap_used_bytes)
    yield "load, 1 5 15 min", _loads(row.load_averages), _loads(host.load_averages)
    for at, kind in enumerate(PRESSURES):
        yield f"pressure, {kind}", _percent(row.pressure_percent[at]), _percent(host.pressure_percent[at])
    yield "up", span_text(row.up_seconds), span_text(host.up_seconds)
    yield "reads of views", f"{count_text(row.reads)}, {count_text(row.reads_per_second)}/s", UNKNOWN


def _cpus(cpus: float | None) -> str:
    return UNKNOWN if cpus is None else f"{cpus:.2f}"


def _used(used: float | None, limit: float | None) -> str:
    if used is None or not limit:
        return UNKNOWN
    return f"{used:.2f} ({percent_text(used / limit)}%)"


def _of(used: float | None, total: float | None) -> str:
    if used is None or not total:
        return UNKNOWN
    return f"{bytes_text(used)} ({percent_text(used / total)}%)"


def _less(whole: float | None, part: float | None) -> float | None:
    return None if whole is None or part is None else whole - part


def _loads(loads: tuple[float, ...] | None) -> str:
    return UNKNOWN if loads is None else " ".join(f"{load:.2f}" for load in loads)


def _percent(percent: float | None) -> str:
    return UNKNOWN if percent is None else f"{percent:.2f}%"
