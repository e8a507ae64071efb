"""The lines on top: the daemon, how many containers, how fast their reads are answered."""

import math

from rich.text import Text

from procview.amounts import UNKNOWN, bytes_text, count_text, percent_text, span_text
from procview.printable import printable
from procview.screen.controls import Controls, Sort
from procview.screen.rows import QUANTILE, Summary

_STATES = {"attached": "attached", "degraded": "degraded", "none": "without views"}


def head(daemon: Summary, controls: Controls, *, shown: int) -> list[Text]:
    """``shown`` containers pass the filter. Always as many lines."""
    lane = "lane" if daemon.has_lane else "no lane"
    first = Text.assemble(
        ("procview ", "bold"),
        (printable(daemon.version), "bold"),
        f"  up {span_text(daemon.up_seconds)}  pid {daemon.pid}  {lane}  {bytes_text(daemon.rss_bytes)}"
        f"  CPU {_with_sign(percent_text(daemon.cpu_share))}  {printable(daemon.mount)}",
    )
    second = Text(
        f"reads {count_text(daemon.reads)}, {count_text(daemon.reads_per_second)}/s, "
        f"{QUANTILE:.0%} of texts made {slow_text(daemon.slow_usec)}"
    )
    if daemon.fallbacks_per_second:
        second.append(f", {count_text(daemon.fallbacks_per_second)}/s got the host's file", style="yellow")
    third = Text(f"containers {sum(daemon.by_state.values())}")
    separator = ": "
    for state, word in _STATES.items():
        if number := daemon.by_state.get(state):
            third.append(separator)
            third.append(f"{number} {word}", style="bold red" if state == "degraded" else "")
            separator = ", "
    third.append(f"; by {controls.sort.value}")
    if controls.is_reversed:
        third.append(", z to a" if controls.sort is Sort.NAME else ", smallest first")
    if controls.wanted:
        third.append(f"; {shown} with '{printable(controls.wanted)}'", style="bold")
    for line in (first, second, third):
        line.no_wrap, line.overflow = True, "ellipsis"
    return [first, second, third]


def slow_text(usec: float | None) -> str:
    """How long a text took at most, in words."""
    if usec is None:
        return f"within {UNKNOWN}"
    if math.isinf(usec):
        return "in more than 100 ms"
    return f"within {usec:g} µs" if usec < 1000 else f"within {usec / 1000:g} ms"


def _with_sign(percent: str) -> str:
    return percent if percent == UNKNOWN else f"{percent}%"
