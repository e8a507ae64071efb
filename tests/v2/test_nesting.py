"""Five cgroups deep: whichever of them has the smallest limit is the one that counts."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.v2.conftest import NewGroup, StartInside
from tests.v2.groups import Group
from tests.v2.inside import MIB, Inside, settled

DEPTH = 5


@pytest.fixture
def levels(new_group: NewGroup) -> list[Group]:
    """From the outermost to the container's own."""
    chain = [new_group()]
    while len(chain) < DEPTH:
        chain.append(chain[-1].make(f"level-{len(chain)}"))
    return chain


@pytest.fixture
def inside(levels: list[Group], start_inside: StartInside) -> Inside:
    return start_inside(levels[-1])


def _each_in_turn(
    levels: list[Group], file: str, large: str | int, small: str | int, check: Callable[[], None]
) -> None:
    """All levels have the large limit and one the small one, each in turn."""
    for level in levels:
        level.write(file, large)
    for tightest in levels:
        tightest.write(file, small)
        check()
        tightest.write(file, large)


def test_the_smallest_memory_limit_is_the_total(inside: Inside, levels: list[Group]) -> None:
    def check() -> None:
        assert inside.meminfo()["MemTotal"] == 100 << 10

    _each_in_turn(levels, "memory.max", 200 * MIB, 100 * MIB, check)
    assert inside.meminfo()["MemTotal"] == 200 << 10


def test_the_least_that_any_level_has_left_is_free(
    inside: Inside, levels: list[Group], start_inside: StartInside
) -> None:
    """So what a neighbour under a shared limit uses is not free for the container, however large its own limit is."""
    for level, limit_mib in zip(levels, (200, 150, 120, 110, 100), strict=True):
        level.write("memory.max", limit_mib * MIB)
    neighbour = start_inside(levels[1].make("neighbour"))
    neighbour.do(f"import mmap; memory = mmap.mmap(-1, {80 * MIB}); memory[::4096] = b'x' * {80 * MIB // 4096}")

    def left() -> list[int]:
        return [level.number("memory.max") - level.number("memory.current") for level in levels]

    free, shown = settled(left, inside.meminfo)
    assert min(free) == free[1]
    assert shown["MemTotal"] == 100 << 10
    assert abs(shown["MemFree"] - (free[1] >> 10)) <= 1024  # the kernel charges in batches
    assert shown["MemFree"] < 70 << 10


def test_the_smallest_swap_limit_is_the_total(inside: Inside, levels: list[Group], host_swap_bytes: int) -> None:
    if host_swap_bytes < 64 * MIB:
        pytest.skip(f"this machine has only {host_swap_bytes >> 20} MiB of swap")

    def check() -> None:
        shown = inside.meminfo()
        assert (shown["SwapTotal"], shown["SwapFree"]) == (32 << 10, 32 << 10)
        assert inside.read("proc/swaps").splitlines()[1].split()[2:4] == [str(32 << 10), "0"]

    _each_in_turn(levels, "memory.swap.max", 64 * MIB, 32 * MIB, check)


def test_no_swap_at_any_level_is_no_swap(inside: Inside, levels: list[Group], host_swap_bytes: int) -> None:
    def check() -> None:
        assert inside.meminfo()["SwapTotal"] == 0

    _each_in_turn(levels, "memory.swap.max", "max", 0, check)
    assert inside.meminfo()["SwapTotal"] == host_swap_bytes >> 10


def _assert_cpus(inside: Inside, wanted: int) -> None:
    assert inside.cpus() == dict.fromkeys(("cpuinfo", "stat", "tree", "online"), wanted)


def test_the_smallest_quota_is_the_number_of_cpus(inside: Inside, levels: list[Group], two_cpus: list[int]) -> None:
    assert two_cpus
    _each_in_turn(levels, "cpu.max", "1000000 100000", "90000 100000", lambda: _assert_cpus(inside, 1))
    assert inside.cpus()["stat"] == len([*Path("/sys/devices/system/cpu").glob("cpu[0-9]*/topology")])


def test_the_smallest_share_of_a_period_counts_and_not_the_smallest_number(
    inside: Inside, levels: list[Group], two_cpus: list[int]
) -> None:
    """50 ms of each 25 ms are two CPUs, though 50 is less than the 90 of each 100 that are one."""
    levels[0].write("cpuset.cpus", ",".join(map(str, two_cpus)))
    levels[3].write("cpu.max", "50000 25000")
    _assert_cpus(inside, 2)
    levels[1].write("cpu.max", "90000 100000")
    _assert_cpus(inside, 1)


def test_the_smallest_set_of_cpus_is_the_containers(inside: Inside, levels: list[Group], two_cpus: list[int]) -> None:
    both, one = ",".join(map(str, two_cpus)), str(two_cpus[1])

    def check() -> None:
        assert levels[-1].read("cpuset.cpus.effective").strip() == one
        _assert_cpus(inside, 1)

    _each_in_turn(levels, "cpuset.cpus", both, one, check)
    _assert_cpus(inside, 2)
