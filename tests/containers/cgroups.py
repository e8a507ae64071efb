"""Control groups of test containers, on hosts with cgroup v1, v2 or both."""

import contextlib
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.session import mounts
from tests.timing import patient

# What is made for a container that has no engine of its own to do it.
CONTROLLERS = ("memory", "cpuset", "cpu", "cpuacct", "blkio", "pids", "io")
UNIFIED = "unified"
"""Names the v2 hierarchy among the controllers; on hybrid hosts it has none."""
PERIOD_USEC = 100_000


@dataclass(frozen=True)
class Limits:
    """What a container may use; None is no limit, and in an update: as before."""

    memory_bytes: int | None = None
    swap_bytes: int | None = None
    """Swap on top of the memory."""
    cpuset: str | None = None
    cpus: float | None = None
    """CPU time per time: the quota divided by its period."""

    @property
    def quota_usec(self) -> int | None:
        return None if self.cpus is None else round(self.cpus * PERIOD_USEC)


@dataclass(frozen=True)
class Hierarchy:
    mount: Path
    root: str
    controllers: frozenset[str]
    is_v2: bool

    @property
    def names(self) -> frozenset[str]:
        return self.controllers | {UNIFIED} if self.is_v2 else self.controllers

    def directory(self, path: str) -> Path:
        """Where the cgroup with this path in /proc/PID/cgroup is."""
        return self.mount / path.removeprefix(self.root).lstrip("/")


def hierarchies() -> list[Hierarchy]:
    """Every mounted cgroup hierarchy; a controller is in one of them at most."""
    found = []
    for mount in mounts():
        if mount.kind == "cgroup2":
            names = (mount.point / "cgroup.controllers").read_text(encoding="ascii").split()
            found.append(Hierarchy(mount.point, mount.root, frozenset(names), is_v2=True))
        elif mount.kind == "cgroup":
            found.append(Hierarchy(mount.point, mount.root, mount.options & set(CONTROLLERS), is_v2=False))
    return found


def layout() -> Literal["v1", "v2", "hybrid", "none"]:
    """Hybrid is both: wherever the controllers are."""
    kinds = {hierarchy.is_v2 for hierarchy in hierarchies()}
    if not kinds:
        return "none"
    return "hybrid" if len(kinds) == 2 else "v2" if True in kinds else "v1"


def is_pure_v2() -> bool:
    return layout() == "v2"


def files_of(limits: Limits) -> list[tuple[str, str, str]]:
    """Which files have to hold what: controller, file, text."""
    return _files_v2(limits) if is_pure_v2() else _files_v1(limits)


def _files_v1(limits: Limits) -> list[tuple[str, str, str]]:
    files = []
    if limits.memory_bytes is not None:
        files.append(("memory", "memory.limit_in_bytes", str(limits.memory_bytes)))
        if limits.swap_bytes is not None:
            files.append(("memory", "memory.memsw.limit_in_bytes", str(limits.memory_bytes + limits.swap_bytes)))
    if limits.cpuset is not None:
        files.append(("cpuset", "cpuset.cpus", limits.cpuset))
    if limits.quota_usec is not None:
        files.append(("cpu", "cpu.cfs_period_us", str(PERIOD_USEC)))
        files.append(("cpu", "cpu.cfs_quota_us", str(limits.quota_usec)))
    return files


def _files_v2(limits: Limits) -> list[tuple[str, str, str]]:
    files = []
    if limits.memory_bytes is not None:
        files.append(("memory", "memory.max", str(limits.memory_bytes)))
    if limits.swap_bytes is not None:
        files.append(("memory", "memory.swap.max", str(limits.swap_bytes)))
    if limits.cpuset is not None:
        files.append(("cpuset", "cpuset.cpus", limits.cpuset))
    if limits.quota_usec is not None:
        files.append(("cpu", "cpu.max", f"{limits.quota_usec} {PERIOD_USEC}"))
    return files


@dataclass(frozen=True)
class Cgroup:
    """The cgroup of one container: a directory for each controller (and UNIFIED), all the same on v2."""

    directories: Mapping[str, Path]
    is_v2: bool

    @classmethod
    def of(cls, pid: int | str) -> "Cgroup":
        """The cgroup that a process is in."""
        paths: dict[frozenset[str], str] = {}
        for line in Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8").splitlines():
            _, names, path = line.split(":", 2)
            paths[frozenset(names.split(",")) - {""}] = path
        directories: dict[str, Path] = {}
        for hierarchy in hierarchies():
            for joined, path in paths.items():
                if (hierarchy.is_v2 and not joined) or joined & hierarchy.controllers:
                    directories |= dict.fromkeys(hierarchy.names, hierarchy.directory(path))
        return cls(directories, is_pure_v2())

    @classmethod
    def create(cls, name: str) -> "Cgroup":
        """A new cgroup: below our own on v1; below the root on v2, as ours has processes and cannot limit children."""
        directories: dict[str, Path] = {}
        own = cls.of("self")
        for hierarchy in hierarchies():
            wanted = hierarchy.names & {*CONTROLLERS, UNIFIED}
            if not wanted:
                continue
            parent = hierarchy.mount if is_pure_v2() else own.directories[min(wanted)]
            if hierarchy.is_v2:
                for controller in wanted & hierarchy.controllers:
                    with contextlib.suppress(OSError):
                        (parent / "cgroup.subtree_control").write_text(f"+{controller}", encoding="ascii")
            directory = parent / name
            directory.mkdir()
            if "cpuset" in wanted and not hierarchy.is_v2:
                for file in ("cpuset.cpus", "cpuset.mems"):  # empty at first, and then no process may enter
                    (directory / file).write_text((parent / file).read_text(encoding="ascii"), encoding="ascii")
            directories |= dict.fromkeys(wanted, directory)
        return cls(directories, is_pure_v2())

    def apply(self, limits: Limits) -> None:
        """Set the limits that are not None."""
        files = files_of(limits)
        refused = [
            (controller, file, text) for controller, file, text in files if not self._write(controller, file, text)
        ]
        # On v1 memory <= memory + swap must hold after each write: which one goes first depends on the direction.
        for controller, file, text in refused:
            (self.directories[controller] / file).write_text(text, encoding="ascii")

    def _write(self, controller: str, file: str, text: str) -> bool:
        try:
            (self.directories[controller] / file).write_text(text, encoding="ascii")
        except OSError:
            return False
        return True

    def entry_files(self) -> list[str]:
        """The files to write a pid into."""
        return sorted({f"{directory}/cgroup.procs" for directory in self.directories.values()})

    def processes(self) -> list[int]:
        """The pids in it."""
        files = [Path(file) for file in self.entry_files()]
        return sorted({int(pid) for file in files for pid in file.read_text(encoding="ascii").split()})

    def cpu_usage_usec(self) -> int:
        """User and system time as the kernel has counted them for this cgroup; on v1 by ticks."""
        if not self.is_v2:
            parts = [self.directories["cpuacct"] / f"cpuacct.usage_{part}" for part in ("user", "sys")]
            return sum(int(part.read_text(encoding="ascii")) for part in parts) // 1000
        stat = (self.directories["cpu"] / "cpu.stat").read_text(encoding="ascii").split()
        return int(stat[stat.index("usage_usec") + 1])

    def remove(self) -> None:
        """Remove the directories, which must be empty of processes; those may take a moment to go."""
        for directory in dict.fromkeys(self.directories.values()):
            deadline = time.monotonic() + patient(10)
            while directory.exists():
                try:
                    directory.rmdir()
                except OSError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.01)


def remove_trees(name: str) -> None:
    """Remove the cgroups called ``name`` below the roots of the hierarchies, with those in them; see Cgroup.remove."""
    trees = [hierarchy.mount / name for hierarchy in hierarchies()]
    below = (Path(folder) for tree in trees for folder, _, _ in os.walk(tree, topdown=False))
    Cgroup({str(path): path for path in below}, is_pure_v2()).remove()
