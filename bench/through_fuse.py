"""What a reader in the container waits for: each file, from each contender, pinned and unpinned; and reads per second.

Rounds are interleaved (every contender gets a short block in every round), so that noise of the machine hits all alike.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from bench.container import Container
from bench.servers import Server
from bench.stats import Samples

PINNED, UNPINNED = "pinned", "unpinned"
WARM_READS = 10


@dataclass(frozen=True)
class Cell:
    placement: str
    file: str
    contender: str


@dataclass(frozen=True)
class Rate:
    """Of several readers at once."""

    reads_per_second: float = math.nan
    cpu_usec_per_read: float = math.nan
    """Of the server's process; nan for the kernel."""


def placements(
    container: Container, servers: Sequence[Server], all_cpus: Sequence[int]
) -> Iterator[tuple[str, int | None]]:
    """Puts the servers in place, then says where the reader has to be: on their CPU, or anywhere."""
    cpu = container.limits.cpus[-1]
    for server in servers:
        server.pin([cpu])
    yield PINNED, cpu
    for server in servers:
        server.unpin(all_cpus)
    yield UNPINNED, None


def latencies(
    container: Container,
    servers: Sequence[Server],
    offers: dict[str, list[str]],
    *,
    all_cpus: Sequence[int],
    rounds: int,
    reads: int,
) -> dict[Cell, Samples]:
    """Durations of open-read-close by a reader that the server may know already. ``offers``: who has which file."""
    found: dict[Cell, Samples] = {}
    for placement, cpu in placements(container, servers, all_cpus):
        for _ in range(rounds):
            for file, contenders in offers.items():
                for contender in contenders:
                    block = container.time(container.path(contender, file), reads, warm=WARM_READS, cpu=cpu)
                    found.setdefault(Cell(placement, file, contender), Samples()).add(block)
    return found


def fresh_latencies(
    container: Container,
    servers: Sequence[Server],
    offers: dict[str, list[str]],
    *,
    all_cpus: Sequence[int],
    rounds: int,
    reads: int,
) -> dict[Cell, Samples]:
    """The same by a new process for each read, as `free` is: nothing that was remembered about a pid can help."""
    found: dict[Cell, Samples] = {}
    for placement, cpu in placements(container, servers, all_cpus):
        for _ in range(rounds):
            for file, contenders in offers.items():
                for contender in contenders:
                    block = container.fresh(container.path(contender, file), reads, cpu=cpu)
                    found.setdefault(Cell(placement, file, contender), Samples()).add(block)
    return found


def rates(
    container: Container,
    servers: Sequence[Server],
    offers: dict[str, list[str]],
    *,
    all_cpus: Sequence[int],
    rounds: int,
    readers: int,
    seconds: float,
) -> dict[Cell, Rate]:
    """Reads per second of several readers at once, the median of the rounds; and the server's CPU time for one."""
    found: dict[Cell, list[Rate]] = {}
    processes = {server.name: server for server in servers}
    for placement, cpu in placements(container, servers, all_cpus):
        for _ in range(rounds):
            for file, contenders in offers.items():
                for contender in contenders:
                    server = processes.get(contender)
                    before = server.cpu_seconds() if server else math.nan
                    per_second, count = container.rate(
                        container.path(contender, file), readers=readers, seconds=seconds, cpu=cpu
                    )
                    used = server.cpu_seconds() - before if server else math.nan
                    found.setdefault(Cell(placement, file, contender), []).append(Rate(per_second, used / count * 1e6))
    return {
        cell: Rate(median(rate.reads_per_second for rate in rates), median(rate.cpu_usec_per_read for rate in rates))
        for cell, rates in found.items()
    }
