"""Everything at once in one engine: readers, the sampler, new settings, containers that come and go."""

from __future__ import annotations

import random
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from tests.hosts.build import build
from tests.hosts.model import Container, Host, Layout, Level
from tests.hosts.trees import fresh

pytest.importorskip("procview._fast.engine", reason="the engine is not built")
from procview._fast.engine import PROC_VIEWS, Engine


def limit_kb(number: int) -> int:
    """Each container has one of its own."""
    return (100 + number) << 10


HOST = Host(online=(0, 1, 2, 3), has_cpu_folders=False)
CONTAINERS = tuple(
    Container(
        levels=(Level(f"pod{number % 3}"), Level(f"c{number}", memory_max_bytes=limit_kb(number) << 10)),
        init_pid=10_000 + 10 * number,
        pid=10_001 + 10 * number,
        pidns=4_026_600_000 + number,
    )
    for number in range(12)
)
SECONDS = 2.0


@pytest.mark.parametrize("layout", list(Layout))
@pytest.mark.parametrize("most", [None, 8])
def test_everything_at_once(scratch: Path, layout: Layout, most: int | None) -> None:
    """Nothing but right texts, the host's where the container has gone, and ENOENT of pressure files."""
    wrong: Counter[str] = Counter()
    stop = threading.Event()
    with fresh(scratch) as folder:
        tree = build(folder, layout, HOST, *CONTAINERS)
        engine = Engine(**tree.roots, max_descriptors=most)
        host_total = (folder / "proc/meminfo").read_bytes().split()[1]
        shared = {
            (of.pid, name): engine.open(of.pid, f"proc/{name}")
            for of in CONTAINERS
            for name in PROC_VIEWS
            if "/" not in name
        }

        def read(seed: int) -> None:
            chance = random.Random(seed)
            number, name = chance.randrange(len(CONTAINERS)), chance.choice(PROC_VIEWS)
            of = CONTAINERS[number]
            try:
                view = shared.get((of.pid, name)) if chance.random() < 0.3 else None
                view = view or engine.open(chance.choice((of.pid, of.init_pid)), f"proc/{name}")
                assert view.blocking in (True, False)
                text = view.render()
            except FileNotFoundError:
                if not name.startswith("pressure/"):
                    wrong[f"no {name}"] += 1
                return
            if name == "meminfo" and text.split()[1] not in (b"%d" % limit_kb(number), host_total):
                wrong[f"{of.level.name}: {text.split()[1]!r}"] += 1

        def configure(seed: int) -> None:
            chance = random.Random(seed)
            engine.configure(
                cpus=chance.choice(["quota", "cpuset"]),
                devices=chance.choice(["host", "container"]),
                uptime=chance.choice(["host", "container"]),
                loadavg=chance.random() < 0.9,
            )
            time.sleep(0.002)

        def come_and_go(seed: int) -> None:
            chance = random.Random(seed)
            of = chance.choice(CONTAINERS)
            if chance.random() < 0.5:
                for pid in (of.init_pid, of.pid):
                    shutil.rmtree(folder / f"proc/{pid}", ignore_errors=True)
            level = replace(of.level, cpu_quota_usec=100_000 * chance.randint(1, 4))
            with suppress(OSError):
                tree.update(replace(of, start_ticks=chance.randint(1, 10**6), levels=(of.levels[0], level)))

        def repeat(work: Callable[[int], object], seed: int) -> None:
            try:
                while not stop.is_set():
                    work(seed)
                    seed += 100
            except Exception as error:
                wrong[repr(error)] += 1

        jobs: list[Callable[[int], object]] = [read] * 6 + [configure, come_and_go, lambda _: engine.sample()]
        threads = [threading.Thread(target=repeat, args=(job, seed)) for seed, job in enumerate(jobs)]
        for thread in threads:
            thread.start()
        time.sleep(SECONDS)
        stop.set()
        for thread in threads:
            thread.join()
        assert wrong == Counter()
        if most is not None:
            assert engine.counters()["descriptors"] <= most
        engine.close()
