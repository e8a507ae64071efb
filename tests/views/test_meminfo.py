"""/proc/meminfo against the oracle, on random hosts and containers."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.hosts.build import build
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


@pytest.mark.parametrize("layout", list(Layout))
def test_huge_pages(scratch: Path, layout: Layout) -> None:
    """By hand, of the host's 64 (32 free): 20 by the pod's limit, 3 used, 5 reserved of which 2 are not used yet."""
    page = 2 << 20
    pod = Level("pod", huge_pages=HugePages(max_bytes=20 * page + 1))
    own = Level("c", huge_pages=HugePages(max_bytes=30 * page, current_bytes=3 * page, rsvd_current_bytes=5 * page))
    container = Container(levels=(pod, own))
    with fresh(scratch) as folder:
        engine = Engine(**build(folder, layout, Host(), container).roots)
        shown = read(engine.open(container.pid, "proc/meminfo").render().decode())
        engine.close()
    names = ("HugePages_Total", "HugePages_Free", "HugePages_Rsvd", "HugePages_Surp", "Hugepagesize", "Hugetlb")
    assert [shown[name] for name in names] == [20, 17, 2, 0, 2048, 20 * 2048]
