"""Random hosts and containers for hypothesis, extremes included."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st

from tests.hosts.build import meminfo_lines
from tests.hosts.model import (
    Container,
    CpuTimes,
    DeviceIo,
    Disk,
    Host,
    HugePages,
    Layout,
    Level,
    MeminfoLine,
    Partition,
)
from tests.oracle.meminfo import V1_KEYS, V2_KEYS

U64_MAX = 2**64 - 1

layouts = st.sampled_from(list(Layout))

usage_bytes = st.one_of(
    st.integers(0, 2**36), st.integers(0, 5000), st.sampled_from([0, 1023, 1024, 2**63 - 1, U64_MAX])
)
"""What a counter in bytes can hold, and 2^64-1, which it should not."""

limit_bytes = st.one_of(st.none(), st.integers(0, 2**36), st.sampled_from([0, 4096, 2**40, 2**47, 2**62]))

quotas = st.one_of(
    st.none(), st.tuples(st.integers(1_000, 30_000_000), st.sampled_from([1_000, 33_333, 100_000, 1_000_000]))
)


@st.composite
def cpu_sets(draw: st.DrawFn, *, most: int = 300) -> tuple[int, ...]:
    """Online CPUs: dense from 0, or with gaps."""
    count = draw(st.one_of(st.integers(1, 8), st.integers(1, most)))
    if draw(st.booleans()):
        return tuple(range(count))
    step = draw(st.integers(1, 3))
    return tuple(range(draw(st.integers(0, 3)), most * 3, step))[:count]


@st.composite
def hosts(draw: st.DrawFn, *, most_cpus: int = 300, cpu_folders: bool = False) -> Host:
    """Any host; its swap may be as large as 128 TB, as its memory."""
    swap_total = draw(st.one_of(st.just(0), st.integers(0, 2**27), st.just(2**37)))
    host = Host(
        online=draw(cpu_sets(most=most_cpus)),
        has_cpu_folders=cpu_folders,
        has_online_file=draw(st.booleans()),
        swap_total_kb=swap_total,
        swap_free_kb=draw(st.integers(0, swap_total)),
        overcommit_ratio=draw(st.sampled_from([0, 50, 100, 200])),
        huge_page_kb=draw(st.sampled_from([64, 2048, 1 << 20])),
        more_huge_pages=draw(st.sampled_from([(), ((32768, 7),), ((32768, 0), (16 << 20, 3))])),
        boottime_ns=draw(st.integers(20 * 10**9, 10**17)),
        btime=draw(st.integers(10**9, 2 * 10**9)),
        softirq_columns=draw(st.sampled_from([11])),
        diskstats_columns=draw(st.sampled_from([11, 15, 17])),
    )
    total = draw(st.one_of(st.integers(4, 2**26), st.sampled_from([10**8, 2**37])))
    lines = [replace(line, value=total) if line.name == "MemTotal" else line for line in meminfo_lines(host)]
    if draw(st.booleans()):  # kernels differ in which lines they print; unknown ones pass through
        drop = draw(
            st.sets(
                st.sampled_from(
                    [line.name for line in lines if line.name not in ("MemTotal", "SwapTotal", "Hugepagesize")]
                )
            )
        )
        lines = [line for line in lines if line.name not in drop]
        lines.insert(draw(st.integers(0, len(lines))), MeminfoLine("Balloon", draw(st.integers(0, 10**9))))
    return replace(host, meminfo=tuple(lines))


@st.composite
def levels(draw: st.DrawFn, host: Host, layout: Layout) -> tuple[Level, ...]:
    """A path of cgroups, up to 5 deep. On v2 a controller that is absent is so for all below, on v1 everywhere."""
    depth = draw(st.integers(1, 5))
    has_swap = draw(st.booleans())
    absent: frozenset[str] = frozenset()
    maybe = st.frozensets(st.sampled_from(["cpu", "cpuset", "memory", "io", "pids", "hugetlb"]), max_size=3)
    if draw(st.integers(0, 3)) == 0:
        absent = draw(maybe)
    found = []
    granted = host.online
    for number in range(depth):
        if layout.is_v2 and number and draw(st.integers(0, 5)) == 0:
            absent |= draw(maybe)
        memory = draw(limit_bytes)
        quota = draw(quotas)
        if draw(st.integers(0, 2)) == 0:
            granted = tuple(sorted(draw(st.sets(st.sampled_from(granted), min_size=1))))
        memsw = None if memory is None or draw(st.booleans()) else memory + draw(st.integers(0, 2**38))
        pages = HugePages(draw(limit_bytes), draw(usage_bytes), draw(limit_bytes), draw(usage_bytes))
        found.append(
            Level(
                name=draw(st.sampled_from(["a", "b-1", "kubepods.slice", "pod 7", "c:ri-containerd:x", "é"]))
                + str(number),
                absent=absent,
                memory_max_bytes=memory,
                memory_current_bytes=draw(usage_bytes),
                swap_max_bytes=draw(limit_bytes),
                swap_current_bytes=draw(usage_bytes),
                memsw_max_bytes=memsw,
                memsw_current_bytes=draw(usage_bytes),
                has_swap=has_swap,
                swappiness=draw(st.sampled_from([0, 60, 100])),
                cpu_quota_usec=None if quota is None else quota[0],
                cpu_period_usec=100_000 if quota is None else quota[1],
                cpus=granted,
                huge_pages=draw(st.sampled_from([None, pages])),
                more_huge_pages=draw(st.dictionaries(st.sampled_from([32768, 16 << 20]), st.just(pages))),
            )
        )
    return tuple(found)


@st.composite
def memory_stats(draw: st.DrawFn, layout: Layout) -> dict[str, int]:
    """memory.stat with some keys missing, and keys that no line uses."""
    keys = sorted(set((V2_KEYS if layout.is_v2 else V1_KEYS).values()))
    keys = keys if draw(st.booleans()) else draw(st.lists(st.sampled_from(keys), unique=True, min_size=1))
    if layout.is_v2:
        return {"anon_other": 4096, **{key: draw(usage_bytes) for key in keys}, "pgfault": 12}
    own = {key: draw(st.integers(0, 2**30)) for key in keys}
    return {**own, "hierarchical_memory_limit": 99, **{f"total_{key}": draw(usage_bytes) for key in keys}}


@st.composite
def cpu_times(draw: st.DrawFn, host: Host) -> CpuTimes:
    """CPU time from nothing to more than the container's age."""
    usec = st.one_of(st.integers(0, 10**9), st.integers(0, 10**15), st.just(0))
    ns = st.one_of(st.just((0, 0)), st.tuples(st.integers(0, 10**14), st.integers(0, 10**12)))
    possible = host.possible_cpus[-1] + 1
    shape = draw(st.lists(ns, min_size=1, max_size=5))
    return CpuTimes(
        user_usec=draw(usec),
        nice_usec=draw(st.one_of(st.none(), usec)),
        system_usec=draw(usec),
        throttled_usec=draw(usec),
        per_cpu_ns=tuple(shape[cpu % len(shape)] if cpu in host.possible_cpus else (0, 0) for cpu in range(possible)),
    )


@st.composite
def containers(draw: st.DrawFn, host: Host, layout: Layout) -> Container:
    """A container in a pid namespace of its own, with or without a cgroup namespace."""
    now_ticks = host.boottime_ns // 10**7
    return Container(
        levels=draw(levels(host, layout)),
        comm=draw(st.sampled_from(["sh", "my init", "a) R 1 (b", "(((", ")))", "x\ny", ") ("])),
        start_ticks=draw(st.integers(1, now_ticks)),
        cgroupns=draw(st.sampled_from([None, 4_026_532_900])),
        cpu=draw(cpu_times(host)),
        memory_stat=draw(memory_stats(layout)),
        kmem_bytes=draw(st.one_of(st.none(), usage_bytes)),
        pids_current=draw(st.integers(0, 2**22)),
    )


@st.composite
def worlds(draw: st.DrawFn, *, most_cpus: int = 300, cpu_folders: bool = False) -> tuple[Layout, Host, Container]:
    """A layout, a host and one container on it."""
    layout = draw(layouts)
    host = draw(hosts(most_cpus=most_cpus, cpu_folders=cpu_folders))
    return layout, host, draw(containers(host, layout))


counts = st.one_of(st.integers(0, 10**6), st.sampled_from([0, 2**32, 2**63, U64_MAX]))


@st.composite
def disks(draw: st.DrawFn) -> tuple[Disk, ...]:
    """Whole devices, the first ones with partitions."""
    found = []
    for number in range(draw(st.integers(0, 4))):
        minor = 16 * number
        parts = tuple(
            Partition(f"sd{'abcd'[number]}{part}", minor + part, draw(st.integers(0, 2**40)))
            for part in range(1, draw(st.integers(1, 4)))
        )
        found.append(
            Disk(f"sd{'abcd'[number]}", 8, minor, draw(st.one_of(st.integers(0, 3), st.integers(0, 2**42))), parts)
        )
    return tuple(found)


@st.composite
def device_ios(draw: st.DrawFn, on: tuple[Disk, ...]) -> tuple[DeviceIo, ...]:
    """I/O on some of the devices."""
    return tuple(
        DeviceIo(disk.major, disk.minor, *(draw(counts) for _ in range(6))) for disk in on if draw(st.booleans())
    )
