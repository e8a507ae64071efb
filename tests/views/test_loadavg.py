"""/proc/loadavg against the kernel's decay, over sequences of samples."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.hosts.build import build
from tests.hosts.model import Container, CpuTimes, Host, Layout, Level, Thread
from tests.hosts.trees import fresh
from tests.oracle.loadavg import Load, tasks

pytest.importorskip("procview._fast.engine", reason="the engine is not built")
from procview._fast.engine import Engine

HOST = Host(has_cpu_folders=False)


@st.composite
def thread_sets(draw: st.DrawFn) -> tuple[Thread, ...]:
    """Processes and further threads of them, in the container's cgroup and one below."""
    count = draw(st.integers(0, 12))
    found = []
    for number in range(count):
        tgid = draw(st.sampled_from([None, 2000])) if number else None
        found.append(
            Thread(
                tid=2000 + number,
                ns_tid=10 + number,
                state=draw(st.sampled_from("SRDTZI")),
                tgid=tgid,
                below="" if tgid == 2000 else draw(st.sampled_from(["", "below"])) if number else "",
            )
        )
    return tuple(found)


@given(
    layout=st.sampled_from(list(Layout)),
    rounds=st.lists(st.lists(st.sampled_from("SRD"), min_size=3, max_size=3), max_size=6),
    threads=thread_sets(),
)
def test_equals_the_oracle(scratch: Path, layout: Layout, rounds: list[list[str]], threads: tuple[Thread, ...]) -> None:
    container = Container(levels=(Level("pod"), Level("c")), threads=threads, pids_current=2 + len(threads))
    oracle = Load()
    with fresh(scratch) as folder:
        tree = build(folder, layout, HOST, container)
        engine = Engine(**tree.roots)
        view = engine.open(container.pid, "proc/loadavg")
        view.render()  # from the first read on it is sampled
        for number, states in enumerate([[], *rounds], 1):
            changed = tuple(
                replace(thread, state=state)
                for thread, state in zip(threads, [*states, *"S" * len(threads)], strict=False)
            )
            # CPU time moves, so that no sample is skipped
            used = CpuTimes(user_usec=number * 10**6, per_cpu_ns=((number * 10**9, 0), (0, 0)))
            container = replace(container, threads=changed if states else threads, cpu=used)
            tree.update(container)
            assert engine.sample() == 1
            oracle.sample(container)
            highest = max([2, *(thread.ns_tid for thread in threads)])
            assert view.render().decode() == oracle.text(container, highest_ns_pid=highest, total=tasks(container))
        engine.close()


def test_sampling_decays_towards_the_number_of_running_threads(scratch: Path) -> None:
    """Two running threads for 100 minutes: the kernel's own end value, and never a host pid."""
    threads = (Thread(70_001, 7, "R"), Thread(70_002, 8, "R"), Thread(70_003, 9, "S"))
    container = Container(levels=(Level("c"),), threads=threads, pids_current=5)
    with fresh(scratch) as folder:
        tree = build(folder, Layout.V2, HOST, container)
        engine = Engine(**tree.roots)
        view = engine.open(container.pid, "proc/loadavg")
        view.render()
        for number in range(1200):
            tree.write(
                tree.cgroup_file(container, "cpu", "cpu.stat"),
                f"usage_usec {number}\nuser_usec {number}\nsystem_usec 0\n",
            )
            engine.sample()
            if number % 100 == 0:
                view.render()
        assert view.render() == b"2.00 2.00 2.00 2/5 9\n"
        engine.close()


def test_an_idle_container_is_not_scanned(scratch: Path) -> None:
    """As long as neither CPU time nor the number of tasks moves, nothing in it can have changed state."""
    threads = (Thread(70_001, 7, "R"),)
    container = Container(levels=(Level("c"),), threads=threads, pids_current=3, cpu=CpuTimes(user_usec=5))
    with fresh(scratch) as folder:
        tree = build(folder, Layout.V2, HOST, container)
        engine = Engine(**tree.roots)
        view = engine.open(container.pid, "proc/loadavg")
        view.render()
        engine.sample()
        tree.update(replace(container, threads=(Thread(70_001, 7, "S"),)))
        engine.sample()
        assert view.render().split()[3] == b"1/3"
        tree.update(replace(container, threads=(Thread(70_001, 7, "S"),), cpu=CpuTimes(user_usec=6)))
        engine.sample()
        assert view.render().split()[3] == b"0/3"
        engine.close()


def test_stat_has_the_samplers_counts(scratch: Path) -> None:
    """procs_running is at least 1, procs_blocked is 0 until something was sampled."""
    threads = (Thread(70_001, 7, "R"), Thread(70_002, 8, "R"), Thread(70_003, 9, "D"))
    container = Container(levels=(Level("c"),), threads=threads, pids_current=5)
    with fresh(scratch) as folder:
        tree = build(folder, Layout.V2, HOST, container)
        engine = Engine(**tree.roots)
        stat = engine.open(container.pid, "proc/stat")
        assert b"processes 5\nprocs_running 1\nprocs_blocked 0\n" in stat.render()
        engine.open(container.pid, "proc/loadavg").render()
        engine.sample()
        assert b"processes 5\nprocs_running 2\nprocs_blocked 1\n" in stat.render()
        engine.close()


def test_setting_off(scratch: Path) -> None:
    container = Container(levels=(Level("c"),))
    with fresh(scratch) as folder:
        tree = build(folder, Layout.V2, HOST, container)
        engine = Engine(**tree.roots)
        engine.configure(loadavg=False)
        view = engine.open(container.pid, "proc/loadavg")
        assert view.render() == (folder / "proc/loadavg").read_bytes()
        assert engine.sample() == 0
        engine.close()
