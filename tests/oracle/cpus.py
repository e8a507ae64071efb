"""Section 1: which of the host's CPUs a container has, and under which numbers it sees them."""

from __future__ import annotations

from tests.hosts.model import Container, Host


def cpuset(host: Host, container: Container) -> tuple[int, ...]:
    """S: the effective cpuset of the nearest level that has one, as far as those CPUs are online."""
    level = container.nearest("cpuset")
    granted = host.online if level is None or level.cpus is None else level.cpus
    return tuple(sorted(set(granted) & set(host.online)))


def quota(container: Container) -> float:
    """CPUs' worth of time: the least quota/period on the whole path; infinite where there is none."""
    return min(
        (
            level.cpu_quota_usec / level.cpu_period_usec
            for level in container.levels
            if "cpu" not in level.absent and level.cpu_quota_usec is not None
        ),
        default=float("inf"),
    )


def visible(host: Host, container: Container, *, cpus: str = "quota") -> tuple[int, ...]:
    """Host numbers of the visible CPUs 0..N-1. Without any CPU in S (a broken host) all online ones count."""
    usable = cpuset(host, container) or host.online
    if cpus == "cpuset":
        return usable
    count = len(usable)
    for level in container.levels:
        if "cpu" not in level.absent and level.cpu_quota_usec is not None:
            count = min(count, -(-level.cpu_quota_usec // level.cpu_period_usec))  # exact ceil, no floats
    return usable[: max(1, count)]
