"""Limits that need not be read because the open has asked whether anything changed; and what is seen where it did."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator

import pytest

from tests.containers.cgroups import Cgroup, Limits, layout
from tests.fast.test_callers import container, watched
from tests.fast.test_cgroups import MIB, cgroup, total_mib
from tests.fast.test_changes import known, reading, reads_so_far
from tests.session import new_name

pytest.importorskip("procview._fast.engine", reason="the engine is not built")
from procview._fast.engine import Engine, View

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make cgroups"),
    pytest.mark.skipif(layout() == "none", reason="no cgroup file system is mounted here"),
]
ROUNDS = 100


@pytest.fixture
def engine() -> Iterator[Engine]:
    made = Engine()
    watched(made)
    yield made
    made.close()


@pytest.fixture
def inside() -> Iterator[Cgroup]:
    with cgroup(new_name(), 100) as made:
        yield made


@pytest.fixture
def init(inside: Cgroup, engine: Engine) -> Iterator[int]:
    with container(inside, "sleep", "100") as pid:
        known(engine, pid)
        yield pid


def cpus(view: View) -> int:
    return view.render().count(b"\nprocessor\t:") + view.render().startswith(b"processor\t:")


def cost(view: View) -> int:
    """Of one more render, in reads."""
    before = reads_so_far()
    view.render()
    return reads_so_far() - before


def test_a_first_render_reads_less_than_the_next_one_through_the_same_file(engine: Engine, init: int) -> None:
    costs = []
    for _ in range(ROUNDS):
        view = engine.open(init, "proc/stat")
        costs.append((cost(view), cost(view)))
    # The host's own are read anew ten times a second, and other tests may write to cgroups.
    less = [first < second for first, second in costs]
    assert sum(less) > ROUNDS * 3 / 4, costs


LIMITS: list[tuple[str, Callable[[View], int], list[tuple[Limits, int]]]] = [
    ("proc/meminfo", total_mib, [(Limits(memory_bytes=mib * MIB), mib) for mib in (64, 80)]),
    ("proc/cpuinfo", cpus, [(Limits(cpus=count), count) for count in (1, 2)]),
    ("proc/cpuinfo", cpus, [(Limits(cpuset=which), count) for which, count in (("0", 1), ("0-1", 2))]),
]


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="this machine has one CPU")
@pytest.mark.parametrize(("path", "number", "limits"), LIMITS, ids=["memory", "quota", "cpuset"])
def test_a_limit_is_seen_at_the_next_open_and_in_a_file_that_was_read_before(
    engine: Engine,
    inside: Cgroup,
    init: int,
    path: str,
    number: Callable[[View], int],
    limits: list[tuple[Limits, int]],
) -> None:
    old = engine.open(init, path)
    number(old)
    for _ in range(ROUNDS // 4):
        for limit, expected in limits:
            # So that there is something to be remembered wrongly.
            known(engine, init)
            for _ in range(2):
                number(engine.open(init, path))
            inside.apply(limit)
            assert number(engine.open(init, path)) == expected
            assert number(old) == expected


def test_a_limit_above_is_seen_at_the_next_open(engine: Engine) -> None:
    above = new_name()
    with cgroup(above, 100) as outer, contextlib.ExitStack() as stack:
        if layout() == "v2":
            (outer.directories["memory"] / "cgroup.subtree_control").write_text("+memory", encoding="ascii")
        inner = stack.enter_context(cgroup(f"{above}/below", 90))
        init = stack.enter_context(container(inner, "sleep", "100"))
        for mib in (50, 95, 60, 100) * 5:
            known(engine, init)
            for _ in range(2):
                total_mib(engine.open(init, "proc/meminfo"))
            outer.apply(Limits(memory_bytes=mib * MIB))
            assert total_mib(engine.open(init, "proc/meminfo")) == min(mib, 90)


def test_who_has_written_a_limit_sees_it_while_several_threads_read(engine: Engine, inside: Cgroup, init: int) -> None:
    """Whatever they have begun to read before, or note afterwards."""

    def read(_which: int) -> None:
        total_mib(engine.open(init, "proc/meminfo"))

    written = 0
    with reading(read):
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            for mib in (64, 80):
                inside.apply(Limits(memory_bytes=mib * MIB))
                assert [total_mib(engine.open(init, "proc/meminfo")) for _ in range(3)] == [mib] * 3
                written += 1
    assert written >= 4
