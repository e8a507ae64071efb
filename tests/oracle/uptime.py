"""Section 4: /proc/uptime, from the same idle ticks that stat shows."""

from __future__ import annotations

from tests.hosts.model import NS_PER_TICK, USER_HZ, Container, Host


def age_ticks(host: Host, container: Container) -> int:
    """t: time since init started, from CLOCK_BOOTTIME."""
    return max(0, host.boottime_ns // NS_PER_TICK - container.start_ticks)


def uptime_ticks(host: Host, container: Container) -> int:
    """Field 1: t, or with a time namespace of its own, that namespace's CLOCK_BOOTTIME."""
    seconds, nanoseconds = container.boottime_offset
    if (seconds, nanoseconds) == (0, 0):
        return age_ticks(host, container)
    return max(0, (host.boottime_ns + seconds * 10**9 + nanoseconds) // NS_PER_TICK)


def uptime(host: Host, container: Container, idle_ticks: int) -> str:
    """The whole text; idle_ticks is the idle column of stat's line ``cpu``."""
    return f"{_seconds(uptime_ticks(host, container))} {_seconds(idle_ticks)}\n"


def _seconds(ticks: int) -> str:
    return f"{ticks // USER_HZ}.{ticks % USER_HZ:02d}"
