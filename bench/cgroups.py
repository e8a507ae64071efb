"""The control groups of measured containers: children named procview-bench-<pid> in each hierarchy mounted here.

Touches only the groups it makes; on cgroup v2 it also enables controllers at the root where they are off, and undoes
that.
"""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

PERIOD_USEC = 100_000
CROWD_CONTROLLERS = frozenset({"cpu", "cpuacct", "cpuset", "memory", "pids", "blkio"})
V2_CONTROLLERS = ("cpu", "cpuset", "io", "memory", "pids")


@dataclass(frozen=True)
class Limits:
    """What the container is limited to.

    The quota equals the number of CPUs: the limit exists and every contender reads it, but it does not throttle the
    reader, since a throttled reader would measure the quota and not the file system.
    """

    memory_bytes: int
    cpus: tuple[int, ...]
    quota_cpus: float | None = None
    """Another quota than that, where nothing is timed."""

    @property
    def cpu_list(self) -> str:
        return ",".join(map(str, self.cpus))

    @property
    def quota_usec(self) -> int:
        return round(PERIOD_USEC * (self.quota_cpus or len(self.cpus)))


@dataclass(frozen=True)
class Hierarchy:
    mount_point: Path
    controllers: frozenset[str]
    unified: bool


def hierarchies(mountinfo: Path = Path("/proc/self/mountinfo")) -> list[Hierarchy]:
    found = []
    for line in mountinfo.read_text().splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        if kind in ("cgroup", "cgroup2"):
            names = frozenset(options.split(",")) if kind == "cgroup" else frozenset()
            found.append(Hierarchy(Path(before.split(" ")[4]), names, kind == "cgroup2"))
    return found


@contextmanager
def container_groups(limits: Limits, name: str = "") -> Iterator[list[Path]]:
    """The groups of one container, with its limits set; removed at the end, when its processes are gone.

    ``name`` tells several containers of one run apart.
    """
    made: list[Path] = []
    enabled: list[tuple[Path, str]] = []
    try:
        for hierarchy in hierarchies():
            if hierarchy.unified:
                enabled += _enable(hierarchy.mount_point)
            group = hierarchy.mount_point / f"procview-bench-{os.getpid()}{name}"
            group.mkdir()
            made.append(group)
            _limit(group, hierarchy, limits)
        yield made
    finally:
        for group in made:
            _remove(group)
        for root, controller in enabled:
            with suppress(OSError):  # in use by somebody else meanwhile
                (root / "cgroup.subtree_control").write_text(f"-{controller}")


@contextmanager
def crowd_groups(
    limits: Limits, children: Sequence[Limits], controllers: frozenset[str] = CROWD_CONTROLLERS
) -> Iterator[list[Path]]:
    """Groups with these limits, whose children n0, n1, ... are those of containers, with limits of their own, in the
    hierarchies that have one of these controllers (and in the unified one). All of them are removed at the end.
    """
    with container_groups(limits, "-crowd") as groups:
        places = {hierarchy.mount_point: hierarchy for hierarchy in hierarchies()}
        wanted = [group for group in groups if _has(places[group.parent], controllers)]
        made: list[Path] = []
        try:
            for group in wanted:
                hierarchy = places[group.parent]
                if hierarchy.unified:
                    _enable(group)
                for number, own in enumerate(children):
                    child = group / f"n{number}"
                    child.mkdir()
                    made.append(child)
                    _limit(child, hierarchy, own)
            yield wanted
        finally:
            for child in made:
                _remove(child)


def _has(hierarchy: Hierarchy, controllers: frozenset[str]) -> bool:
    return hierarchy.unified or bool(hierarchy.controllers & controllers)


def join(groups: list[Path]) -> None:
    """Put the calling process into the groups (between fork and exec)."""
    for group in groups:
        (group / "cgroup.procs").write_text("0")


def throttled_periods(groups: list[Path]) -> int:
    """How often the quota stopped the reader: not 0 means that the figures are suspect."""
    total = 0
    for group in groups:
        stat = group / "cpu.stat"
        if stat.exists():
            fields = dict(line.split() for line in stat.read_text().splitlines())
            total += int(fields.get("nr_throttled", 0))
    return total


def _enable(group: Path) -> list[tuple[Path, str]]:
    """Controllers that this call switched on for the children of a group of v2; those that cannot be on stay off."""
    there = (group / "cgroup.controllers").read_text().split()
    on = (group / "cgroup.subtree_control").read_text().split()
    enabled = []
    for name in V2_CONTROLLERS:
        if name in there and name not in on:
            with suppress(OSError):  # cpu, where processes have real-time priorities
                (group / "cgroup.subtree_control").write_text(f"+{name}")
                enabled.append((group, name))
    return enabled


def _limit(group: Path, hierarchy: Hierarchy, limits: Limits) -> None:
    if hierarchy.unified:
        _limit_v2(group, limits)
    else:
        _limit_v1(group, hierarchy.controllers, limits)


def _limit_v2(group: Path, limits: Limits) -> None:
    for name, value in (
        ("cpu.max", f"{limits.quota_usec} {PERIOD_USEC}"),
        ("cpuset.cpus", limits.cpu_list),
        ("memory.max", str(limits.memory_bytes)),
    ):
        # On a hybrid host the controller is in a hierarchy of its own, and the file is not here.
        if (group / name).exists():
            (group / name).write_text(value)


def _limit_v1(group: Path, controllers: frozenset[str], limits: Limits) -> None:
    if "cpuset" in controllers:
        (group / "cpuset.cpus").write_text(limits.cpu_list)
        (group / "cpuset.mems").write_text((group.parent / "cpuset.mems").read_text())
    if "cpu" in controllers:
        (group / "cpu.cfs_period_us").write_text(str(PERIOD_USEC))
        (group / "cpu.cfs_quota_us").write_text(str(limits.quota_usec))
    if "memory" in controllers:
        (group / "memory.limit_in_bytes").write_text(str(limits.memory_bytes))


def _remove(group: Path) -> None:
    # The kernel lets a group go a moment after its last process was reaped.
    deadline = time.monotonic() + 5
    while True:
        try:
            group.rmdir()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
