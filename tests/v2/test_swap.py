"""Swap with limits: a program that does not fit into its memory is pushed out, and every view tells how far."""

import pytest

from tests.containers.cgroups import Limits
from tests.containers.conftest import Start
from tests.containers.served import Daemon
from tests.v2.conftest import NewGroup, StartInside
from tests.v2.groups import Group
from tests.v2.inside import MIB, Inside, settled

MEMORY_BYTES = 32 * MIB
HIGH_BYTES = 24 * MIB
"""From here on the kernel makes a program wait for what is swapped out; at the limit itself it would kill it soon."""
SWAP_BYTES = 48 * MIB
TAKEN_BYTES = 56 * MIB

_FILL = f"""
import mmap
memory = mmap.mmap(-1, {TAKEN_BYTES}, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
memory.madvise(mmap.MADV_NOHUGEPAGE)
# Something in each page: recent kernels do not write a page of zeros.
for offset in range(0, {TAKEN_BYTES}, mmap.PAGESIZE): memory[offset] = 1
"""
_READ_ALL = "result = sum(memory[offset] for offset in range(0, len(memory), mmap.PAGESIZE))"


@pytest.fixture
def group(new_group: NewGroup, host_swap_bytes: int) -> Group:
    if host_swap_bytes < 2 * SWAP_BYTES:
        pytest.skip(f"this machine has only {host_swap_bytes >> 20} MiB of swap")
    return new_group(memory_max=MEMORY_BYTES, memory_high=HIGH_BYTES, memory_swap_max=SWAP_BYTES)


@pytest.fixture
def inside(group: Group, start_inside: StartInside) -> Inside:
    """With a program that has been pushed out in part."""
    inside = start_inside(group)
    inside.do(_FILL)
    return inside


def _swap(inside: Inside, group: Group) -> tuple[int, dict[str, int]]:
    """What the cgroup has in swap, in kB, and meminfo."""
    current, shown = settled(lambda: group.number("memory.swap.current"), inside.meminfo)
    return current >> 10, shown


def test_a_program_that_was_pushed_out_shows_as_used_swap(inside: Inside, group: Group) -> None:
    used_kb, shown = _swap(inside, group)
    assert used_kb > (TAKEN_BYTES - MEMORY_BYTES) >> 10
    assert shown["SwapTotal"] == SWAP_BYTES >> 10
    assert shown["SwapTotal"] - shown["SwapFree"] == used_kb
    assert shown["Committed_AS"] == shown["AnonPages"] + shown["Shmem"] + used_kb
    assert shown["CommitLimit"] >= shown["SwapTotal"]


def test_the_table_of_swap_areas_has_one_with_what_is_used(inside: Inside, group: Group) -> None:
    used, text = settled(lambda: group.number("memory.swap.current"), lambda: inside.read("proc/swaps"))
    header, *areas = text.splitlines()
    assert header.split() == ["Filename", "Type", "Size", "Used", "Priority"]
    assert [area.split() for area in areas] == [["none", "virtual", str(SWAP_BYTES >> 10), str(used >> 10), "0"]]


def test_pages_that_are_read_back_show_as_cached_swap(inside: Inside, group: Group) -> None:
    # Half of it, or the kernel frees the places of what it reads back, as its swap is nearly full.
    group.write("memory.swap.max", 2 * SWAP_BYTES)
    inside.do(_READ_ALL)
    cached, shown = settled(lambda: group.table("memory.stat")["swapcached"], inside.meminfo)
    assert shown["SwapCached"] == cached >> 10
    assert shown["SwapCached"] > 0


def test_swap_that_is_given_back_is_free_again(inside: Inside, group: Group) -> None:
    inside.do("memory.close()")
    used_kb, shown = _swap(inside, group)
    assert shown["SwapTotal"] - shown["SwapFree"] == used_kb
    assert used_kb < 8 << 10


def test_more_in_swap_than_its_limit_leaves_none_free(inside: Inside, group: Group) -> None:
    """The kernel takes nothing back when a limit is lowered below what is in use."""
    group.write("memory.high", "max")
    group.write("memory.max", 4 * MEMORY_BYTES)  # or it would be killed, as nothing more can be swapped out
    group.write("memory.swap.max", 4 * MIB)
    used_kb, shown = _swap(inside, group)
    assert used_kb > 4 << 10
    assert shown["SwapTotal"] == 4 << 10
    assert shown["SwapFree"] == 0
    area = inside.read("proc/swaps").splitlines()[1].split()
    assert area[2:4] == ["4096", "4096"]


def test_without_a_limit_on_swap_its_total_is_the_hosts(group: Group, inside: Inside, host_swap_bytes: int) -> None:
    group.write("memory.swap.max", "max")
    used_kb, shown = _swap(inside, group)
    assert shown["SwapTotal"] == host_swap_bytes >> 10
    assert shown["SwapFree"] == shown["SwapTotal"] - used_kb


def test_a_limit_of_zero_is_no_swap_at_all(new_group: NewGroup, start_inside: StartInside, group: Group) -> None:
    assert group.has("memory.swap.max")
    inside = start_inside(new_group(memory_max=MEMORY_BYTES, memory_swap_max=0))
    shown = inside.meminfo()
    assert (shown["SwapTotal"], shown["SwapFree"], shown["SwapCached"]) == (0, 0, 0)
    assert len(inside.read("proc/swaps").splitlines()) == 1


def test_free_and_vmstat_tell_what_is_in_swap(start_unshare: Start, group: Group, daemon: Daemon) -> None:
    container = start_unshare(Limits(memory_bytes=MEMORY_BYTES, swap_bytes=SWAP_BYTES))
    own = Group(container.cgroup.directories["memory"])
    own.write("memory.high", group.read("memory.high"))
    inside = Inside.join(container, daemon.mount)
    try:
        inside.do(_FILL)
        free = container.output(["free", "-b"])
        total, used, left = (int(word) for word in free.splitlines()[2].split()[1:4])
        assert total == SWAP_BYTES
        assert used + left == total
        assert abs(used - own.number("memory.swap.current")) < 2 * MIB
        vmstat = container.output(["vmstat"]).splitlines()
        swapped_kb = int(vmstat[2].split()[vmstat[1].split().index("swpd")])
        assert abs(swapped_kb - (own.number("memory.swap.current") >> 10)) < 2048
    finally:
        inside.stop()
