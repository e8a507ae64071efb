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
from typing import NoReturn

from bench.cgroups import Limits, crowd_groups, join
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
    with crowd_groups(limits, [limits] * containers, _NEEDED) as groups, _processes(groups, containers) as pids:
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


@contextmanager
def _processes(parents: list[Path], count: int) -> Iterator[list[int]]:
    """A sleeping process in each of the groups n0, n1, ... below these; ended at the end."""
    pids: list[int] = []
    try:
        for number in range(count):
            pid = os.fork()
            if pid == 0:
                _sleep([parent / f"n{number}" for parent in parents])
            pids.append(pid)
        _wait_until_joined([parent / f"n{number}" for parent in parents for number in range(count)])
        yield pids
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        for pid in pids:
            os.waitpid(pid, 0)


def _sleep(groups: list[Path]) -> NoReturn:
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGUSR1, lambda *_: None)
        join(groups)
        while True:
            signal.pause()
    finally:
        os._exit(1)


def _wait_until_joined(groups: list[Path]) -> None:
    deadline = time.monotonic() + 60
    for group in groups:
        while not (group / "cgroup.procs").read_text():
            if time.monotonic() > deadline:
                raise TimeoutError(f"no process has joined {group}")
            time.sleep(0.01)
