"""/proc/stat: equal to the oracle while the CPUs stay the same; what must hold whatever changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.hosts.build import build
from tests.hosts.model import NS_PER_TICK, USEC_PER_TICK, Container, CpuTimes, Host, Layout, Level
from tests.hosts.trees import fresh
from tests.oracle.cpus import visible
from tests.oracle.stat import IDLE, Stat, stat, total
from tests.oracle.uptime import uptime
from tests.views.strategies import cpu_times, worlds

pytest.importorskip("procview._fast.engine", reason="the engine is not built")
from procview._fast.engine import Engine


def cpu_lines(text: str) -> dict[str, list[int]]:
    """Columns of ``cpu`` and each ``cpuN``, in order."""
    return {
        words[0]: [int(word) for word in words[1:]]
        for line in text.splitlines()
        if (words := line.split())[0].startswith("cpu")
    }


@given(world=worlds(), data=st.data())
def test_equals_the_oracle(scratch: Path, world: tuple[Layout, Host, Container], data: st.DataObject) -> None:
    """Over a sequence of states, counters going anywhere; uptime shows the same idle time."""
    layout, host, container = world
    oracle = Stat()
    with fresh(scratch) as folder:
        tree = build(folder, layout, host, container)
        engine = Engine(**tree.roots)
        view = engine.open(container.pid, "proc/stat")
        for _ in range(data.draw(st.integers(1, 4))):
            lines = oracle.step(host, container, layout)
            assert view.render().decode() == stat(host, container, lines)
            shown = engine.open(container.pid, "proc/uptime").render().decode()
            assert shown == uptime(host, container, total(lines)[IDLE])
            container = replace(container, cpu=data.draw(cpu_times(host)), pids_current=data.draw(st.integers(0, 99)))
            tree.update(container)
        engine.close()


@given(layout=st.sampled_from(list(Layout)), data=st.data())
def test_never_goes_back_when_cpus_change(scratch: Path, layout: Layout, data: st.DataObject) -> None:
    """Quota, cpuset and usage change at random: columns monotonic, cpu the sum, N lines 0..N-1, no time lost."""
    count = data.draw(st.integers(1, 12))
    host = Host(online=tuple(range(count)), has_cpu_folders=False)
    container = Container(levels=(Level("pod"), Level("c")), start_ticks=1, cpu=CpuTimes(per_cpu_ns=((0, 0),) * count))
    with fresh(scratch) as folder:
        tree = build(folder, layout, host, container)
        engine = Engine(**tree.roots)
        view = engine.open(container.pid, "proc/stat")
        before: dict[str, list[int]] = {}
        for _ in range(data.draw(st.integers(2, 6))):
            used = CpuTimes(
                user_usec=container.cpu.user_usec + data.draw(st.integers(0, 10**9)),
                system_usec=container.cpu.system_usec + data.draw(st.integers(0, 10**8)),
                throttled_usec=container.cpu.throttled_usec + data.draw(st.integers(0, 10**8)),
                per_cpu_ns=tuple(
                    (user + data.draw(st.integers(0, 10**11)), system + data.draw(st.integers(0, 10**9)))
                    for user, system in container.cpu.per_cpu_ns
                ),
            )
            cpus = tuple(sorted(data.draw(st.sets(st.sampled_from(host.online), min_size=1))))
            quota = data.draw(st.one_of(st.none(), st.integers(10_000, 100_000 * count)))
            container = replace(container, cpu=used, levels=(Level("pod", cpu_quota_usec=quota), Level("c", cpus=cpus)))
            tree.update(container)
            now = cpu_lines(view.render().decode())
            names = [f"cpu{number}" for number in range(len(visible(host, container)))]
            assert list(now) == ["cpu", *names]
            assert now["cpu"] == [sum(column) for column in zip(*(now[name] for name in names), strict=True)]
            for name in now.keys() & before.keys():
                assert all(new >= old for new, old in zip(now[name], before[name], strict=True)), (
                    name,
                    before[name],
                    now[name],
                )
            if layout.is_v2:
                ticks = [used.user_usec // USEC_PER_TICK, used.system_usec // USEC_PER_TICK]
            else:
                ticks = [
                    sum(times[column] for times in used.per_cpu_ns) // NS_PER_TICK - 2 * count for column in (0, 1)
                ]
            # each change of CPUs may round once per column and CPU
            assert now["cpu"][0] + now["cpu"][2] >= sum(ticks) - 12 * count
            before = now
        engine.close()


def test_v2_shares_with_remainders_to_the_lowest(scratch: Path) -> None:
    """By hand: 10.07 s of user time and 0.02 s of system time over 3 CPUs, 100 s old, 5 ticks of it throttled."""
    host = Host(online=(0, 1, 2, 3), boottime_ns=200 * 10**9)
    container = Container(
        levels=(Level("c", cpu_quota_usec=250_000),),
        start_ticks=10_000,
        cpu=CpuTimes(user_usec=10_070_000, system_usec=29_999, throttled_usec=50_000),
    )
    with fresh(scratch) as folder:
        engine = Engine(**build(folder, Layout.V2, host, container).roots)
        lines = engine.open(container.pid, "proc/stat").render().decode().splitlines()
        engine.close()
    assert lines[:4] == [
        "cpu  1007 0 2 28986 0 0 0 5 0 0",
        "cpu0 336 0 1 9661 0 0 0 2 0 0",
        "cpu1 336 0 1 9661 0 0 0 2 0 0",
        "cpu2 335 0 0 9664 0 0 0 1 0 0",
    ]


def test_v1_counts_each_cpu_for_its_visible_one(scratch: Path) -> None:
    """By hand: S = {1, 3, 5}, N = 2: CPU 1 and 5 count for cpu0, 3 for cpu1; what CPU 0 had is shared."""
    host = Host(online=(0, 1, 2, 3, 4, 5), boottime_ns=200 * 10**9)
    second = 10**9
    container = Container(
        levels=(Level("c", cpu_quota_usec=200_000, cpus=(1, 3, 5)),),
        start_ticks=10_000,
        cpu=CpuTimes(
            per_cpu_ns=((2 * second, 0), (3 * second, second), (0, 0), (5 * second, 0), (0, 0), (7 * second, 0))
        ),
    )
    with fresh(scratch) as folder:
        engine = Engine(**build(folder, Layout.V1, host, container).roots)
        lines = engine.open(container.pid, "proc/stat").render().decode().splitlines()
        engine.close()
    assert lines[:3] == [
        "cpu  1700 0 100 18200 0 0 0 0 0 0",
        "cpu0 1100 0 100 8800 0 0 0 0 0 0",
        "cpu1 600 0 0 9400 0 0 0 0 0 0",
    ]


def test_v1_before_usage_all(scratch: Path) -> None:
    """Linux before 4.7: each CPU's time is split as the container's whole is, 3 to 1 here."""
    host = Host(boottime_ns=200 * 10**9)
    second = 10**9
    container = Container(
        levels=(Level("c"),), start_ticks=10_000, cpu=CpuTimes(per_cpu_ns=((6 * second, 0), (0, 2 * second)))
    )
    with fresh(scratch) as folder:
        tree = build(folder, Layout.V1, host, container)
        tree.remove(tree.cgroup_file(container, "cpu", "cpuacct.usage_all"))
        engine = Engine(**tree.roots)
        lines = engine.open(container.pid, "proc/stat").render().decode().splitlines()
        engine.close()
    assert lines[:3] == [
        "cpu  600 0 200 19200 0 0 0 0 0 0",
        "cpu0 450 0 150 9400 0 0 0 0 0 0",
        "cpu1 150 0 50 9800 0 0 0 0 0 0",
    ]


@pytest.mark.parametrize("layout", list(Layout))
def test_quota_and_cpuset_show_at_once(scratch: Path, layout: Layout) -> None:
    """``update --cpus`` and ``--cpuset-cpus`` on a running container."""
    host = Host(online=tuple(range(8)))
    container = Container(levels=(Level("pod"), Level("c")), cpu=CpuTimes(per_cpu_ns=((0, 0),) * 8))
    with fresh(scratch) as folder:
        tree = build(folder, layout, host, container)
        engine = Engine(**tree.roots)
        view = engine.open(container.pid, "proc/stat")
        changes: list[tuple[dict[str, object], int]] = [
            ({}, 8),
            ({"cpu_quota_usec": 250_000}, 3),
            ({"cpu_quota_usec": 250_000, "cpus": (6, 7)}, 2),
            ({"cpus": (1, 3, 5, 6, 7)}, 5),
            ({}, 8),
        ]
        for change, count in changes:
            tree.update(container.with_levels(last=change))
            assert list(cpu_lines(view.render().decode())) == ["cpu", *(f"cpu{number}" for number in range(count))]
        engine.close()


def test_v1_before_effective_cpus(scratch: Path) -> None:
    """Linux before 3.17 has cpuset.cpus alone."""
    host = Host(online=tuple(range(8)))
    container = Container(levels=(Level("c", cpus=(2, 5)),))
    with fresh(scratch) as folder:
        tree = build(folder, Layout.V1, host, container)
        tree.remove(tree.cgroup_file(container, "cpuset", "cpuset.effective_cpus"))
        engine = Engine(**tree.roots)
        assert engine.cpus(container.pid) == [2, 5]
        engine.close()
