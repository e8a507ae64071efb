"""Sections 5 and 6: the sizes that meminfo and swaps share."""

from __future__ import annotations

from tests.hosts.build import meminfo_lines
from tests.hosts.model import V1_UNLIMITED_BYTES, Container, Host, Layout, Level


def host_value(host: Host, name: str) -> int:
    """A line of the host's meminfo (kB or a count), 0 where it has none."""
    return next((line.value for line in meminfo_lines(host) if line.name == name), 0)


def memory_levels(container: Container) -> list[Level]:
    return [level for level in container.levels if "memory" not in level.absent]


def memory_limit_bytes(container: Container) -> int | None:
    """The effective limit; None: unlimited, or no memory controller anywhere."""
    return min(
        (level.memory_max_bytes for level in memory_levels(container) if level.memory_max_bytes is not None),
        default=None,
    )


def mem_total_bytes(host: Host, container: Container) -> int:
    """T."""
    total = host_value(host, "MemTotal") << 10
    limit = memory_limit_bytes(container)
    return total if limit is None else min(total, limit)


def mem_free_bytes(host: Host, container: Container) -> int | None:
    """The least left at any level with a limit below the host's total; without one, what usage leaves; else None."""
    host_total = host_value(host, "MemTotal") << 10
    total = mem_total_bytes(host, container)
    left = [
        level.memory_max_bytes - level.memory_current_bytes
        for level in memory_levels(container)
        if level.memory_max_bytes is not None and level.memory_max_bytes < host_total
    ]
    if not left and (not container.levels or "memory" in container.level.absent):
        return None
    free = min(left) if left else total - container.level.memory_current_bytes
    return min(max(free, 0), total)


def swap_bytes(host: Host, container: Container, layout: Layout, *, swap: bool = True) -> tuple[int, int]:
    """(SwapTotal, used), used at most SwapTotal. Zeros without a swap controller or with the setting off."""
    levels = [level for level in memory_levels(container) if level.has_swap]
    if not swap or not levels or levels[-1] is not container.level:
        return 0, 0
    total = on_host = host_value(host, "SwapTotal") << 10
    if layout.is_v2:
        total = min([total, *(level.swap_max_bytes for level in levels if level.swap_max_bytes is not None)])
        used = container.level.swap_current_bytes
    else:
        memsw = min((level.memsw_max_bytes for level in levels if level.memsw_max_bytes is not None), default=None)
        memory = memory_limit_bytes(container)
        if memsw is not None:
            total = min(total, max(0, memsw - (V1_UNLIMITED_BYTES if memory is None else memory)))
        used = max(0, container.level.memsw_current_bytes - container.level.memory_current_bytes)
        if container.level.swappiness == 0:
            total = min(on_host, used)
    return total, min(used, total)
