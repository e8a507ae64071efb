"""What a container that reads with 64 threads, without a pause, costs its neighbour.

The neighbour's reads of meminfo are timed in five situations, which take turns; the server may use all CPUs. The CPU
time itself would be shared as well, so the flood is held to one CPU and what is timed to another:

alone        one reader of the neighbour
beside own   one reader, while 64 more threads of the neighbour read, on the flood's CPU
beside flood one reader, while 64 threads of the other container read, on the flood's CPU
64 alone     64 threads of the neighbour, all of them timed
64 in flood  the same 64, while 64 threads of the other container read

Requests of all containers stand in one queue of the kernel, first come, first served. So what can be asked for is that
a stranger's 64 readers hurt no more than as many of one's own, and that twice as many readers wait twice as long.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

from bench.container import Container, ReaderFailedError
from bench.servers import Server
from bench.stats import Samples

FILE = "meminfo"
THREADS = 64
ALONE, BESIDE_OWN, BESIDE_FLOOD = "1 alone", "1 beside own", "1 beside flood"
CROWD_ALONE, CROWD_IN_FLOOD = f"{THREADS} alone", f"{THREADS} in flood"
SITUATIONS = (ALONE, BESIDE_OWN, BESIDE_FLOOD, CROWD_ALONE, CROWD_IN_FLOOD)

Neighbour = dict[str, dict[str, Samples]]
"""By server, then situation."""


def measure(
    neighbour: Container,
    other: Container,
    servers: Sequence[Server],
    *,
    all_cpus: Sequence[int],
    rounds: int,
    seconds: float,
) -> tuple[Neighbour, list[str]]:
    """And why some servers are not among them: one of whose reads failed is not asked again. Needs containers on two
    CPUs.
    """
    flood_cpu, timed_cpu = neighbour.limits.cpus[0], neighbour.limits.cpus[-1]
    found: Neighbour = {server.name: {situation: Samples() for situation in SITUATIONS} for server in servers}
    failures: list[str] = []
    for server in servers:
        server.unpin(all_cpus)
    for _ in range(rounds):
        for situation in SITUATIONS:
            for server in [server for server in servers if server.name in found]:
                path = neighbour.path(server.name, FILE)
                around: AbstractContextManager[None] = nullcontext()
                if situation == BESIDE_OWN:
                    around = neighbour.flooding(path, threads=THREADS, cpu=flood_cpu)
                elif situation in (BESIDE_FLOOD, CROWD_IN_FLOOD):
                    around = other.flooding(other.path(server.name, FILE), threads=THREADS, cpu=flood_cpu)
                threads = THREADS if situation in (CROWD_ALONE, CROWD_IN_FLOOD) else 1
                try:
                    with around:
                        found[server.name][situation].add(
                            neighbour.storm(path, threads=threads, seconds=seconds, cpu=timed_cpu)
                        )
                except ReaderFailedError as error:
                    failures.append(f"a read of {server.name} failed ({situation}): {error}")
                    del found[server.name]
    return found, failures
