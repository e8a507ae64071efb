"""One reader among many containers: what a read costs when there are a thousand of them, and what the daemon weighs.

Each container is a process (``crowd.c``), the first of a pid namespace of its own, in cgroups with limits of its own.
The servers are fresh: until the crowd comes, they have seen one container. Containers are old enough to be believed
when they are measured: procview looks at one that has just started more often (docs/architecture.md).

Touches: cgroups procview-bench-<pid>-crowd, one process for each container.
"""

import json
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.cgroups import Limits, crowd_groups
from bench.compile import compiled
from bench.container import ReaderFailedError
from bench.files import FILES
from bench.servers import FLOOR, KERNEL, Server
from bench.stats import Samples

FILE = "meminfo"
_WARM_READS = 10
_OLD_SECONDS = 11.0


@dataclass
class Reads:
    """Of one contender: durations of open-read-close."""

    only: Samples = field(default_factory=Samples)
    """By the only container there is."""
    only_in_turn: Samples = field(default_factory=Samples)
    """The same, but it is woken for each single read, as in turns."""
    one_of_many: Samples = field(default_factory=Samples)
    """By that container, when all the others have read as well."""
    in_turn: Samples = field(default_factory=Samples)
    """One by each container, round robin; each has just read another file, which is not timed: the floor's."""


@dataclass
class CrowdResult:
    containers: int
    start_seconds: float
    reads: dict[str, Reads]
    resident_bytes: dict[str, int]
    """Of each server, after every container has read every file."""
    sampling_percent: dict[str, float]
    """CPU time of each server while nobody reads, in hundredths of a core: the load of all is sampled."""


class Crowd:
    """Talks to ``crowd.c``."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def grow(self, count: int) -> float:
        """Start what is missing; seconds."""
        return float(self._ask(f"grow {count}")["seconds"])

    def one(self, path: Path, reads: int, *, cpu: int) -> Samples:
        return self._samples(f"one {cpu} {reads} {_WARM_READS} {path}")

    def turns(self, path: Path, rounds: int, *, first: Path, cpu: int) -> Samples:
        return self._samples(f"turns {cpu} {rounds} {first} {path}")

    def each(self, paths: Sequence[Path], *, cpu: int) -> None:
        self._ask(f"each {cpu} {' '.join(map(str, paths))}")

    def _samples(self, command: str) -> Samples:
        answer = self._ask(command)
        return Samples(answer["samples_ns"], answer["bytes"])

    def _ask(self, command: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline() or '{"error": "the crowd has ended"}')
        if "error" in answer:
            raise ReaderFailedError(answer["error"])
        return answer


def measure(
    servers: Sequence[Server], limits: Limits, *, containers: int, rounds: int, reads: int, idle_seconds: float
) -> CrowdResult:
    """Servers and readers on one CPU; ``servers`` must not have been read by another container."""
    cpu = limits.cpus[-1]
    for server in servers:
        server.pin([cpu])
    paths = {KERNEL: Path("/", FILES[FILE])}
    paths |= {server.name: server.mount / FILES[FILE] for server in servers if server.source(FILE) is not None}
    first = paths.get(FLOOR, paths[KERNEL])
    found = {name: Reads() for name in paths}
    with _crowd(limits, containers) as crowd:
        start_seconds = crowd.grow(1)
        time.sleep(_OLD_SECONDS)
        for _ in range(rounds):
            for name, path in paths.items():
                found[name].only.add(crowd.one(path, reads, cpu=cpu))
                found[name].only_in_turn.add(crowd.turns(path, reads, first=first, cpu=cpu))
        start_seconds += crowd.grow(containers)
        for server in servers:
            served = [server.source(file) for file in FILES]
            crowd.each([path for path in served if path is not None], cpu=cpu)
        sampling = _idle_percent(servers, max(idle_seconds, _OLD_SECONDS))
        for _ in range(rounds):
            for name, path in paths.items():
                found[name].one_of_many.add(crowd.one(path, reads, cpu=cpu))
                found[name].in_turn.add(crowd.turns(path, 1, first=first, cpu=cpu))
        resident = {server.name: server.resident_bytes() for server in servers}
    return CrowdResult(containers, start_seconds, found, resident, sampling)


def _idle_percent(servers: Sequence[Server], seconds: float) -> dict[str, float]:
    before = {server.name: (server.cpu_seconds(), time.monotonic()) for server in servers}
    time.sleep(seconds)
    percent = {}
    for server in servers:
        used, since = before[server.name]
        percent[server.name] = (server.cpu_seconds() - used) / (time.monotonic() - since) * 100
    return percent


@contextmanager
def _crowd(limits: Limits, containers: int) -> Iterator[Crowd]:
    with crowd_groups(limits, [limits] * containers) as groups:
        command = [str(compiled("crowd")), *map(str, groups)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            yield Crowd(process)
        finally:
            # It ends its containers at the end of its input; if it is stuck, they die with it.
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
