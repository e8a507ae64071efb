"""/proc/meminfo against the oracle, on random hosts and containers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.hosts.build import build, meminfo_lines
from tests.hosts.model import Container, Host, HugePages, Layout, Level
from tests.hosts.trees import fresh
from tests.oracle.meminfo import meminfo
from tests.views.strategies import worlds

pytest.importorskip("procview._fast.engine", reason="the engine is not built")
from procview._fast.engine import Engine


def read(text: str) -> dict[str, int]:
    """Lines by name."""
    return {line.split(":")[0]: int(line.split()[1]) for line in text.splitlines()}


@given(world=worlds(most_cpus=4), swap=st.booleans())
def test_equals_the_oracle(scratch: Path, world: tuple[Layout, Host, Container], swap: bool) -> None:
    layout, host, container = world
    with fresh(scratch) as folder:
        engine = Engine(**build(folder, layout, host, container).roots)
        engine.configure(swap=swap)
        text = engine.open(container.pid, "proc/meminfo").render().decode()
        engine.close()
    assert text.splitlines() == meminfo(host, container, layout, swap=swap).splitlines()
    shown = read(text)
    assert shown.get("MemFree", 0) <= shown["MemTotal"]
    assert shown.get("MemAvailable", 0) <= shown["MemTotal"]
    assert shown.get("SwapFree", 0) <= shown["SwapTotal"]
    assert all(0 <= value < 2**63 for value in shown.values())


def test_limit_shows_at_once(scratch: Path) -> None:
    """``update --memory`` on a running container, at R and at an ancestor."""
    host = Host()
    container = Container(levels=(Level("pod"), Level("c", memory_max_bytes=512 << 20, memory_current_bytes=12 << 20)))
    with fresh(scratch) as folder:
        tree = build(folder, Layout.V2, host, container)
        engine = Engine(**tree.roots)
        view = engine.open(container.pid, "proc/meminfo")
        assert read(view.render().decode())["MemTotal"] == 512 << 10
        assert read(view.render().decode())["MemFree"] == 500 << 10
        tree.write(tree.cgroup_file(container, "memory", "memory.max"), f"{256 << 20}\n")
        assert read(view.render().decode())["MemTotal"] == 256 << 10
        tree.write(tree.cgroup_file(container, "memory", "memory.max", level=0), f"{128 << 20}\n")
        assert read(view.render().decode())["MemTotal"] == 128 << 10
        engine.close()


def test_use_by_a_sibling_of_a_shared_limit_shows_as_used(scratch: Path) -> None:
    """The pod is nearly full although the container itself uses little."""
    pod = Level("pod", memory_max_bytes=1 << 30, memory_current_bytes=1000 << 20)
    container = Container(levels=(pod, Level("c", memory_current_bytes=10 << 20)))
    with fresh(scratch) as folder:
        engine = Engine(**build(folder, Layout.V1, Host(), container).roots)
        shown = read(engine.open(container.pid, "proc/meminfo").render().decode())
        assert (shown["MemTotal"], shown["MemFree"]) == (1 << 20, 24 << 10)
        engine.close()


PAGE = 2 << 20
NAMES = ("HugePages_Total", "HugePages_Free", "HugePages_Rsvd", "HugePages_Surp", "Hugepagesize", "Hugetlb")


def huge(engine: Engine, container: Container) -> list[int]:
    shown = read(engine.open(container.pid, "proc/meminfo").render().decode())
    return [shown[name] for name in NAMES]


@pytest.mark.parametrize("layout", list(Layout))
def test_huge_pages(scratch: Path, layout: Layout) -> None:
    """By hand, of the host's 64 (32 free): 20 by the pod's limit, 3 used, 5 reserved of which 2 are not used yet; a
    sibling has 4 of the pod's.
    """
    pod = Level("pod", huge_pages=HugePages(max_bytes=20 * PAGE + 1, current_bytes=7 * PAGE))
    own = Level("c", huge_pages=HugePages(max_bytes=30 * PAGE, current_bytes=3 * PAGE, rsvd_current_bytes=5 * PAGE))
    container = Container(levels=(pod, own))
    with fresh(scratch) as folder:
        engine = Engine(**build(folder, layout, Host(), container).roots)
        assert huge(engine, container) == [20, 13, 2, 0, 2048, 20 * 2048]
        engine.close()


@pytest.mark.parametrize("layout", list(Layout))
def test_a_limit_on_reservations_is_a_limit(scratch: Path, layout: Layout) -> None:
    """A program can map no more than that: 10 by the pod, 6 of them reserved by the container (2 used) and 1 by
    another, so 3 are left to reserve, and with the own 4 that are not used yet 7 are free.
    """
    pod = Level(
        "pod", huge_pages=HugePages(rsvd_max_bytes=10 * PAGE, current_bytes=2 * PAGE, rsvd_current_bytes=7 * PAGE)
    )
    own = Level("c", huge_pages=HugePages(current_bytes=2 * PAGE, rsvd_current_bytes=6 * PAGE))
    container = Container(levels=(pod, own))
    with fresh(scratch) as folder:
        engine = Engine(**build(folder, layout, Host(), container).roots)
        assert huge(engine, container) == [10, 7, 4, 0, 2048, 10 * 2048]
        engine.close()


@pytest.mark.parametrize("layout", [Layout.V2, Layout.V1])
def test_huge_pages_of_several_sizes(scratch: Path, layout: Layout) -> None:
    """Hugetlb is the sum: 64 of 2 MB, which nobody limits, and of the host's eight of 1 GB two. The other lines are
    about the default size.
    """
    host = Host(more_huge_pages=((1 << 20, 8),))
    pages = {1 << 20: HugePages(max_bytes=(2 << 30) + 5)}
    container = Container(levels=(Level("pod", more_huge_pages=pages), Level("c", huge_pages=HugePages())))
    with fresh(scratch) as folder:
        engine = Engine(**build(folder, layout, host, container).roots)
        assert huge(engine, container) == [64, 32, 0, 0, 2048, 64 * 2048 + 2 * (1 << 20)]
        engine.close()


def test_a_limit_on_huge_pages_above_counts_where_the_controller_does_not_reach_down(scratch: Path) -> None:
    """Usage is the host's then (4 reserved), as far as the limit leaves it, and is said to be."""
    pod = Level("pod", huge_pages=HugePages(max_bytes=5 * PAGE, current_bytes=2 * PAGE))
    container = Container(levels=(pod, Level("c", absent=frozenset({"hugetlb"}))), memory_stat={"anon": 1})
    with fresh(scratch) as folder:
        engine = Engine(**build(folder, Layout.V2, Host(), container).roots)
        assert huge(engine, container) == [5, 3, 3, 0, 2048, 5 * 2048]
        assert engine.absent_controllers() == ["hugetlb"]
        engine.close()


def test_without_a_controller_huge_pages_are_the_hosts(scratch: Path) -> None:
    container = Container(levels=(Level("c", absent=frozenset({"hugetlb"})),))
    with fresh(scratch) as folder:
        engine = Engine(**build(folder, Layout.V2, Host(), container).roots)
        assert huge(engine, container) == [64, 32, 4, 2, 2048, 64 * 2048]
        engine.close()


def test_huge_pages_of_a_kernel_whose_meminfo_does_not_sum_them_up(scratch: Path) -> None:
    """Older ones have no line Hugetlb: that is not a host without huge pages."""
    host = Host()
    lines = tuple(line for line in meminfo_lines(host) if line.name != "Hugetlb")
    container = Container(levels=(Level("c", huge_pages=HugePages(max_bytes=3 * PAGE)),))
    with fresh(scratch) as folder:
        engine = Engine(**build(folder, Layout.V1, replace(host, meminfo=lines), container).roots)
        shown = read(engine.open(container.pid, "proc/meminfo").render().decode())
        assert (shown["HugePages_Total"], shown["HugePages_Free"]) == (3, 3)
        engine.close()
