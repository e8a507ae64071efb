"""The host trees that the golden tests render: recorded ones, other architectures, and a large x86 host."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.hosts.build import build, meminfo_lines
from tests.hosts.model import Container, CpuTimes, DeviceIo, Disk, Host, HugePages, Layout, Level, MemoryNode, Partition
from tests.hosts.trees import TreeText

GIB = 1 << 30
MIB = 1 << 20


@dataclass(frozen=True)
class Known:
    """A tree by name: what an Engine is made from once it is written, and whose view is taken."""

    name: str
    write: Callable[[Path], tuple[dict[str, Any], int]]


def recorded(name: str) -> Known:
    """A recording of a real host, as it is."""

    def write(base: Path) -> tuple[dict[str, Any], int]:
        tree = TreeText.load(name)
        tree.write(base)
        return tree.roots(base), tree.pid

    return Known(name, write)


def architecture(name: str, cpu_count: int, cpus: tuple[int, ...], nodes: tuple[MemoryNode, ...] = ()) -> Known:
    """A modelled host with the recorded texts of an architecture in place; the container has the last of its CPUs."""

    def write(base: Path) -> tuple[dict[str, Any], int]:
        host = Host(online=tuple(range(cpu_count)), nodes=nodes, disks=(SYSTEM_DISK,), mounts=())
        container = replace(
            WEB, levels=(Level("web", memory_max_bytes=256 * MIB, memory_current_bytes=20 * MIB, cpus=cpus),)
        )
        tree = build(base, Layout.V2, host, container)
        for path, text in TreeText.load(f"arch/{name}").files.items():
            tree.write(path, text)
        return tree.roots, container.pid

    return Known(name, write)


SYSTEM_DISK = Disk("vda", 254, 0, 64 * GIB // 512, (Partition("vda1", 1, 63 * GIB // 512),))

PRESSURE = "some avg10=0.00 avg60=0.00 avg300=0.00 total=17\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=3\n"
WEB = Container(
    levels=(Level("web"),),
    start_ticks=99_000_000,
    cpu=CpuTimes(user_usec=70_123_456, nice_usec=123_456, system_usec=5_000_999, throttled_usec=250_000),
    memory_stat={"anon": 5 * MIB, "file": 9 * MIB, "active_file": 6 * MIB, "inactive_file": 3 * MIB,
                 "slab_reclaimable": MIB, "slab": 2 * MIB, "slab_unreclaimable": MIB,
                 "kernel_stack": 160 << 10, "pagetables": 300 << 10},
    io=(DeviceIo(254, 0, 12_345_856, 4096 * 7, 321, 7),),
    pids_current=3,
    pressure=dict.fromkeys(("cpu", "memory", "io"), PRESSURE),
    mounts=("100 99 254:1 /containers/web / rw,relatime - ext4 /dev/vda1 rw",),
)  # fmt: skip

LARGE_MEMINFO = {"MemTotal": 1 << 30, "MemFree": 700_000_000, "MemAvailable": 900_000_000, "DirectMap2M": 1_000_000_000}
LARGE_HOST = Host(
    # two sockets; the second threads of the first eight cores are offline, and so is a stretch of the second socket
    online=tuple(cpu for cpu in range(256) if cpu not in (1, 3, 5, 7, 9, 11, 13, 15, *range(200, 208))),
    present=tuple(range(256)),
    possible=tuple(range(288)),
    packages=2,
    nodes=(
        MemoryNode(0, tuple(cpu for cpu in range(128) if cpu not in (1, 3, 5, 7, 9, 11, 13, 15)), 1 << 29),
        MemoryNode(1, tuple(cpu for cpu in range(128, 256) if not 200 <= cpu < 208), 1 << 29),
    ),
    meminfo=tuple(
        replace(line, value=LARGE_MEMINFO.get(line.name, line.value))
        for line in meminfo_lines(Host(swap_total_kb=200_000_000, swap_free_kb=150_000_000))
    ),
    swap_total_kb=200_000_000,
    swap_free_kb=150_000_000,
    more_huge_pages=((1 << 20, 4),),
    disks=(replace(SYSTEM_DISK, name="nvme0n1", major=259),),
)
LARGE_CONTAINER = replace(
    WEB,
    levels=(
        Level("kubepods.slice", memory_max_bytes=100 * GIB, memory_current_bytes=60 * GIB,
              huge_pages=HugePages(48 * MIB, 20 * MIB, None, 30 * MIB)),
        Level("pod-1", cpus=(0, 2, 14, 16, 17, 199, 208, 255), cpu_quota_usec=700_000),
        Level("web", memory_max_bytes=64 * GIB, memory_current_bytes=32 * GIB, swap_current_bytes=123_456 * MIB,
              cpus=(14, 16, 17, 199, 208, 255), cpu_quota_usec=1_950_000, cpu_period_usec=300_000,
              huge_pages=HugePages(None, 6 * MIB, 40 * MIB, 10 * MIB),
              more_huge_pages={1 << 20: HugePages(GIB, 0, None, 0)}),
    ),
    io=(DeviceIo(259, 0, 123_456_789_012_352, 4096 * 7, 321_000_000, 7, 1 << 40, 12),),
    mounts=("100 99 259:0 / / rw,relatime - xfs /dev/nvme0n1 rw",),
)  # fmt: skip


# Few CPUs, one of them offline and more to come; 2 TB of memory and 128 TB of swap, of which nobody limits anything.
SWAPPING_HOST = Host(
    online=(0, 2, 3),
    present=(0, 1, 2, 3),
    possible=tuple(range(8)),
    meminfo=tuple(
        replace(
            line, value={"MemTotal": 2 << 30, "MemFree": 1 << 30, "DirectMap2M": 2 << 30}.get(line.name, line.value)
        )
        for line in meminfo_lines(Host(swap_total_kb=128 << 30, swap_free_kb=100 << 30))
    ),
    swap_total_kb=128 << 30,
    swap_free_kb=100 << 30,
    disks=(SYSTEM_DISK,),
)
SWAPPING_CONTAINER = replace(
    WEB,
    levels=(Level("web", memory_current_bytes=1500 * GIB, swap_current_bytes=27 * 1024 * GIB + 123 * MIB),),
    memory_stat={"anon": 1400 * GIB, "anon_thp": 1300 * GIB, "file": 90 * GIB, "active_file": 60 * GIB,
                 "inactive_file": 30 * GIB, "workingset_refault_anon": 1 << 40, "pswpin": 3 << 38, "pswpout": 1 << 41,
                 "pgscan_direct": (1 << 63) + 12, "pgmajfault": 1 << 39},
    oom_kills=2,
)  # fmt: skip

# cgroup v1; stretches of CPUs offline, and a fifth node that is memory only
FOUR_SOCKETS_OFFLINE = (5, *range(17, 24), 40)
FOUR_SOCKETS = Host(
    online=tuple(cpu for cpu in range(64) if cpu not in FOUR_SOCKETS_OFFLINE),
    present=tuple(range(64)),
    packages=4,
    nodes=(
        *(
            MemoryNode(node, tuple(cpu for cpu in range(16 * node, 16 * node + 16) if cpu not in FOUR_SOCKETS_OFFLINE),
                       1 << 27)
            for node in range(4)
        ),
        MemoryNode(4, (), 1 << 28),
    ),
    meminfo=tuple(
        replace(line, value=768 << 20 if line.name == "MemTotal" else line.value)
        for line in meminfo_lines(Host(swap_total_kb=64 << 20, swap_free_kb=60 << 20))
    ),
    swap_total_kb=64 << 20,
    swap_free_kb=60 << 20,
    disks=(SYSTEM_DISK,),
)  # fmt: skip
FOUR_SOCKETS_CONTAINER = replace(
    WEB,
    levels=(
        Level("kubepods", mems=(0, 1, 2, 4)),
        Level("web", memory_max_bytes=96 * GIB, memory_current_bytes=60 * GIB, memsw_max_bytes=100 * GIB,
              memsw_current_bytes=61 * GIB, cpus=(4, 6, 16, 24, 39, 41, 63), cpu_quota_usec=650_000, mems=(1, 2, 4)),
    ),
    cpu=CpuTimes(throttled_usec=250_000, per_cpu_ns=tuple((cpu * 10**9, cpu * 10**8) for cpu in range(64))),
    memory_stat={"cache": 1, "total_rss": 30 * GIB, "total_cache": 29 * GIB, "total_active_file": 9 * GIB,
                 "total_inactive_file": 20 * GIB, "total_pgpgin": 99, "total_pgpgout": 98, "total_pgfault": 12_345},
    kmem_bytes=GIB,
    numa_stat={"total": dict.fromkeys(range(5), 5),
               "hierarchical_total": {0: 1000, 1: 10 * GIB // 4096, 2: 0, 3: 0, 4: 49 * GIB // 4096},
               "hierarchical_file": {0: 1000, 1: 0, 2: 0, 3: 0, 4: 29 * GIB // 4096},
               "hierarchical_anon": {0: 0, 1: 10 * GIB // 4096, 2: 0, 3: 0, 4: 20 * GIB // 4096}},
    oom_kills=1,
)  # fmt: skip


def modelled(name: str, layout: Layout, host: Host, container: Container) -> Known:
    def write(base: Path) -> tuple[dict[str, Any], int]:
        return build(base, layout, host, container).roots, container.pid

    return Known(name, write)


KNOWN = (
    recorded("v2-6.12"),
    recorded("v1-hybrid-6.18"),
    architecture("arm64-cortex-a57", 4, (1, 3)),
    architecture("arm64-max", 4, (2,)),
    architecture("s390x", 2, (1,)),
    # POWER numbers its nodes with gaps
    architecture("ppc64el", 2, (1,), (MemoryNode(0, (0,), 8 << 20), MemoryNode(8, (1,), 8 << 20))),
    architecture("riscv64", 4, (1, 3)),
    modelled("x86-4", Layout.V2, SWAPPING_HOST, SWAPPING_CONTAINER),
    modelled("x86-64", Layout.V1, FOUR_SOCKETS, FOUR_SOCKETS_CONTAINER),
    modelled("x86-256", Layout.V2, LARGE_HOST, LARGE_CONTAINER),
)
