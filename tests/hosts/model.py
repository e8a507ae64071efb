"""A host and its containers as values: what tests.hosts.build writes as files and tests.oracle computes with.

Nothing here touches a file. Units are in the names; ``None`` for a limit means unlimited, and a controller named in
``Level.absent`` has no files at that level: absent, unlimited and zero are three different things.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Literal

USER_HZ = 100
NS_PER_TICK = 10**9 // USER_HZ
USEC_PER_TICK = 10**6 // USER_HZ
PAGE_BYTES = 4096
V1_UNLIMITED_BYTES = (2**63 - 1) // PAGE_BYTES * PAGE_BYTES
"""PAGE_COUNTER_MAX in bytes: what v1 prints where there is no limit."""

CONTROLLERS = ("cpu", "cpuset", "memory", "io", "pids", "hugetlb")
"""By their v2 names. On v1 ``cpu`` stands for cpu and cpuacct, ``io`` for blkio."""


class Layout(StrEnum):
    """How the host mounts its cgroups."""

    V2 = "v2"
    V1 = "v1"
    HYBRID = "hybrid"
    """v1 controllers beside an almost empty v2 tree at /sys/fs/cgroup/unified."""

    @property
    def is_v2(self) -> bool:
        return self is Layout.V2


@dataclass(frozen=True)
class MeminfoLine:
    """One line of the host's /proc/meminfo; ``unit`` is ``kB`` or empty (the HugePages counts)."""

    name: str
    value: int
    unit: str = "kB"

    @property
    def text(self) -> str:
        """As the kernel prints it: 16 columns of name and a value of at least 8, or 19 and 5 for the counts."""
        name_width, value_width = (16, 8) if self.unit else (19, 5)
        return f"{self.name + ':':<{name_width}}{self.value:>{value_width}}{' ' + self.unit if self.unit else ''}\n"


@dataclass(frozen=True)
class Partition:
    """One partition of a disk: its number follows the disk's minor."""

    name: str
    minor: int
    size_sectors: int


@dataclass(frozen=True)
class Disk:
    """A whole block device of the host. A device mapper or loop device is one as well."""

    name: str
    major: int
    minor: int
    size_sectors: int
    partitions: tuple[Partition, ...] = ()
    sysfs_dir: str = "pci0000:00/0000:00:02.0/virtio1/block"
    """Where below sys/devices its folder is."""
    stacked_as: Literal["", "dm", "md"] = ""
    """Of the device mapper or a RAID: what is done on it is done on the disks below, too."""


@dataclass(frozen=True)
class MemoryNode:
    """One NUMA node of the host."""

    number: int
    cpus: tuple[int, ...]
    total_kb: int
    """0: it has CPUs only."""

    def distance(self, other: MemoryNode) -> int:
        return 10 if self.number == other.number else 20 + abs(self.number - other.number)


@dataclass(frozen=True)
class Host:
    """What one kernel knows, whoever asks."""

    online: tuple[int, ...] = (0, 1)
    present: tuple[int, ...] | None = None
    """None: the same CPUs as are online."""
    possible: tuple[int, ...] | None = None
    """None: the same CPUs as are present."""
    kernel_max: int = 8191
    packages: int = 1
    """Sockets; the possible CPUs are shared out among them in blocks, two threads to a core."""
    has_online_file: bool = True
    """Whether cpuN/online exists (with CPU hotplug, and then rarely for cpu0)."""
    has_cpu_folders: bool = True
    """False leaves out sys/devices/system/cpu/cpuN: hundreds of files that most tests do not look at."""
    nodes: tuple[MemoryNode, ...] = ()
    """Empty: a kernel without NUMA."""
    meminfo: tuple[MeminfoLine, ...] = ()
    """Empty: tests.hosts.build makes one of 16 GB up."""
    vmstat: tuple[tuple[str, int], ...] = ()
    """Empty: tests.hosts.build makes one, of Linux 6.18."""
    transparent_huge_page_bytes: int | None = 2 << 20
    """None: the kernel has none."""
    swap_total_kb: int = 0
    swap_free_kb: int = 0
    overcommit_ratio: int = 50
    huge_page_kb: int = 2048
    more_huge_pages: tuple[tuple[int, int], ...] = ()
    """Further sizes: kB, and how many pages there are."""
    disks: tuple[Disk, ...] = ()
    diskstats_columns: int = 17
    """Numbers after the name: 11 before Linux 4.18, 15 before 5.5, 17 since."""
    boottime_ns: int = 1_000_000 * 10**9
    btime: int = 1_700_000_000
    processes: int = 4321
    loadavg: str = "0.46 0.15 0.05 3/87 4480\n"
    softirq_columns: int = 11
    mounts: tuple[str, ...] = ()
    """Further lines of the host's own mountinfo, after its cgroups."""

    @property
    def present_cpus(self) -> tuple[int, ...]:
        return self.online if self.present is None else self.present

    @property
    def possible_cpus(self) -> tuple[int, ...]:
        return self.present_cpus if self.possible is None else self.possible

    def package_of(self, cpu: int) -> int:
        return cpu * self.packages // (max(self.possible_cpus) + 1)

    def meminfo_value(self, name: str) -> int:
        """The value of a line (kB or a count). Raises KeyError where the host has no such line."""
        for line in self.meminfo:
            if line.name == name:
                return line.value
        raise KeyError(name)


@dataclass(frozen=True)
class HugePages:
    """One size of the hugetlb controller at one level, in bytes."""

    max_bytes: int | None = None
    current_bytes: int = 0
    rsvd_max_bytes: int | None = None
    rsvd_current_bytes: int = 0


@dataclass(frozen=True)
class Level:
    """One cgroup on the way from the root (not included) down to the container's: its limits and its usage."""

    name: str
    absent: frozenset[str] = frozenset()
    """Controllers (by v2 name) that are not enabled here: no files."""
    memory_max_bytes: int | None = None
    memory_current_bytes: int = 0
    swap_max_bytes: int | None = None
    """v2 only."""
    swap_current_bytes: int = 0
    """v2 only."""
    memsw_max_bytes: int | None = None
    """v1 only: memory and swap together."""
    memsw_current_bytes: int = 0
    """v1 only."""
    has_swap: bool = True
    """Whether the kernel counts swap (v2 memory.swap.*, v1 memory.memsw.*)."""
    swappiness: int = 60
    """v1 only."""
    cpu_quota_usec: int | None = None
    cpu_period_usec: int = 100_000
    cpus: tuple[int, ...] | None = None
    """The effective cpuset; None: all online CPUs of the host."""
    mems: tuple[int, ...] | None = None
    """The effective memory nodes; None: all that the host has."""
    huge_pages: HugePages | None = None
    """For the host's default size; None: no files."""
    more_huge_pages: Mapping[int, HugePages] = field(default_factory=dict)
    """By size in kB, for the host's further sizes."""

    def huge_pages_of(self, kb: int, host: Host) -> HugePages | None:
        """None: no files of this size."""
        if "hugetlb" in self.absent:
            return None
        return self.huge_pages if kb == host.huge_page_kb else self.more_huge_pages.get(kb)


@dataclass(frozen=True)
class CpuTimes:
    """CPU time of the container since its cgroup was made."""

    user_usec: int = 0
    """v2: as cpu.stat prints it; the kernel counts nice time in it as well."""
    nice_usec: int | None = None
    """v2: None where the kernel does not print it (before 6.12)."""
    system_usec: int = 0
    throttled_usec: int = 0
    """v1 prints it in nanoseconds, as throttled_time."""
    per_cpu_ns: tuple[tuple[int, int], ...] = ()
    """v1: (user, system) of each possible CPU of the host, from CPU 0."""


@dataclass(frozen=True)
class DeviceIo:
    """What the cgroup has done on one device."""

    major: int
    minor: int
    rbytes: int = 0
    wbytes: int = 0
    rios: int = 0
    wios: int = 0
    dbytes: int = 0
    dios: int = 0


@dataclass(frozen=True)
class Thread:
    """A task of the container as the host sees it, and under which number the container sees it."""

    tid: int
    ns_tid: int
    state: str = "S"
    tgid: int | None = None
    """None: it leads its own process."""
    below: str = ""
    """The cgroup it sits in, as a path below the container's."""


@dataclass(frozen=True)
class DeviceNode:
    """A device node in the container's /dev."""

    name: str
    major: int
    minor: int
    kind: str = "b"


@dataclass(frozen=True)
class Container:
    """One container: its first process, its cgroups and what they say."""

    levels: tuple[Level, ...]
    """From just below the root down to the container's own cgroup R."""
    init_pid: int = 1000
    pid: int = 1001
    """A process of the container that is not its init; it is the caller in most tests."""
    comm: str = "sh"
    start_ticks: int = 1_000
    pidns: int = 4_026_532_500
    cgroupns: int | None = None
    """None: shares the host's cgroup namespace."""
    cgroupns_root_levels: int | None = None
    """How many levels the root of its cgroup namespace is down; None: at R."""
    init_below: str = ""
    """Where init sits below R (``init.scope``)."""
    pid_below: str = ""
    """Where the caller sits below R."""
    first_names: Mapping[str, str] = field(default_factory=dict)
    """v1: another name of the first level for these controllers, as each hierarchy has paths of its own."""
    boottime_offset: tuple[int, int] = (0, 0)
    """Of init's time namespace: seconds and nanoseconds. Zero: it is in the host's."""
    cpu: CpuTimes = CpuTimes()
    memory_stat: Mapping[str, int] = field(default_factory=dict)
    """Keys exactly as the layout's memory.stat has them (v1 with and without ``total_``), in bytes or counts."""
    numa_stat: Mapping[str, Mapping[int, int]] = field(default_factory=dict)
    """memory.numa_stat: key (v1 with and without ``hierarchical_``) -> node -> bytes, v1 pages. Empty: no file."""
    oom_kills: int | None = None
    """Of memory.events, v1 memory.oom_control; None: the file has no such line."""
    kmem_bytes: int | None = None
    """v1: memory.kmem.usage_in_bytes; None: no such file."""
    io: tuple[DeviceIo, ...] = ()
    pids_current: int = 2
    threads: tuple[Thread, ...] = ()
    """Besides init and the caller, which sleep."""
    pressure: Mapping[str, str] = field(default_factory=dict)
    """v2: the texts of cpu.pressure and its like, by ``cpu``, ``memory``, ``io``; no key: no file."""
    mounts: tuple[str, ...] = ()
    """mountinfo lines of the container before its cgroup mounts: the root file system first."""
    dev: tuple[DeviceNode, ...] = ()

    @property
    def level(self) -> Level:
        """R itself."""
        return self.levels[-1]

    def path(self, controller: str = "") -> str:
        """R in the hierarchy of a controller, from its root: ``/a/b``."""
        names = [level.name for level in self.levels]
        if names:
            names[0] = self.first_names.get(controller, names[0])
        return "/" + "/".join(names)

    def nearest(self, controller: str) -> Level | None:
        """R or its nearest ancestor that has the files of a controller; None: no level has."""
        for level in reversed(self.levels):
            if controller not in level.absent:
                return level
        return None

    def with_levels(self, *, last: Mapping[str, object]) -> Container:
        """The same container with fields of R replaced."""
        return replace(self, levels=(*self.levels[:-1], replace(self.levels[-1], **last)))  # type: ignore[arg-type]
