"""The oracle itself, against numbers worked out by hand or taken from the kernel: it may not bless a wrong engine."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.hosts.cpus import cpu_list, cpu_mask
from tests.hosts.model import Container, CpuTimes, Host, Layout, Level, Thread
from tests.oracle.cpus import visible
from tests.oracle.loadavg import EXP, FIXED_1, Load, calc_load, load_text
from tests.oracle.meminfo import values
from tests.oracle.memory import swap_bytes
from tests.oracle.stat import Stat, share
from tests.oracle.swaps import swap_line
from tests.oracle.uptime import uptime

MIB = 1 << 20


def test_cpu_count() -> None:
    """min(|S|, ceil(q)), at least 1, the first CPUs of S."""
    host = Host(online=(0, 1, 2, 4, 6))
    container = Container(
        levels=(Level("a", cpu_quota_usec=210_000), Level("b", cpus=(1, 2, 3, 4, 6), cpu_quota_usec=500_000))
    )
    assert visible(host, container) == (1, 2, 4)
    assert visible(host, container, cpus="cpuset") == (1, 2, 4, 6)
    tiny = Container(levels=(Level("a", cpu_quota_usec=1_000),))
    assert visible(host, tiny) == (0,)
    exact = Container(levels=(Level("a", cpu_quota_usec=200_000),))
    assert visible(host, exact) == (0, 1)


def test_memory() -> None:
    """A host of 16 GB, a pod of 1 GiB with 900 MiB used, a container of 512 MiB with 100 MiB used."""
    pod = Level("p", memory_max_bytes=1024 * MIB, memory_current_bytes=900 * MIB)
    own = Level("c", memory_max_bytes=512 * MIB, memory_current_bytes=100 * MIB)
    stat = {"active_file": 10 * MIB, "inactive_file": 20 * MIB, "slab_reclaimable": 1536, "anon": 7 * MIB, "shmem": MIB}
    known = values(Host(), Container(levels=(pod, own), memory_stat=stat), Layout.V2)
    assert known["MemTotal"] == 512 * 1024
    assert known["MemFree"] == 124 * 1024  # what the pod has left, less than the container's own 412 MiB
    assert known["MemAvailable"] == 124 * 1024 + 30 * 1024 + 1
    assert known["CommitLimit"] == 256 * 1024
    assert known["Committed_AS"] == 8 * 1024


@pytest.mark.parametrize(
    ("layout", "level", "expected_mib"),
    [
        (Layout.V2, Level("c", swap_max_bytes=64 * MIB, swap_current_bytes=10 * MIB), (64, 10)),
        (Layout.V2, Level("c", swap_max_bytes=0, swap_current_bytes=10 * MIB), (0, 0)),
        (Layout.V2, Level("c", swap_current_bytes=10 * MIB), (1000, 10)),
        (Layout.V2, Level("c", has_swap=False), (0, 0)),
        (Layout.V1, Level("c", memory_max_bytes=100 * MIB, memsw_max_bytes=150 * MIB, memory_current_bytes=90 * MIB,
                          memsw_current_bytes=120 * MIB), (50, 30)),
        (Layout.V1, Level("c", memory_current_bytes=90 * MIB, memsw_current_bytes=80 * MIB), (1000, 0)),
        (Layout.V1, Level("c", memory_current_bytes=9 * MIB, memsw_current_bytes=12 * MIB, swappiness=0), (3, 3)),
    ],
)  # fmt: skip
def test_swap(layout: Layout, level: Level, expected_mib: tuple[int, int]) -> None:
    host = Host(swap_total_kb=1000 * 1024, swap_free_kb=1000 * 1024)
    assert swap_bytes(host, Container(levels=(level,)), layout) == tuple(mib * MIB for mib in expected_mib)


def test_swap_line() -> None:
    """As a kernel printed it (6.12, a 262140 kB disk), and with numbers of eight digits and more."""
    assert swap_line("/dev/vda", "partition", 262140, 17004, -2).replace("partition\t\t", "partition\t") == (
        "/dev/vda                                partition\t262140\t\t17004\t\t-2\n"
    )
    assert swap_line("none", "virtual", 100_000_000, 9_999_999, 0).endswith("virtual\t\t100000000\t9999999\t\t0\n")


def test_stat() -> None:
    """10 s old, two CPUs, 4.01 s used, 30 s throttled: no more is stolen than was idle."""
    host = Host(boottime_ns=20 * 10**9)
    container = Container(
        levels=(Level("c"),), start_ticks=1_000, cpu=CpuTimes(user_usec=4_019_999, throttled_usec=300_000)
    )
    oracle = Stat()
    first = oracle.step(host, container, Layout.V2)
    assert first == [(201, 0, 0, 784, 0, 0, 0, 15, 0, 0), (200, 0, 0, 785, 0, 0, 0, 15, 0, 0)]
    stolen = replace(container, cpu=replace(container.cpu, throttled_usec=30_000_000))
    # the formula alone says idle 0; but what was shown stays
    assert oracle.step(host, stolen, Layout.V2) == [
        (201, 0, 0, 784, 0, 0, 0, 799, 0, 0),
        (200, 0, 0, 785, 0, 0, 0, 800, 0, 0),
    ]
    assert uptime(host, container, 1569) == "10.00 15.69\n"


def test_share() -> None:
    assert share(8, 3) == [3, 3, 2]
    assert share(0, 2) == [0, 0]


def test_load() -> None:
    """One running thread for one minute: 1 - 1/e = 0.63, as every kernel shows."""
    load = Load()
    container = Container(
        levels=(Level("c"),), threads=(Thread(2000, 3, "R"), Thread(2001, 4, "D"), Thread(2002, 5, "S"))
    )
    one_running = replace(container, threads=container.threads[:1])
    for _ in range(12):
        load.sample(one_running)
    assert load_text(load.loads[0]) == "0.63"
    assert calc_load(0, EXP[0], 0) == 0
    assert calc_load(FIXED_1, EXP[0], 1) == FIXED_1
    assert load.text(container, highest_ns_pid=5, total=5).split()[3:] == ["1/5", "5"]


def test_cpu_texts() -> None:
    """Masks and lists as sysfs prints them."""
    assert cpu_mask([0], 2) == "1"
    assert cpu_mask([3], 4) == "8"
    assert cpu_mask([0, 33], 48) == "0002,00000001"
    assert cpu_mask([64], 65) == "1,00000000,00000000"
    assert cpu_list([0, 1, 2, 5, 7, 8]) == "0-2,5,7-8"
