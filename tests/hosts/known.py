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


def architecture(name: str, cpu_count: int, cpus: tuple[int, ...]) -> Known:
    """A modelled host with the recorded texts of an architecture in place; the container has the last of its CPUs."""

    def write(base: Path) -> tuple[dict[str, Any], int]:
        host = Host(online=tuple(range(cpu_count)), disks=(SYSTEM_DISK,), mounts=())
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


def large(base: Path) -> tuple[dict[str, Any], int]:
    tree = build(base, Layout.V2, LARGE_HOST, LARGE_CONTAINER)
    return tree.roots, LARGE_CONTAINER.pid


KNOWN = (
    recorded("v2-6.12"),
    recorded("v1-hybrid-6.18"),
    architecture("arm64-cortex-a57", 4, (1, 3)),
    architecture("arm64-max", 4, (2,)),
    architecture("s390x", 2, (1,)),
    architecture("ppc64el", 2, (1,)),
    Known("x86-256", large),
)
