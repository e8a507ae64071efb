"""Section 11: what other implementations get wrong. One test for each of its points, under its name.

Three points have no meaning on a fixture tree and are tested where there is a mount or a real container: two threads
that read one descriptor at different offsets (here only: two threads that render one open file), a reader at an offset
past the end, and Yama's ptrace_scope=3.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from tests.hosts.build import Tree, build
from tests.hosts.known import SYSTEM_DISK, WEB
from tests.hosts.model import Container, Host, Layout, Level
from tests.hosts.trees import fresh

pytest.importorskip("procview._fast.engine", reason="the engine is not built")
from procview._fast.engine import Engine

HOST = Host(online=(0, 1, 2, 3), disks=(SYSTEM_DISK,), swap_total_kb=1_000_000, swap_free_kb=900_000)


def show(tree: Tree, container: Container, path: str) -> str:
    engine = Engine(**tree.roots)
    text = engine.open(container.pid, path).render().decode()
    engine.close()
    return text


def meminfo(tree: Tree, container: Container) -> dict[str, int]:
    return {line.split(":")[0]: int(line.split()[1]) for line in show(tree, container, "proc/meminfo").splitlines()}


def test_diskstats_are_the_containers_on_v2(scratch: Path) -> None:
    with fresh(scratch) as folder:
        tree = build(folder, Layout.V2, HOST, WEB)
        words = show(tree, WEB, "proc/diskstats").split()
        assert words[:3] == ["254", "0", "sda"]
        assert [int(word) for word in words[3:11]] == [321, 0, 12_345_856 // 512, 0, 7, 0, 4096 * 7 // 512, 0]


def test_stat_cpu_times_are_the_containers_on_v2(scratch: Path) -> None:
    with fresh(scratch) as folder:
        tree = build(folder, Layout.V2, HOST, WEB)
        assert show(tree, WEB, "proc/stat").split()[1:4] == ["7000", "12", "500"]


def test_pressure_io_is_the_containers_on_v2(scratch: Path) -> None:
    with fresh(scratch) as folder:
        tree = build(folder, Layout.V2, HOST, WEB)
        tree.write("proc/pressure/io", "some avg10=99.00 avg60=99.00 avg300=99.00 total=99\n")
        assert show(tree, WEB, "proc/pressure/io") == WEB.pressure["io"]


@pytest.mark.parametrize("layout", list(Layout))
def test_uptime_idle_is_not_uptime(scratch: Path, layout: Layout) -> None:
    """Four idle CPUs for 10,000 s, less what was used and stolen."""
    container = replace(
        WEB, cpu=replace(WEB.cpu, per_cpu_ns=((0, 0), (75 * 10**9, 0), (0, 0), (0, 0)), throttled_usec=0)
    )
    with fresh(scratch) as folder:
        up, idle = show(build(folder, layout, HOST, container), container, "proc/uptime").split()
        assert up == "10000.00"
        assert float(idle) == pytest.approx(4 * 10_000 - 75, abs=0.3)


def test_mapped_dirty_writeback_and_huge_pages_are_not_always_0(scratch: Path) -> None:
    keys = {"file_mapped": 1, "file_dirty": 2, "file_writeback": 3, "anon_thp": 4}
    container = replace(WEB, memory_stat={key: number << 20 for key, number in keys.items()})
    with fresh(scratch) as folder:
        shown = meminfo(build(folder, Layout.V2, HOST, container), container)
        assert [shown[name] >> 10 for name in ("Mapped", "Dirty", "Writeback", "AnonHugePages")] == [1, 2, 3, 4]


@pytest.mark.parametrize("layout", list(Layout))
def test_swapfree_and_memfree_do_not_wrap(scratch: Path, layout: Layout) -> None:
    """More used than the limit allows, as after the limit was lowered."""
    level = Level(
        "c",
        memory_max_bytes=100 << 20,
        memory_current_bytes=150 << 20,
        swap_max_bytes=10 << 20,
        swap_current_bytes=20 << 20,
        memsw_max_bytes=110 << 20,
        memsw_current_bytes=180 << 20,
    )
    container = replace(WEB, levels=(level,))
    with fresh(scratch) as folder:
        shown = meminfo(build(folder, layout, HOST, container), container)
        assert (shown["MemTotal"], shown["MemFree"]) == (100 << 10, 0)
        assert (shown["SwapTotal"], shown["SwapFree"]) == (10 << 10, 0)


def test_an_init_named_with_a_space_has_no_negative_uptime(scratch: Path) -> None:
    container = replace(WEB, comm="my init (1) x")
    with fresh(scratch) as folder:
        assert show(build(folder, Layout.V2, HOST, container), container, "proc/uptime").startswith("10000.00 ")


@pytest.mark.parametrize("layout", list(Layout))
def test_cpuinfo_and_stat_have_the_same_numbers(scratch: Path, layout: Layout) -> None:
    container = replace(WEB, levels=(Level("c", cpus=(1, 3)),))
    with fresh(scratch) as folder:
        tree = build(folder, layout, HOST, container)
        stat = [line.split()[0] for line in show(tree, container, "proc/stat").splitlines() if line.startswith("cpu")]
        cpuinfo = [
            line.split()[2]
            for line in show(tree, container, "proc/cpuinfo").splitlines()
            if line.startswith("processor")
        ]
        assert stat == ["cpu", "cpu0", "cpu1"]
        assert cpuinfo == ["0", "1"]


def test_the_whole_cpu_tree_is_scoped(scratch: Path) -> None:
    """Not ``online`` alone."""
    container = replace(WEB, levels=(Level("c", cpus=(1, 3)),))
    top = "sys/devices/system/cpu"
    with fresh(scratch) as folder:
        tree = build(folder, Layout.V2, HOST, container)
        assert [show(tree, container, f"{top}/{name}") for name in ("online", "possible", "present", "offline")] == [
            "0-1\n", "0-1\n", "0-1\n", "\n"]  # fmt: skip
        engine = Engine(**tree.roots)
        folders = [name for name in engine.listdir(container.pid, top) if name[-1].isdigit()]
        engine.close()
        assert folders == ["cpu0", "cpu1"]
        assert show(tree, container, f"{top}/cpu1/topology/core_siblings_list") == "1\n"


def test_swap_of_100_gb_is_not_cut(scratch: Path) -> None:
    host = replace(HOST, swap_total_kb=137_438_953_472, swap_free_kb=137_438_953_472)
    container = replace(WEB, levels=(Level("c", swap_current_bytes=123_456_789 << 10),))
    with fresh(scratch) as folder:
        tree = build(folder, Layout.V2, host, container)
        assert show(tree, container, "proc/swaps").splitlines()[1].split() == [
            "none", "virtual", "137438953472", "123456789", "0"]  # fmt: skip
        assert meminfo(tree, container)["SwapFree"] == 137_438_953_472 - 123_456_789


def test_two_threads_rendering_one_open_file_do_not_race(scratch: Path) -> None:
    with fresh(scratch) as folder:
        tree = build(folder, Layout.V2, HOST, WEB)
        engine = Engine(**tree.roots)
        for name in ("meminfo", "stat", "cpuinfo", "diskstats"):
            view = engine.open(WEB.pid, f"proc/{name}")
            expected = view.render()
            with ThreadPoolExecutor(4) as threads:
                assert set(threads.map(lambda _, view=view: view.render(), range(400))) == {expected}
        engine.close()
