"""/proc/vmstat against the oracle; what it never does; and what ``vmstat`` makes of it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.hosts.build import VMSTAT_NAMES, build, vmstat_lines
from tests.hosts.known import SYSTEM_DISK, WEB
from tests.hosts.model import Container, DeviceIo, Disk, Host, Layout, Level
from tests.hosts.trees import fresh
from tests.oracle.vmstat import vmstat
from tests.views.strategies import U64_MAX, device_ios, disks, worlds

pytest.importorskip("procview._fast.engine", reason="the engine is not built")
from procview._fast.engine import Engine, View

EVENTS = ("pgfault", "pgmajfault", "pgscan_kswapd", "pgsteal_direct", "pgactivate", "workingset_refault_anon",
          "workingset_nodereclaim", "pswpin", "pswpout", "thp_fault_alloc", "zswpout", "swpout_zero",
          "pgdemote_direct", "numa_hint_faults")  # fmt: skip
"""Some that memory.stat of one kernel or another counts."""


def lines(text: bytes) -> dict[str, int]:
    return {name: int(value) for name, value in (line.split() for line in text.decode().splitlines())}


def read(view: View) -> dict[str, int]:
    return lines(view.render())


@given(world=worlds(most_cpus=4), data=st.data())
def test_equals_the_oracle(scratch: Path, world: tuple[Layout, Host, Container], data: st.DataObject) -> None:
    layout, host, container = world
    counts = st.one_of(st.integers(0, 10**9), st.sampled_from([0, 2**32, U64_MAX]))
    events: Mapping[str, int] = data.draw(st.dictionaries(st.sampled_from(EVENTS), counts))
    prefix = "" if layout.is_v2 else "total_"
    devices = data.draw(disks())
    stacked = Disk("dm-0", 253, 0, 1000, sysfs_dir="virtual/block", stacked_as=data.draw(st.sampled_from(["dm", "md"])))
    host = replace(
        host,
        disks=(*devices, stacked),
        transparent_huge_page_bytes=data.draw(st.sampled_from([None, 2 << 20, 1 << 20, 512 << 20])),
        vmstat=tuple(
            (name, data.draw(st.sampled_from([value, 3, 0])))
            for name, value in vmstat_lines(host)
            if data.draw(st.integers(0, 9))
        ),
    )
    container = replace(
        container,
        memory_stat={**container.memory_stat, **{f"{prefix}{name}": value for name, value in events.items()}},
        oom_kills=data.draw(st.one_of(st.none(), counts)),
        io=data.draw(device_ios(host.disks)),
    )
    with fresh(scratch) as folder:
        engine = Engine(**build(folder, layout, host, container).roots)
        text = engine.open(container.pid, "proc/vmstat").render()
        engine.close()
    assert list(lines(text).items()) == list(vmstat(host, container, layout).items())


def test_no_number_of_the_host_is_shown(scratch: Path) -> None:
    """Not one of a hundred: of what it does a container learns nothing."""
    container = replace(WEB, memory_stat={"anon": 4 << 20}, io=())
    host = Host(disks=(SYSTEM_DISK,))
    with fresh(scratch) as folder:
        engine = Engine(**build(folder, Layout.V2, host, container).roots)
        shown = read(engine.open(container.pid, "proc/vmstat"))
        engine.close()
    assert list(shown) == VMSTAT_NAMES
    mine = {name: value for name, value in shown.items() if value}
    total = 16_384_000 // 4
    assert mine == {
        "nr_free_pages": total, "nr_anon_pages": 1024, "nr_dirty_threshold": total,
        "nr_dirty_background_threshold": total,
    }  # fmt: skip


def test_on_v1_pages_charged_are_not_taken_for_blocks_read(scratch: Path) -> None:
    """memory.stat has pgpgin and pgpgout there, and means something else; so had it no I/O controller."""
    stat = {"total_rss": 0, "total_pgpgin": 4_000_000, "total_pgpgout": 3_000_000, "total_pgfault": 17, "pgfault": 3}
    container = replace(WEB, memory_stat=stat, io=(DeviceIo(254, 0, rbytes=10 << 10, wbytes=(7 << 10) + 1023),))
    with fresh(scratch) as folder:
        engine = Engine(**build(folder, Layout.V1, Host(disks=(SYSTEM_DISK,)), container).roots)
        shown = read(engine.open(container.pid, "proc/vmstat"))
        engine.close()
    assert (shown["pgpgin"], shown["pgpgout"], shown["pgfault"]) == (10, 7, 17)


@pytest.mark.parametrize("layout", [Layout.V2, Layout.V1])
def test_what_goes_through_a_device_mapper_is_counted_once(scratch: Path, layout: Layout) -> None:
    crypt = Disk("dm-0", 253, 0, 1 << 20, sysfs_dir="virtual/block", stacked_as="dm")
    raid = Disk("md0", 9, 0, 1 << 20, sysfs_dir="virtual/block", stacked_as="md")
    done = tuple(DeviceIo(major, 0, rbytes=5 << 20, wbytes=1 << 20) for major in (9, 253, 254))
    with fresh(scratch) as folder:
        host = Host(disks=(SYSTEM_DISK, crypt, raid))
        engine = Engine(**build(folder, layout, host, replace(WEB, io=done)).roots)
        shown = read(engine.open(WEB.pid, "proc/vmstat"))
        engine.close()
    assert (shown["pgpgin"], shown["pgpgout"]) == (5 << 10, 1 << 10)


def test_counters_never_go_back(scratch: Path) -> None:
    """Not by a disk that is taken out, nor by a cgroup that is made anew; after that they count on."""

    def container(faults: int, read_bytes: int) -> Container:
        return replace(WEB, memory_stat={"anon": 1, "pgfault": faults}, io=(DeviceIo(254, 0, rbytes=read_bytes),))

    with fresh(scratch) as folder:
        tree = build(folder, Layout.V2, Host(disks=(SYSTEM_DISK,)), container(1000, 8 << 10))
        engine = Engine(**tree.roots)
        view = engine.open(WEB.pid, "proc/vmstat")
        assert (read(view)["pgfault"], read(view)["pgpgin"]) == (1000, 8)
        tree.update(container(1001, 0))
        assert (read(view)["pgfault"], read(view)["pgpgin"]) == (1001, 8)
        tree.update(container(1005, 9 << 10))
        assert (read(view)["pgfault"], read(view)["pgpgin"]) == (1005, 9)
        moved = replace(container(3, 1 << 10), levels=(Level("other"),))
        tree.update(moved)
        view = engine.open(WEB.pid, "proc/vmstat")
        shown = read(view)
        assert (shown["pgfault"], shown["pgpgin"]) == (1005, 9)
        tree.update(replace(moved, memory_stat={"anon": 1, "pgfault": 10}))
        assert read(view)["pgfault"] == 1012
        engine.close()


@pytest.mark.parametrize("layout", [Layout.V2, Layout.V1])
def test_keys_of_memory_stat_may_come_go_and_change_places(scratch: Path, layout: Layout) -> None:
    """What an engine has learned of its lines shows nothing that one which has just begun does not."""
    anon, file, faults = ("anon", "file", "pgfault") if layout.is_v2 else ("total_rss", "total_cache", "total_pgfault")
    half = {} if layout.is_v2 else {"cache": 9, "pgfault": 9, "hierarchical_memory_limit": 4096}
    shapes: list[dict[str, int]] = [
        {anon: 8 << 20, file: 4 << 20, faults: 10},
        {anon: 9 << 20, file: 123 << 30, faults: 11},
        {file: 5 << 20, anon: 10**19, faults: 12},
        {faults: 13, f"{anon}_more": 7, anon: 3 << 20},
        {f"{anon}{'x' * 60}": 1, file: U64_MAX, faults: 14},
        {faults: 15, anon: 1},
        {anon: 0, file: 4096, faults: 16},
    ]
    with fresh(scratch) as folder:
        tree = build(folder, layout, Host(), replace(WEB, memory_stat={**half, **shapes[0]}))
        engine = Engine(**tree.roots)
        views = {name: engine.open(WEB.pid, f"proc/{name}") for name in ("meminfo", "vmstat")}
        for number, shape in enumerate(shapes):
            own = half if number % 2 else {key: value * 10 ** (number + 1) for key, value in half.items()}
            tree.update(replace(WEB, memory_stat={**own, **shape}))
            with_nothing_learned = Engine(**tree.roots)
            for name, view in views.items():
                assert view.render() == with_nothing_learned.open(WEB.pid, f"proc/{name}").render(), (name, shape)
            assert read(views["vmstat"])["pgfault"] == 10 + number
            with_nothing_learned.close()
        engine.close()


def test_amounts_go_up_and_down(scratch: Path) -> None:
    with fresh(scratch) as folder:
        tree = build(folder, Layout.V2, Host(), replace(WEB, memory_stat={"anon": 8 << 20}))
        engine = Engine(**tree.roots)
        view = engine.open(WEB.pid, "proc/vmstat")
        assert read(view)["nr_anon_pages"] == 2048
        tree.update(replace(WEB, memory_stat={"anon": 4 << 20}))
        assert read(view)["nr_anon_pages"] == 1024
        engine.close()


def test_without_a_memory_controller_lines_are_the_hosts(scratch: Path) -> None:
    """And are said to be; block I/O, which has a controller, is not."""
    level = Level("c", absent=frozenset({"memory"}))
    container = replace(WEB, levels=(level,), io=(DeviceIo(254, 0, rbytes=3 << 10),))
    host = Host(disks=(SYSTEM_DISK,), vmstat=(("nr_anon_pages", 50), ("nr_mlock", 3), ("pgpgin", 5), ("pgfault", 77)))
    with fresh(scratch) as folder:
        engine = Engine(**build(folder, Layout.V2, host, container).roots)
        shown = read(engine.open(WEB.pid, "proc/vmstat"))
        assert shown == {"nr_anon_pages": 50, "nr_mlock": 0, "pgpgin": 3, "pgfault": 77}
        assert engine.absent_controllers() == ["memory"]
        engine.close()


def test_a_host_whose_file_is_odd(scratch: Path) -> None:
    """Empty lines, a name alone, no newline at the end: lines stay lines."""
    with fresh(scratch) as folder:
        tree = build(folder, Layout.V2, Host(), replace(WEB, memory_stat={"anon": 4096, "pgfault": 5}))
        tree.write("proc/vmstat", "nr_anon_pages 99\n\npgfault\npgmajfault 7")
        engine = Engine(**tree.roots)
        assert engine.open(WEB.pid, "proc/vmstat").render() == b"nr_anon_pages 1\n\npgfault 5\npgmajfault 0\n"
        engine.close()


def test_the_root_cgroup_is_the_host(scratch: Path) -> None:
    with fresh(scratch) as folder:
        engine = Engine(**build(folder, Layout.V2, Host(), replace(WEB, levels=())).roots)
        assert engine.open(WEB.pid, "proc/vmstat").render() == (folder / "proc/vmstat").read_bytes()
        engine.close()


def test_a_removed_cgroup_gives_the_hosts_file(scratch: Path) -> None:
    with fresh(scratch) as folder:
        tree = build(folder, Layout.V2, Host(), WEB)
        engine = Engine(**tree.roots)
        view = engine.open(WEB.pid, "proc/vmstat")
        shutil.rmtree(folder / "cgroup/web")
        assert view.render() == (folder / "proc/vmstat").read_bytes()
        assert view.fallback == "unscopable"
        engine.close()
