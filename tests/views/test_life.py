"""The life of an engine and of its entries: odd callers, odd cgroups, what is kept and what is let go."""

from __future__ import annotations

import os
import shutil
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from tests.hosts.build import build
from tests.hosts.model import Container, CpuTimes, DeviceNode, Disk, Host, Layout, Level
from tests.hosts.trees import fresh

pytest.importorskip("procview._fast.engine", reason="the engine is not built")
from procview._fast.engine import Engine

HOST = Host(online=(0, 1, 2, 3), has_cpu_folders=False)
OWN = Container(levels=(Level("c", memory_max_bytes=500 << 20, memory_current_bytes=1 << 20),))


def descriptors(below: Path) -> int:
    """Those of files in this folder: nobody else in this process opens any there."""
    count = 0
    for fd in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            count += os.readlink(f"/proc/self/fd/{fd}").startswith(f"{below}/")
    return count


def cpu_lines(text: bytes) -> dict[bytes, list[int]]:
    return {
        words[0]: [int(word) for word in words[1:]]
        for line in text.splitlines()
        if (words := line.split())[0].startswith(b"cpu")
    }


@pytest.mark.parametrize("pid", [2**31, 2**32 + 1001, 2**63, 2**70, -(2**31) - 1, -(2**70)])
def test_a_number_that_is_no_pid_is_an_unknown_caller(scratch: Path, pid: int) -> None:
    with fresh(scratch) as folder:
        engine = Engine(**build(folder, Layout.V2, HOST, OWN).roots)
        view = engine.open(pid, "proc/meminfo")
        assert view.fallback == "unknown-caller"
        assert view.render() == (folder / "proc/meminfo").read_bytes()
        assert not engine.open_blocks(pid)
        engine.close()


def test_an_engine_that_was_never_made_says_so() -> None:
    engine = Engine.__new__(Engine)
    for use in (lambda: engine.open(1, "proc/meminfo"), engine.sample, lambda: engine.open_blocks(1)):
        with pytest.raises(ValueError, match="closed"):
            use()
    engine.close()


def test_a_refused_engine_leaves_no_descriptor(scratch: Path) -> None:
    with fresh(scratch) as folder:
        tree = build(folder, Layout.V2, HOST, OWN)
        before = descriptors(folder)
        with pytest.raises(OverflowError):
            Engine(**tree.roots, max_descriptors=2**40)
        assert descriptors(folder) == before


def test_close_closes_descriptors_also_while_views_live(scratch: Path) -> None:
    with fresh(scratch) as folder:
        before = descriptors(folder)
        engine = Engine(**build(folder, Layout.V2, HOST, OWN).roots)
        empty = descriptors(folder)
        view = engine.open(OWN.pid, "proc/meminfo")
        view.render()
        assert descriptors(folder) > empty
        engine.close()
        assert descriptors(folder) == empty
        with pytest.raises(ValueError, match="closed"):
            view.render()
        del engine, view
        assert descriptors(folder) == before


@pytest.mark.parametrize("layout", list(Layout))
def test_a_quota_that_goes_up_and_down_does_not_double_the_time(scratch: Path, layout: Layout) -> None:
    """New CPUs start where the others are; what a vanished one did stays. A hundred rounds of both must add up to
    hundreds of lifetimes, not to two to the hundred.
    """
    age = 1_000_000
    host = replace(HOST, boottime_ns=(age + 1) * 10**7)
    with fresh(scratch) as folder:
        container = replace(
            OWN, start_ticks=1, cpu=CpuTimes(user_usec=10**9, per_cpu_ns=((10**12, 0), (0, 0), (0, 0), (0, 0)))
        )
        tree = build(folder, layout, host, container)
        engine = Engine(**tree.roots)
        view = engine.open(container.pid, "proc/stat")
        before: dict[bytes, list[int]] = {}
        rounds = 100
        for number in range(2 * rounds):
            tree.update(replace(container, levels=(replace(OWN.level, cpu_quota_usec=(1 + number % 2) * 100_000),)))
            now = cpu_lines(view.render())
            assert len(now) == 2 + number % 2
            for name in now.keys() & before.keys():
                assert all(new >= old for new, old in zip(now[name], before[name], strict=True))
            before = now
        assert sum(before[b"cpu"]) <= (rounds + 2) * age
        engine.close()


def test_a_render_begun_before_the_cpus_changed_does_not_bring_them_back(scratch: Path) -> None:
    """Four readers while the quota changes: each sees columns that never go back, and time that is not invented."""
    age = 1_000_000
    host = replace(HOST, boottime_ns=(age + 1) * 10**7)
    changes = 40
    with fresh(scratch) as folder:
        container = replace(OWN, start_ticks=1, cpu=CpuTimes(user_usec=10**9))
        tree = build(folder, Layout.V2, host, container)
        engine = Engine(**tree.roots)
        stop = threading.Event()
        wrong: list[str] = []

        def read() -> None:
            view = engine.open(container.pid, "proc/stat")
            before: dict[bytes, list[int]] = {}
            while not stop.is_set():
                now = cpu_lines(view.render())
                wrong.extend(
                    f"{name!r} {before[name]} {now[name]}"
                    for name in now.keys() & before.keys()
                    if any(new < old for new, old in zip(now[name], before[name], strict=True))
                )
                before = now

        threads = [threading.Thread(target=read) for _ in range(4)]
        for thread in threads:
            thread.start()
        for number in range(changes):
            tree.update(replace(container, levels=(replace(OWN.level, cpu_quota_usec=(1 + number % 4) * 100_000),)))
            assert len(cpu_lines(engine.open(container.pid, "proc/stat").render())) == 2 + number % 4
        stop.set()
        for thread in threads:
            thread.join()
        assert wrong == []
        last = cpu_lines(engine.open(container.pid, "proc/stat").render())
        assert sum(last[b"cpu"]) <= 4 * changes * age
        engine.close()


def test_a_cgroup_whose_name_begins_with_two_dots(scratch: Path) -> None:
    """Only ``/../`` is above the daemon's own cgroup namespace."""
    container = replace(OWN, levels=(replace(OWN.level, name="..data"),))
    with fresh(scratch) as folder:
        engine = Engine(**build(folder, Layout.V2, HOST, container).roots)
        assert engine.open(container.pid, "proc/meminfo").render().split()[1] == b"512000"
        engine.close()


def test_a_cgroup_too_deep_to_be_opened_is_counted_as_unscopable(scratch: Path) -> None:
    """Its path can be shown, but no file in it can be named: the host's whole file, not a mix."""
    path = "/c" + ("/" + "x" * 200) * 20
    assert 4032 < len(path + "y" * 40) < 4096
    with fresh(scratch) as folder:
        tree = build(folder, Layout.V2, HOST, OWN)
        for pid in (OWN.init_pid, OWN.pid):
            tree.write(f"proc/{pid}/cgroup", f"0::{path + 'y' * 40}\n")
        engine = Engine(**tree.roots)
        view = engine.open(OWN.pid, "proc/meminfo")
        assert view.render() == (folder / "proc/meminfo").read_bytes()
        assert view.fallback == "unscopable"
        assert engine.counters()["fallback_unscopable"] == 1
        engine.close()


def test_two_thousand_levels_of_cgroups_need_little_stack(scratch: Path) -> None:
    path = "/c" + "/x" * 1990
    with fresh(scratch) as folder:
        tree = build(folder, Layout.V2, HOST, OWN)
        for pid in (OWN.init_pid, OWN.pid):
            tree.write(f"proc/{pid}/cgroup", f"0::{path}\n")
        engine = Engine(**tree.roots)
        texts: list[bytes] = []
        size = threading.stack_size(256 << 10)
        try:
            thread = threading.Thread(target=lambda: texts.append(engine.open(OWN.pid, "proc/meminfo").render()))
            thread.start()
        finally:
            threading.stack_size(size)
        thread.join()
        assert texts == [(folder / "proc/meminfo").read_bytes()]
        assert engine.counters()["cgroups"] == 1992
        engine.close()


def test_callers_of_removed_cgroups_are_forgotten(scratch: Path) -> None:
    """In the host's pid namespace, whose init never goes: services that come and go leave no entries behind."""
    with fresh(scratch) as folder:
        tree = build(folder, Layout.V2, HOST, OWN)
        tree.link(f"proc/{OWN.pid}/ns/pid", "pid:[4026531836]")
        engine = Engine(**tree.roots)
        for number in range(300):
            tree.write(f"proc/{OWN.pid}/cgroup", f"0::/run-{number}.service\n")
            tree.write(f"cgroup/run-{number}.service/memory.max", "1000000\n")
            engine.open(OWN.pid, "proc/meminfo").render()
            shutil.rmtree(folder / f"cgroup/run-{number}.service")
        counters = engine.counters()
        assert counters["containers"] <= 64
        assert counters["cgroups"] <= 80
        engine.close()


def test_pressure_of_a_cgroup_that_was_removed_is_the_hosts(scratch: Path) -> None:
    """Its reader has the file open: ENOENT would be wrong."""
    other = replace(OWN, levels=(Level("other"),), init_pid=2000, pid=2001, pidns=OWN.pidns + 1)
    container = replace(OWN, pressure={"cpu": "some avg10=0.00 avg60=0.00 avg300=0.00 total=1\n"})
    with fresh(scratch) as folder:
        tree = build(folder, Layout.V2, HOST, container, other)
        tree.write("proc/pressure/cpu", "some avg10=1.00 avg60=1.00 avg300=1.00 total=100\n")
        engine = Engine(**tree.roots, max_descriptors=8)
        view = engine.open(container.pid, "proc/pressure/cpu")
        assert view.render().endswith(b"total=1\n")
        shutil.rmtree(folder / "cgroup/c")
        for name in ("meminfo", "stat", "uptime") * 2:  # takes its descriptor, through which a recording can be read on
            engine.open(other.pid, f"proc/{name}").render()
        assert view.render() == (folder / "proc/pressure/cpu").read_bytes()
        assert view.fallback == "unscopable"
        engine.close()


def test_first_thread_of_init_is_gone(scratch: Path) -> None:
    """cgroup v1 says "/" of a process whose first thread has ended, though others of its threads live on."""
    with fresh(scratch) as folder:
        tree = build(folder, Layout.V1, HOST, OWN)
        seen_before = Engine(**tree.roots)
        view = seen_before.open(OWN.pid, "proc/meminfo")
        assert view.render().split()[1] == b"512000"
        stat = f"proc/{OWN.init_pid}/stat"
        tree.write(stat, (folder / stat).read_text().replace(" 4194560 ", " 4194564 ").replace(" S ", " Z "))
        cgroups = (folder / f"proc/{OWN.init_pid}/cgroup").read_text()
        tree.write(f"proc/{OWN.init_pid}/cgroup", cgroups.replace(":/c\n", ":/\n"))
        for engine in (seen_before, Engine(**tree.roots)):
            assert engine.open(OWN.pid, "proc/meminfo").render().split()[1] == b"512000"
            engine.close()


def test_newline_in_the_name_of_an_upper_directory_is_no_line_of_the_mount_table(scratch: Path) -> None:
    """A container that says where its overlay is must not say what file system its /dev is of."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to make device nodes")
    further = "\n1 2 0:1 / /dev rw - tmpfs t rw".replace("\n", r"\012").replace(" ", r"\040")
    host = replace(HOST, disks=(Disk("vda", 254, 0, 1 << 20),))
    container = replace(
        OWN,
        mounts=(
            "101 100 0:61 / /dev rw - fuse.evil evil rw",
            f"100 99 0:60 / / rw - overlay overlay rw,upperdir=/x{further}",
        ),
        dev=(DeviceNode("vdz", 254, 0),),
    )
    with fresh(scratch) as folder:
        tree = build(folder, Layout.V2, host, container)
        tree.make_device_nodes(container)
        engine = Engine(**tree.roots)
        assert b"vdz" not in engine.open(container.pid, "proc/partitions").render()
        engine.close()
