"""Section 8: /proc/loadavg. The kernel's own fixed-point decay, one step every 5 seconds."""

from __future__ import annotations

from dataclasses import dataclass

from tests.hosts.model import Container

FSHIFT = 11
FIXED_1 = 1 << FSHIFT
EXP = (1884, 2014, 2037)
"""1/exp(5 s / 1, 5 and 15 min) in fixed point."""


def calc_load(load: int, exp: int, active: int) -> int:
    """One step towards ``active`` tasks, as in the kernel's include/linux/sched/loadavg.h."""
    active *= FIXED_1
    new = load * exp + active * (FIXED_1 - exp)
    if active >= load:
        new += FIXED_1 - 1
    return new // FIXED_1


def load_text(load: int) -> str:
    """Two decimals, rounded."""
    load += FIXED_1 // 200
    return f"{load >> FSHIFT}.{((load & (FIXED_1 - 1)) * 100) >> FSHIFT:02d}"


@dataclass
class Load:
    """The three averages of one container over a sequence of samples."""

    loads: tuple[int, int, int] = (0, 0, 0)

    def sample(self, container: Container) -> None:
        one, five, fifteen = (
            calc_load(load, exp, active(container)) for load, exp in zip(self.loads, EXP, strict=True)
        )
        self.loads = (one, five, fifteen)

    def text(self, container: Container, *, highest_ns_pid: int, total: int) -> str:
        averages = " ".join(map(load_text, self.loads))
        return f"{averages} {running(container)}/{total} {highest_ns_pid}\n"


def active(container: Container) -> int:
    """Threads that count: running or in uninterruptible sleep."""
    return sum(thread.state in "RD" for thread in container.threads)


def running(container: Container) -> int:
    return sum(thread.state == "R" for thread in container.threads)


def tasks(container: Container) -> int:
    """All threads: init, the caller and the others."""
    return 2 + len(container.threads)
