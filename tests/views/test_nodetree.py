"""/sys/devices/system/node against the oracle, and what holds for the memory on each node."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.hosts.build import Tree, build
from tests.hosts.known import WEB
from tests.hosts.model import PAGE_BYTES, Container, Host, Layout, Level, MeminfoLine, MemoryNode
from tests.hosts.trees import fresh
from tests.oracle.meminfo import values
from tests.oracle.nodetree import CPU_TOP, TOP, links, memory_nodes, node_tree, nodes
from tests.views.strategies import worlds

pytest.importorskip("procview._fast.engine", reason="the engine is not built")
from procview._fast.engine import Engine

MIB = 1 << 20
KEYS = ("anon", "file", "kernel_stack", "pagetables", "slab_reclaimable", "slab_unreclaimable", "inactive_anon",
        "active_anon", "inactive_file", "active_file", "shmem", "file_mapped")  # fmt: skip


@st.composite
def numa_worlds(draw: st.DrawFn) -> tuple[Layout, Host, Container]:
    """Two or more nodes, some without CPUs, some without memory; some not in the container's cpuset."""
    layout, host, container = draw(worlds(most_cpus=20, cpu_folders=True))
    count = draw(st.integers(1, 5))
    where = [draw(st.integers(0, count - 1)) for _ in range(max(host.possible_cpus) + 1)]
    step = draw(st.sampled_from([1, 1, 8]))  # as on POWER, where numbers have gaps
    host = replace(
        host,
        nodes=tuple(
            MemoryNode(
                number * step,
                tuple(cpu for cpu in host.online if where[cpu] == number),
                draw(st.one_of(st.integers(0, 2**25), st.sampled_from([0, 4, 2**35]))),
            )
            for number in range(count)
        ),
    )
    numbers = [node.number for node in host.nodes]
    granted = tuple(numbers)
    levels = []
    for level in container.levels:
        if draw(st.booleans()):
            granted = tuple(sorted(draw(st.sets(st.sampled_from(granted), min_size=1))))
        levels.append(replace(level, mems=granted))
    amounts = st.one_of(st.integers(0, 2**30), st.sampled_from([0, 2**40]))
    stat: dict[str, dict[int, int]] = {}
    if draw(st.booleans()):
        names = KEYS if layout.is_v2 else ("hierarchical_total", "hierarchical_anon", "hierarchical_file", "total")
        stat = {name: {number: draw(amounts) for number in numbers} for name in names}
    return layout, host, replace(container, levels=tuple(levels), numa_stat=stat)


def lines(text: str) -> dict[str, int]:
    return {match[1]: int(match[2]) for match in re.finditer(r"^Node \d+ ([^:]+): +(\d+)", text, re.MULTILINE)}


def show(tree: Tree, container: Container, path: str) -> str:
    engine = Engine(**tree.roots)
    try:
        return engine.open(container.pid, path).render().decode()
    finally:
        engine.close()


@settings(max_examples=40)
@given(world=numa_worlds())
def test_equals_the_oracle(scratch: Path, world: tuple[Layout, Host, Container]) -> None:
    layout, host, container = world
    with fresh(scratch) as folder:
        engine = Engine(**build(folder, layout, host, container).roots)
        expected = node_tree(host, container)
        assert {path: engine.open(container.pid, path).render().decode() for path in expected} == expected
        found = set()
        for top in (TOP, CPU_TOP):
            for name in engine.listdir(container.pid, top):
                if engine.kind(container.pid, f"{top}/{name}") == "dir":
                    below = [f"{top}/{name}/{below}" for below in engine.listdir(container.pid, f"{top}/{name}")]
                    found |= {path for path in below if engine.kind(container.pid, path) == "link"}
        assert found == links(host, container)
        count = len(nodes(host, container))
        assert [name for name in engine.listdir(container.pid, TOP) if name[-1].isdigit()] == [
            f"node{number}" for number in range(count)
        ]
        for path in (f"node{count}", "node", "node00", "node-1", f"node{count}/meminfo", "power", "node0/vmstat",
                     "node0/compact", "node0/hugepages", "node0/cpu99999999", "node0/../../cpu"):  # fmt: skip
            with pytest.raises(FileNotFoundError):
                engine.kind(container.pid, f"{TOP}/{path}")
        engine.close()


@settings(max_examples=60)
@given(world=numa_worlds())
def test_memory_of_the_nodes(scratch: Path, world: tuple[Layout, Host, Container]) -> None:
    """The sums are /proc/meminfo's, no node has more than the host's, and nothing is used that is not there."""
    layout, host, container = world
    whole = values(host, container, layout)
    mine = nodes(host, container)
    memory = memory_nodes(host, container)
    sizes = [node.total_kb if node.number in memory else 0 for node in mine]
    with fresh(scratch) as folder:
        engine = Engine(**build(folder, layout, host, container).roots)
        texts = [engine.open(container.pid, f"{TOP}/node{n}/meminfo").render().decode() for n in range(len(mine))]
        engine.close()
    shown = [lines(text) for text in texts]
    for number, text in enumerate(texts):
        assert all(line.startswith(f"Node {number} ") for line in text.splitlines())
    assert all(0 <= node["MemTotal"] <= size for node, size in zip(shown, sizes, strict=True))
    assert sum(node["MemTotal"] for node in shown) == min(whole["MemTotal"], sum(sizes))
    assert all(node["MemFree"] + node["MemUsed"] == node["MemTotal"] for node in shown)
    if whole["MemTotal"] <= sum(sizes) and any(line.name == "MemFree" for line in host.meminfo):
        assert sum(node["MemFree"] for node in shown) == whole.get("MemFree", 0)
    for node in shown:
        for name, value in node.items():
            assert name.startswith("HugePages_") or value <= node["MemTotal"]
        for name in ("Active", "Inactive"):
            assert node[name] == min(node[f"{name}(anon)"] + node[f"{name}(file)"], node["MemTotal"])
        assert node["Mlocked"] == node["Unaccepted"] == node["HugePages_Surp"] == 0
    if not container.numa_stat and whole["MemTotal"] <= sum(sizes):
        there = {line.name for line in host.meminfo}
        for name, line in (("AnonPages", "AnonPages"), ("FilePages", "Cached"), ("Shmem", "Shmem")):
            if line in there and whole.get(line, 0) <= min((node["MemTotal"] for node in shown), default=0):
                assert sum(node[name] for node in shown) == whole.get(line, 0)


TWO = (MemoryNode(0, (0, 1), 12_000_000), MemoryNode(1, (2, 3), 4_000_000))
HOST = Host(
    online=(0, 1, 2, 3),
    nodes=TWO,
    meminfo=(MeminfoLine("MemTotal", 16_000_000), MeminfoLine("MemFree", 1), MeminfoLine("Cached", 1),
             MeminfoLine("AnonPages", 1)),
)  # fmt: skip


def test_memory_by_hand(scratch: Path) -> None:
    """800 MB, a quarter of the host's memory on node 1: 600 and 200. Of 400 used 350 are on node 0 and 30 on node 1,
    so 20 are who knows where: of what is left, 250 and 170, in proportion.
    """
    level = Level("c", memory_max_bytes=800_000 << 10, memory_current_bytes=400_000 << 10)
    counted = {"anon": {0: 300_000 << 10, 1: 20_000 << 10}, "file": {0: 50_000 << 10, 1: 10_000 << 10}}
    container = replace(WEB, levels=(level,), memory_stat={"anon": 1}, numa_stat=counted)
    with fresh(scratch) as folder:
        tree = build(folder, Layout.V2, HOST, container)
        first, second = (lines(show(tree, container, f"{TOP}/node{number}/meminfo")) for number in (0, 1))
    assert (first["MemTotal"], second["MemTotal"]) == (600_000, 200_000)
    assert (first["MemFree"], second["MemFree"]) == (238_096, 161_904)
    assert (first["AnonPages"], second["AnonPages"]) == (300_000, 20_000)
    assert (first["FilePages"], second["FilePages"]) == (50_000, 10_000)


def test_a_container_that_has_nearly_all_on_one_node(scratch: Path) -> None:
    """Its part of node 1 would be 200 MB, and it uses 700 there: that is what it has of it, and node 0 has the rest."""
    level = Level("c", memory_max_bytes=800_000 << 10, memory_current_bytes=710_000 << 10)
    container = replace(
        WEB, levels=(level,), memory_stat={"anon": 1}, numa_stat={"anon": {0: 10_000 << 10, 1: 700_000 << 10}}
    )
    with fresh(scratch) as folder:
        tree = build(folder, Layout.V2, HOST, container)
        first, second = (lines(show(tree, container, f"{TOP}/node{number}/meminfo")) for number in (0, 1))
    assert (first["MemTotal"], first["MemFree"], first["AnonPages"]) == (100_000, 90_000, 10_000)
    assert (second["MemTotal"], second["MemFree"], second["AnonPages"]) == (700_000, 0, 700_000)


def test_on_v1_lines_are_shared_out_by_what_is_counted(scratch: Path) -> None:
    """v1 counts by node in pages, and not what meminfo shows: a third of the file pages are on node 1."""
    stat = {"total_rss": 90 << 20, "total_cache": 60 << 20}
    pages = {"file": {0: 1, 1: 1}, "hierarchical_file": {0: 2000, 1: 1000}, "hierarchical_anon": {0: 0, 1: 9},
             "hierarchical_total": {0: 2000, 1: 1009}}  # fmt: skip
    container = replace(WEB, levels=(Level("c", memory_current_bytes=150 << 20),), memory_stat=stat, numa_stat=pages)
    with fresh(scratch) as folder:
        tree = build(folder, Layout.V1, HOST, container)
        first, second = (lines(show(tree, container, f"{TOP}/node{number}/meminfo")) for number in (0, 1))
    assert (first["FilePages"], second["FilePages"]) == (40 << 10, 20 << 10)
    assert (first["AnonPages"], second["AnonPages"]) == (0, 90 << 10)
    assert first["MemUsed"] >= 2000 * PAGE_BYTES >> 10


@pytest.mark.parametrize("layout", list(Layout))
def test_one_node_has_what_proc_meminfo_says(scratch: Path, layout: Layout) -> None:
    """Whatever is counted on the other: what is in its memory is the container's."""
    level = Level("c", mems=(1,), cpus=(2, 3), memory_max_bytes=100 * MIB, memory_current_bytes=60 * MIB)
    stat = {"anon": 20 * MIB, "file": 30 * MIB} if layout.is_v2 else {"total_rss": 20 * MIB, "total_cache": 30 * MIB}
    counted = {"anon": {0: MIB, 1: 19 * MIB}} if layout.is_v2 else {"hierarchical_total": {0: 1, 1: 12_000}}
    container = replace(WEB, levels=(level,), memory_stat=stat, numa_stat=counted)
    with fresh(scratch) as folder:
        tree = build(folder, layout, HOST, container)
        shown = lines(show(tree, container, f"{TOP}/node0/meminfo"))
        assert show(tree, container, f"{TOP}/online") == "0\n"
        assert show(tree, container, f"{TOP}/node0/cpulist") == "0-1\n"
        assert show(tree, container, f"{TOP}/node0/distance") == "10\n"
    assert [shown[name] >> 10 for name in ("MemTotal", "MemFree", "AnonPages", "FilePages")] == [100, 40, 20, 30]
    assert (shown["HugePages_Total"], shown["HugePages_Free"]) == (0, 0)


def test_without_a_limit_a_node_is_as_large_as_the_hosts(scratch: Path) -> None:
    """Bound to one node of the two: no more than that has, though /proc/meminfo knows of no limit."""
    container = replace(WEB, levels=(Level("c", mems=(1,)),), memory_stat={"anon": MIB})
    with fresh(scratch) as folder:
        tree = build(folder, Layout.V2, HOST, container)
        assert lines(show(tree, container, f"{TOP}/node1/meminfo"))["MemTotal"] == 4_000_000
        # the other is there because CPUs 0 and 1 are in it
        assert lines(show(tree, container, f"{TOP}/node0/meminfo"))["MemTotal"] == 0
        assert show(tree, container, f"{TOP}/has_cpu") == "0-1\n"
        assert show(tree, container, f"{TOP}/has_memory") == "1\n"


def test_nodes_change_with_the_cpuset(scratch: Path) -> None:
    container = replace(WEB, levels=(Level("c", cpus=(1, 2)),))
    with fresh(scratch) as folder:
        tree = build(folder, Layout.V2, HOST, container)
        engine = Engine(**tree.roots)
        view = engine.open(WEB.pid, f"{TOP}/online")
        assert view.render() == b"0-1\n"
        tree.update(replace(container, levels=(Level("c", cpus=(2,), mems=(1,)),)))
        assert view.render() == b"0\n"
        assert engine.listdir(WEB.pid, f"{TOP}/node0")[:2] == ["cpu0", "cpulist"]
        with pytest.raises(FileNotFoundError):
            engine.open(WEB.pid, f"{TOP}/node1/meminfo")
        engine.close()


def test_a_host_without_numa_has_no_such_tree(scratch: Path) -> None:
    with fresh(scratch) as folder:
        engine = Engine(**build(folder, Layout.V2, Host(), WEB).roots)
        for path in (TOP, f"{TOP}/online", f"{TOP}/node0", f"{CPU_TOP}/cpu0/node0"):
            with pytest.raises(FileNotFoundError):
                engine.kind(WEB.pid, path)
        with pytest.raises(FileNotFoundError):
            engine.listdir(WEB.pid, TOP)
        assert "node" not in engine.listdir(WEB.pid, "sys/devices/system")
        engine.close()


def test_an_unknown_caller_has_the_hosts_tree(scratch: Path) -> None:
    """Under the host's own numbers."""
    host = replace(HOST, nodes=(TWO[0], replace(TWO[1], number=8)))
    with fresh(scratch) as folder:
        engine = Engine(**build(folder, Layout.V2, host, WEB).roots)
        assert [name for name in engine.listdir(0, TOP) if name[-1].isdigit()] == ["node0", "node8"]
        assert engine.open(0, f"{TOP}/online").render() == b"0,8\n"
        for name in ("meminfo", "cpulist", "numastat"):
            path = f"{TOP}/node8/{name}"
            assert engine.open(0, path).render() == (folder / path).read_bytes()
        assert engine.kind(0, f"{TOP}/node8/cpu2") == "link"
        assert engine.listdir(WEB.pid, "sys/devices/system") == ["cpu", "node"]
        engine.close()


def test_in_the_root_cgroup_memory_is_the_hosts(scratch: Path) -> None:
    with fresh(scratch) as folder:
        container = replace(WEB, levels=())
        tree = build(folder, Layout.V2, HOST, container)
        path = f"{TOP}/node1/meminfo"
        assert show(tree, container, path) == (folder / path).read_text()


def test_links_are_not_to_be_opened(scratch: Path) -> None:
    with fresh(scratch) as folder:
        engine = Engine(**build(folder, Layout.V2, HOST, WEB).roots)
        for path in (f"{TOP}/node0/cpu0", f"{CPU_TOP}/cpu0/node0"):
            with pytest.raises(OSError, match="symbolic links"):
                engine.open(WEB.pid, path)
        engine.close()
