"""Section 3: /proc/stat, for as long as the set of CPUs stays the same.

shown = Stat().step(host, container, layout)     # one render; keeps what it showed, as counters never go back
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.hosts.build import HOST_CPU
from tests.hosts.model import NS_PER_TICK, USEC_PER_TICK, Container, Host, Layout
from tests.oracle.cpus import cpuset, visible
from tests.oracle.uptime import age_ticks

Columns = tuple[int, ...]
"""One CPU in ticks: user nice system idle iowait irq softirq steal guest guest_nice."""

IDLE = 3


def own(user: int, nice: int, system: int, idle: int, steal: int) -> Columns:
    """What a cgroup knows nothing of is 0."""
    return (user, nice, system, idle, 0, 0, 0, steal, 0, 0)


def share(total: int, count: int) -> list[int]:
    """Evenly, remainders to the lowest."""
    return [total // count + (number < total % count) for number in range(count)]


def busy_v2(container: Container, count: int) -> list[tuple[int, int, int]]:
    """(user, nice, system) in ticks: no numbers per CPU, so shares. The kernel's user_usec has nice_usec in it."""
    nice_usec = container.cpu.nice_usec or 0
    totals = (max(0, container.cpu.user_usec - nice_usec), nice_usec, container.cpu.system_usec)
    user, nice, system = (share(usec // USEC_PER_TICK, count) for usec in totals)
    return list(zip(user, nice, system, strict=True))


def busy_v1(host: Host, container: Container, count: int) -> list[tuple[int, int, int]]:
    """(user, nice, system) in ticks: CPU j of S counts for visible CPU (position of j in S) mod N.

    What was used on CPUs outside S (before the cpuset was changed) is shared.
    """
    usable = cpuset(host, container) or host.online
    sums = [[0, 0] for _ in range(count)]
    outside = [0, 0]
    for cpu, times in enumerate(container.cpu.per_cpu_ns):
        into = sums[usable.index(cpu) % count] if cpu in usable else outside
        for column in (0, 1):
            into[column] += times[column]
    for column in (0, 1):
        for number, extra in enumerate(share(outside[column], count)):
            sums[number][column] += extra
    return [(user // NS_PER_TICK, 0, system // NS_PER_TICK) for user, system in sums]


def raw(host: Host, container: Container, layout: Layout, count: int) -> list[Columns]:
    """The formula alone, for N CPUs. v1 without cpuacct: the host's lines of the CPUs behind the visible ones."""
    if not layout.is_v2 and "cpu" in container.level.absent:
        return [HOST_CPU] * count
    busy = busy_v2(container, count) if layout.is_v2 else busy_v1(host, container, count)
    age = age_ticks(host, container)
    # v2 has CPU time without the controller, but then no quota
    throttled_usec = 0 if "cpu" in container.level.absent else container.cpu.throttled_usec
    lines = []
    for (user, nice, system), stolen in zip(busy, share(throttled_usec // USEC_PER_TICK, count), strict=True):
        left = max(0, age - user - nice - system)
        steal = min(stolen, left)
        lines.append(own(user, nice, system, left - steal, steal))
    return lines


@dataclass
class Stat:
    """The counters of one container over a sequence of states with the same CPUs."""

    last: list[Columns] = field(default_factory=list)
    cpus: str = "quota"

    def step(self, host: Host, container: Container, layout: Layout) -> list[Columns]:
        now = raw(host, container, layout, len(visible(host, container, cpus=self.cpus)))
        self.last = [at_least(*pair) for pair in zip(now, self.last, strict=True)] if self.last else now
        return self.last


def at_least(new: Columns, old: Columns) -> Columns:
    """No column goes back."""
    return tuple(max(pair) for pair in zip(new, old, strict=True))


def total(lines: Iterable[Columns]) -> Columns:
    """The line ``cpu``: the exact sum."""
    return tuple(sum(column) for column in zip(*lines, strict=True))


def text(columns: Columns) -> str:
    return " ".join(map(str, columns))


def btimes(host: Host, container: Container) -> set[int]:
    """The host's boot as wall clock, moved with the time namespace (its boot is earlier by the offset).

    Two answers where the offset has a fraction of a second, as the host's own btime has lost its own.
    """
    seconds, nanoseconds = container.boottime_offset
    return {host.btime - seconds, host.btime - seconds - (nanoseconds > 0)}


def stat(host: Host, container: Container, lines: list[Columns], *, running: int = 1, blocked: int = 0) -> str:
    """The whole text around the CPU lines of a step."""
    has_pids = container.levels and "pids" not in container.level.absent
    texts = [f"cpu  {text(total(lines))}"]
    texts += [f"cpu{number} {text(line)}" for number, line in enumerate(lines)]
    texts += [
        "intr 0",
        "ctxt 0",
        f"btime {max(btimes(host, container))}",
        f"processes {container.pids_current if has_pids else host.processes}",
        f"procs_running {max(1, running)}",
        f"procs_blocked {blocked}",
        "softirq" + " 0" * host.softirq_columns,
    ]
    return "\n".join(texts) + "\n"
