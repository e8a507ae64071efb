"""Many containers in one engine: nobody gets another's bytes, whatever descriptors have to be closed on the way."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.hosts.build import Tree, build
from tests.hosts.model import Container, CpuTimes, Host, Layout, Level
from tests.hosts.trees import fresh
from tests.oracle.meminfo import meminfo
from tests.oracle.stat import IDLE, Stat, stat, total
from tests.oracle.swaps import swaps
from tests.oracle.uptime import uptime

pytest.importorskip("procview._fast.engine", reason="the engine is not built")
from procview._fast.engine import Engine

HOST = Host(online=tuple(range(4)), has_cpu_folders=False, swap_total_kb=1 << 20, swap_free_kb=1 << 20)
COUNT = 40


def container(number: int) -> Container:
    """Each with numbers of its own in every view."""
    level = Level(
        f"c{number}",
        memory_max_bytes=(100 + number) << 20,
        memory_current_bytes=number << 20,
        swap_max_bytes=(10 + number) << 20,
        memsw_max_bytes=(110 + 2 * number) << 20,
        memsw_current_bytes=number << 20,
        cpu_quota_usec=100_000 * (1 + number % 4),
    )
    return Container(
        levels=(Level(f"pod{number % 5}"), level),
        init_pid=10_000 + 10 * number,
        pid=10_001 + 10 * number,
        pidns=4_026_600_000 + number,
        start_ticks=1_000 * (1 + number),
        cpu=CpuTimes(user_usec=number * 10**6, per_cpu_ns=((number * 10**9, 0), (0, 0), (0, 0), (0, 0))),
        memory_stat=dict.fromkeys(("anon", "total_rss"), number << 20),
        pids_current=number,
    )


CONTAINERS = tuple(container(number) for number in range(COUNT))


def expected(of: Container, layout: Layout) -> dict[str, bytes]:
    lines = Stat().step(HOST, of, layout)
    texts = {
        "meminfo": meminfo(HOST, of, layout),
        "swaps": swaps(HOST, of, layout),
        "stat": stat(HOST, of, lines),
        "uptime": uptime(HOST, of, total(lines)[IDLE]),
    }
    return {name: text.encode() for name, text in texts.items()}


@contextmanager
def many(scratch: Path, layout: Layout) -> Iterator[Tree]:
    with fresh(scratch) as folder:
        yield build(folder, layout, HOST, *CONTAINERS)


@pytest.mark.parametrize("layout", list(Layout))
@pytest.mark.parametrize("most", [None, 16])
def test_no_foreign_bytes(scratch: Path, layout: Layout, most: int | None) -> None:
    """Eight threads over all containers and views, with room for all descriptors and for hardly any."""
    answers = {of.pid: expected(of, layout) for of in CONTAINERS}
    jobs = [(pid, name) for pid in answers for name in answers[pid]] * 5
    random.Random(1).shuffle(jobs)
    with many(scratch, layout) as tree:
        engine = Engine(**tree.roots, max_descriptors=most)

        def wrong(job: tuple[int, str]) -> str | None:
            pid, name = job
            text = engine.open(pid, f"proc/{name}").render()
            return None if text == answers[pid][name] else f"{pid} {name}: {text.decode()}"

        with ThreadPoolExecutor(8) as threads:
            assert [found for found in threads.map(wrong, jobs) if found] == []
        counters = engine.counters()
        assert counters["containers"] == COUNT
        if most is not None:
            assert counters["descriptors"] <= most
        engine.close()
