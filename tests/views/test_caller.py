"""Section 0: from the caller to the container. The limit that meminfo shows tells which cgroup was taken."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.hosts.build import build
from tests.hosts.model import Container, Host, Layout, Level
from tests.hosts.trees import fresh

pytest.importorskip("procview._fast.engine", reason="the engine is not built")
from procview._fast.engine import Engine

HOST = Host(has_cpu_folders=False)
HOST_AGE_TICKS = HOST.boottime_ns // 10_000_000
POD, OWN, BELOW = (
    Level(name, memory_max_bytes=size << 20) for name, size in (("pod", 1000), ("c", 500), ("init.scope", 200))
)
layouts = pytest.mark.parametrize("layout", list(Layout))


def total_mib(engine: Engine, pid: int) -> int:
    text = engine.open(pid, "proc/meminfo").render().decode()
    return int(text.split()[1]) >> 10


@layouts
def test_init_scope_is_taken_off(scratch: Path, layout: Layout) -> None:
    """systemd as init moves itself into init.scope; its services are beside it, and all is one container."""
    container = Container(levels=(POD, OWN), init_below="init.scope", pid_below="system.slice/x.service")
    with fresh(scratch) as folder:
        engine = Engine(**build(folder, layout, HOST, container).roots)
        assert total_mib(engine, container.pid) == total_mib(engine, container.init_pid) == 500
        engine.close()


@layouts
def test_root_of_the_cgroup_namespace(scratch: Path, layout: Layout) -> None:
    """Init sits somewhere below the root of its cgroup namespace, which is the container."""
    container = Container(levels=(POD, OWN), cgroupns=4_026_532_777, init_below="a/b", pid_below="x")
    with fresh(scratch) as folder:
        engine = Engine(**build(folder, layout, HOST, container).roots)
        assert total_mib(engine, container.pid) == 500
        engine.close()


def hosts_mounts(folder: Path, init: int) -> None:
    """Give init the mount table of the host: cgroup mounts of whole hierarchies."""
    (folder / f"proc/{init}/mountinfo").write_text((folder / "proc/self/mountinfo").read_text())


@layouts
def test_inherited_mounts_of_whole_hierarchies_say_nothing(scratch: Path, layout: Layout) -> None:
    """A cgroup namespace without a cgroup mount of its own, after unshare(CLONE_NEWCGROUP): init's cgroup counts."""
    container = Container(levels=(POD, OWN), cgroupns=4_026_532_777)
    with fresh(scratch) as folder:
        tree = build(folder, layout, HOST, container)
        hosts_mounts(folder, container.init_pid)
        engine = Engine(**tree.roots)
        assert total_mib(engine, container.pid) == 500
        engine.close()


@layouts
def test_a_container_that_is_being_set_up_is_looked_at_again(scratch: Path, layout: Layout) -> None:
    """While it is young its mounts may still be those of the container around it, as LXC's are for a moment."""
    container = Container(levels=(POD, OWN), cgroupns=4_026_532_777, init_below="a", start_ticks=HOST_AGE_TICKS - 100)
    with fresh(scratch) as folder:
        tree = build(folder, layout, HOST, container)
        own = (folder / f"proc/{container.init_pid}/mountinfo").read_text()
        tree.write(f"proc/{container.init_pid}/mountinfo", own.replace("/pod/c ", "/pod "))
        engine = Engine(**tree.roots)
        assert total_mib(engine, container.pid) == 1000
        tree.write(f"proc/{container.init_pid}/mountinfo", own)
        deadline = time.monotonic() + 10
        while total_mib(engine, container.pid) != 500:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        engine.close()


@layouts
def test_cgroup_namespace_root_that_is_not_above_init(scratch: Path, layout: Layout) -> None:
    """Init was moved out of its namespace's root: its own cgroup counts."""
    outer = Container(levels=(POD, OWN), cgroupns=4_026_532_777)
    with fresh(scratch) as folder:
        tree = build(folder, layout, HOST, outer)
        for controller in ("memory", "cpu", "cpuset", "hugetlb"):
            tree.write(tree.cgroup_file(outer, controller, "cgroup.procs", level=0).replace("/pod/", "/elsewhere/"), "")
        tree.write(
            tree.cgroup_file(outer, "memory", "memory.max", level=0).replace("/pod/", "/elsewhere/"), f"{300 << 20}\n"
        )
        limit = tree.cgroup_file(outer, "memory", "memory.limit_in_bytes", level=0).replace("/pod/", "/elsewhere/")
        tree.write(limit, f"{300 << 20}\n")
        text = (folder / f"proc/{outer.init_pid}/cgroup").read_text().replace("/pod/c", "/elsewhere")
        for pid in (outer.init_pid, outer.pid):
            tree.write(f"proc/{pid}/cgroup", text)
        engine = Engine(**tree.roots)
        assert total_mib(engine, outer.pid) == 300
        engine.close()


@layouts
def test_caller_outside_is_a_container_of_its_own(scratch: Path, layout: Layout) -> None:
    """A pod with a shared pid namespace: init is in the pause container's cgroup, the caller beside it."""
    pause = Container(levels=(POD, replace(BELOW, name="pause")), init_pid=1000, pid=1001)
    with fresh(scratch) as folder:
        tree = build(folder, layout, HOST, pause)
        # another container of the pod: its process lives in the pause container's pid namespace
        other = Container(levels=(POD, OWN), init_pid=2000, pid=2001, pidns=pause.pidns)
        tree.update(other)
        for pid in (2000, 2001):
            tree.write(
                f"proc/{pid}/stat", (folder / f"proc/{pid}/stat").read_text().replace(f"S {1} ", f"S {pause.init_pid} ")
            )
            tree.write(
                f"proc/{pid}/status",
                (folder / f"proc/{pid}/status").read_text().replace("NSpid:\t2000\t1", "NSpid:\t2000\t30"),
            )
        engine = Engine(**tree.roots)
        assert total_mib(engine, pause.pid) == 200
        assert total_mib(engine, 2001) == 500
        engine.close()


@layouts
def test_host_pid_namespace(scratch: Path, layout: Layout) -> None:
    """The container is the caller's own cgroup, be it the root."""
    container = Container(levels=(POD, OWN))
    with fresh(scratch) as folder:
        tree = build(folder, layout, HOST, container)
        tree.link(f"proc/{container.pid}/ns/pid", "pid:[4026531836]")
        engine = Engine(**tree.roots)
        assert total_mib(engine, container.pid) == 500
        assert total_mib(engine, 1) == 16_384_000 >> 10
        engine.close()


@layouts
def test_host_in_the_root_cgroup(scratch: Path, layout: Layout) -> None:
    """The host's own processes see the host's own files."""
    with fresh(scratch) as folder:
        tree = build(folder, layout, HOST, Container(levels=(POD, OWN)))
        engine = Engine(**tree.roots)
        for name in ("meminfo", "uptime", "swaps", "loadavg", "diskstats", "partitions"):
            assert engine.open(1, f"proc/{name}").render() == (folder / "proc" / name).read_bytes()
        assert engine.cpus(1) == list(HOST.online)
        engine.close()


@layouts
def test_container_without_a_cgroup_of_its_own(scratch: Path, layout: Layout) -> None:
    """unshare(1) alone: the host's memory and CPUs, but a life of its own."""
    container = Container(levels=(), start_ticks=99_000_000)
    with fresh(scratch) as folder:
        tree = build(folder, layout, HOST, container)
        engine = Engine(**tree.roots)
        for name in ("meminfo", "swaps"):
            assert engine.open(container.pid, f"proc/{name}").render() == (folder / "proc" / name).read_bytes()
        assert engine.open(container.pid, "proc/uptime").render().startswith(b"10000.00 ")
        assert engine.cpus(container.pid) == list(HOST.online)
        engine.close()


@layouts
def test_caller_started_from_outside(scratch: Path, layout: Layout) -> None:
    """``exec`` into a container: the parent is a runtime on the host, so no walk over parents leads to init."""
    container = Container(levels=(POD, OWN), init_below="init.scope", start_ticks=99_000_000)
    with fresh(scratch) as folder:
        tree = build(folder, layout, HOST, container)
        stat = f"proc/{container.pid}/stat"
        tree.write(stat, (folder / stat).read_text().replace(f"S {container.init_pid} ", "S 1 "))
        engine = Engine(**tree.roots)
        assert total_mib(engine, container.pid) == 500
        assert engine.open(container.pid, "proc/uptime").render().startswith(b"10000.00 ")
        engine.close()


@layouts
@pytest.mark.parametrize("first", ["outer", "inner"])
def test_container_in_a_container(scratch: Path, layout: Layout, first: str) -> None:
    """Each caller sees its own pid namespace's container, whoever asks first."""
    outer = Container(levels=(POD, OWN), start_ticks=90_000_000)
    inner = Container(
        levels=(POD, OWN, replace(BELOW, name="inner")),
        init_pid=3000,
        pid=3001,
        pidns=4_026_533_000,
        start_ticks=99_000_000,
    )
    with fresh(scratch) as folder:
        tree = build(folder, layout, HOST, outer, inner)
        for pid, own in ((3000, 1), (3001, 2)):
            status = f"proc/{pid}/status"
            tree.write(
                status, (folder / status).read_text().replace(f"\t{pid}\t{own}\n", f"\t{pid}\t{pid - 2900}\t{own}\n")
            )
        tree.write("proc/3000/stat", (folder / "proc/3000/stat").read_text().replace("S 1 ", f"S {outer.pid} "))
        engine = Engine(**tree.roots)
        callers = [(outer.pid, 500, b"100000.00 "), (inner.pid, 200, b"10000.00 ")]
        for pid, mib, uptime in callers if first == "outer" else callers[::-1]:
            assert total_mib(engine, pid) == mib
            assert engine.open(pid, "proc/uptime").render().startswith(uptime)
        engine.close()


@layouts
@pytest.mark.parametrize("pid", [0, -1, 99_999])
def test_unknown_caller_gets_the_hosts_file(scratch: Path, layout: Layout, pid: int) -> None:
    container = Container(levels=(POD, OWN))
    with fresh(scratch) as folder:
        tree = build(folder, layout, HOST, container)
        engine = Engine(**tree.roots)
        for name in ("meminfo", "stat", "uptime", "cpuinfo", "swaps", "loadavg", "diskstats", "partitions"):
            view = engine.open(pid, f"proc/{name}")
            assert view.fallback is not None
            assert view.render() == (folder / "proc" / name).read_bytes()
        assert sum(count for name, count in engine.counters().items() if name.startswith("fallback")) >= 8
        engine.close()


@pytest.mark.parametrize("layout", [Layout.V1, Layout.HYBRID])
def test_each_v1_controller_has_its_own_path(scratch: Path, layout: Layout) -> None:
    container = Container(
        levels=(Level("pod", memory_max_bytes=100 << 20, cpus=(1,)),),
        first_names={"memory": "m", "cpuset": "s", "cpu": "c"},
    )
    with fresh(scratch) as folder:
        engine = Engine(**build(folder, layout, HOST, container).roots)
        assert total_mib(engine, container.pid) == 100
        assert engine.cpus(container.pid) == [1]
        engine.close()


@given(
    name=st.text(
        st.characters(blacklist_characters="/\n\0", blacklist_categories=["Cs"]), min_size=1, max_size=40
    ).filter(lambda name: name not in (".", ".."))
)
def test_any_cgroup_name(scratch: Path, name: str) -> None:
    """mountinfo escapes in octal what /proc/<pid>/cgroup prints as it is."""
    container = Container(
        levels=(Level(name), Level("c", memory_max_bytes=77 << 20)), cgroupns=4_026_532_777, init_below="in"
    )
    with fresh(scratch) as folder:
        engine = Engine(**build(folder, Layout.V2, HOST, container).roots)
        assert total_mib(engine, container.pid) == 77
        engine.close()


@given(comm=st.text(st.characters(blacklist_characters="\0/", blacklist_categories=["Cs"]), max_size=15))
def test_any_name_of_init(scratch: Path, comm: str) -> None:
    """Its start time is found behind whatever name it has."""
    container = Container(levels=(OWN,), comm=comm, start_ticks=99_999_000)
    with fresh(scratch) as folder:
        engine = Engine(**build(folder, Layout.V2, HOST, container).roots)
        assert engine.open(container.pid, "proc/uptime").render().split()[0] == b"10.00"
        engine.close()


def test_recycled_pid_is_another_container(scratch: Path) -> None:
    """The same numbers, another init: nothing of the old one's counters is left."""
    old = Container(levels=(Level("old"),), start_ticks=50_000_000)
    with fresh(scratch) as folder:
        tree = build(folder, Layout.V2, HOST, old)
        engine = Engine(**tree.roots)
        assert engine.open(old.pid, "proc/uptime").render().startswith(b"500000.00 ")
        for pid in (old.init_pid, old.pid):
            for entry in sorted((folder / f"proc/{pid}").rglob("*"), reverse=True):
                entry.rmdir() if entry.is_dir() and not entry.is_symlink() else entry.unlink()
        tree.update(replace(old, levels=(Level("new"),), start_ticks=99_000_000, pidns=old.pidns + 1))
        assert engine.open(old.pid, "proc/uptime").render().startswith(b"10000.00 ")
        engine.close()
