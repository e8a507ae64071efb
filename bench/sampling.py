"""What the load sampler costs with many containers: one round while all are idle, and one in which all have moved.

Real cgroups below the bench's own, a process in each; the process is what its container is known by, so the engine
finds as many containers. Without FUSE: the sampler runs beside it.
"""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.cgroups import Limits, container_groups, hierarchies, join
from procview._fast.engine import Engine

PERIOD_SECONDS = 5.0
"""How often the daemon samples."""
_NEEDED = frozenset({"cpu", "cpuacct", "pids"})


@dataclass(frozen=True)
class Sampling:
    containers: int
    idle_ns: float
    """One round, median: nothing has moved, so nothing is scanned."""
    moved_ns: float
    """One round, median: every container is scanned."""

    def percent_of_a_core(self, round_ns: float) -> float:
        return round_ns / 1e9 / PERIOD_SECONDS * 100


def measure(limits: Limits, *, containers: int, rounds: int = 5) -> Sampling:
    with container_groups(limits) as groups, _processes(_sampled(groups), containers) as pids:
        engine = Engine()
        for pid in pids:
            engine.open(pid, "proc/loadavg").render()
        _round(engine)
        idle = sorted(_round(engine) for _ in range(rounds))
        moved = []
        for _ in range(rounds):
            for pid in pids:
                os.kill(pid, signal.SIGUSR1)
            time.sleep(0.2)  # they have run, and wait again: what is measured is the scan, not their waking up
            moved.append(_round(engine))
        return Sampling(len(pids), idle[rounds // 2], sorted(moved)[rounds // 2])


def _round(engine: Engine) -> float:
    before = time.perf_counter_ns()
    engine.sample()
    return time.perf_counter_ns() - before


def _sampled(groups: list[Path]) -> list[Path]:
    """Of the bench's groups, those in hierarchies that the sampler looks at."""
    wanted = [place.mount_point for place in hierarchies() if place.unified or place.controllers & _NEEDED]
    sampled = [group for group in groups if group.parent in wanted]
    for group in sampled:
        if (group / "cgroup.controllers").exists():  # v2: its children count nothing unless told to
            there = (group / "cgroup.controllers").read_text().split()
            (group / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in there if name in _NEEDED))
    return sampled


@contextmanager
def _processes(parents: list[Path], count: int) -> Iterator[list[int]]:
    """A sleeping process in each of ``count`` new groups, which are removed at the end."""
    pids: list[int] = []
    made: list[Path] = []
    try:
        for number in range(count):
            own = [parent / f"n{number}" for parent in parents]
            for group in own:
                group.mkdir()
                made.append(group)
            pid = os.fork()
            if pid == 0:
                try:
                    signal.signal(signal.SIGUSR1, lambda *_: None)
                    join(own)
                    while True:
                        signal.pause()
                finally:
                    os._exit(1)
            pids.append(pid)
        _wait_until_joined(made)
        yield pids
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        for pid in pids:
            os.waitpid(pid, 0)
        for group in reversed(made):
            group.rmdir()


def _wait_until_joined(groups: list[Path]) -> None:
    deadline = time.monotonic() + 60
    for group in groups:
        while not (group / "cgroup.procs").read_text():
            if time.monotonic() > deadline:
                raise TimeoutError(f"no process has joined {group}")
            time.sleep(0.01)
