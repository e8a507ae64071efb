"""Section 6: /proc/swaps."""

from __future__ import annotations

from tests.hosts.model import Container, Host, Layout
from tests.oracle.memory import swap_bytes

HEADER = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"


def swaps(host: Host, container: Container, layout: Layout, *, swap: bool = True) -> str:
    """The header, and one virtual line where there is any swap."""
    total, used = (number >> 10 for number in swap_bytes(host, container, layout, swap=swap))
    return HEADER + (swap_line("none", "virtual", total, used, 0) if total > 0 else "")


def swap_line(name: str, kind: str, total_kb: int, used_kb: int, priority: int) -> str:
    """As swap_show() in the kernel's mm/swapfile.c aligns it: tabs, one fewer after a number of eight digits."""
    # "partition" reaches the next tab stop by itself, "file" and "virtual" need one more tab

    def tab(number: int) -> str:
        return "\t\t" if number < 10_000_000 else "\t"

    return f"{name:<40}{kind}\t\t{total_kb}{tab(total_kb)}{used_kb}{tab(used_kb)}{priority}\n"
