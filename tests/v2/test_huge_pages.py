"""Huge pages of a pool, with a limit: HugePages_* and Hugetlb."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.v2.conftest import NewGroup, StartInside
from tests.v2.groups import ROOT, Group

SIZE_KB = 2048
POOL = 6
LIMIT = 4
_POOL_FILE = Path(f"/sys/kernel/mm/hugepages/hugepages-{SIZE_KB}kB/nr_hugepages")


@pytest.fixture
def pool() -> Iterator[None]:
    """A few huge pages for this test; what the machine has already stays."""
    if not _POOL_FILE.exists() or "hugetlb" not in Group(ROOT).read("cgroup.controllers").split():
        pytest.skip("this kernel has no huge pages of 2 MiB with limits for cgroups")
    default = next(
        line for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines() if "pagesize" in line
    )
    if default.split()[1] != str(SIZE_KB):
        pytest.skip(f"this machine's {default}")
    before = _POOL_FILE.read_text(encoding="ascii").strip()
    if before != "0":
        pytest.skip("this machine has huge pages in use")
    _POOL_FILE.write_text(str(POOL), encoding="ascii")
    try:
        if _POOL_FILE.read_text(encoding="ascii").strip() != str(POOL):
            pytest.skip(f"this machine's memory has no room for {POOL} huge pages")
        yield
    finally:
        _POOL_FILE.write_text(before, encoding="ascii")


_TAKE = f"""
import mmap
MAP_HUGETLB = 0x40000
memory = mmap.mmap(-1, 3 * {SIZE_KB << 10}, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_HUGETLB)
for page in range(2): memory[page * {SIZE_KB << 10}] = 1
"""


@pytest.mark.usefixtures("pool")
def test_the_limit_is_the_total_and_what_was_touched_is_not_free(
    new_group: NewGroup, start_inside: StartInside
) -> None:
    group = new_group(hugetlb_2MB_max=LIMIT * SIZE_KB << 10)
    inside = start_inside(group)
    shown = inside.meminfo()
    assert (shown["HugePages_Total"], shown["HugePages_Free"], shown["HugePages_Surp"]) == (LIMIT, LIMIT, 0)
    assert shown["Hugetlb"] == LIMIT * SIZE_KB
    inside.do(_TAKE)
    assert group.number("hugetlb.2MB.current") == 2 * SIZE_KB << 10
    shown = inside.meminfo()
    assert (shown["HugePages_Total"], shown["HugePages_Free"]) == (LIMIT, LIMIT - 2)
    inside.do("memory.close()")
    assert inside.meminfo()["HugePages_Free"] == LIMIT


@pytest.mark.usefixtures("pool")
def test_without_a_limit_the_total_is_the_pool(new_group: NewGroup, start_inside: StartInside) -> None:
    shown = start_inside(new_group()).meminfo()
    assert (shown["HugePages_Total"], shown["HugePages_Free"]) == (POOL, POOL)
    assert shown["Hugetlb"] == POOL * SIZE_KB


@pytest.mark.usefixtures("pool")
def test_the_smallest_limit_above_counts(new_group: NewGroup, start_inside: StartInside) -> None:
    top = new_group(hugetlb_2MB_max=2 * SIZE_KB << 10)
    group = top.make("container")
    group.write("hugetlb.2MB.max", LIMIT * SIZE_KB << 10)
    assert start_inside(group).meminfo()["HugePages_Total"] == 2
    assert start_inside(new_group(hugetlb_2MB_max=0)).meminfo()["HugePages_Total"] == 0
