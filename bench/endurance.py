"""What a server costs over many reads: resident memory before, during and after, and CPU time per read."""

from collections.abc import Sequence
from dataclasses import dataclass

from bench.container import Container
from bench.servers import Server

STEPS = 10


@dataclass(frozen=True)
class Endurance:
    contender: str
    reads: int
    start_bytes: int
    warm_bytes: int
    """After the first of STEPS parts of the reads: from here on it has to be flat."""
    peak_bytes: int
    end_bytes: int
    cpu_seconds: float

    @property
    def growth_bytes(self) -> int:
        """Between the warm state and the end."""
        return self.end_bytes - self.warm_bytes

    @property
    def cpu_usec_per_read(self) -> float:
        return self.cpu_seconds / self.reads * 1e6


def endure(
    container: Container, server: Server, files: Sequence[str], *, reads: int, readers: int, cpu: int
) -> Endurance:
    """So many reads by several readers over all the files, reader and server on one CPU."""
    server.pin([cpu])
    paths = [container.path(server.name, file) for file in files]
    start_bytes, start_cpu = server.resident_bytes(), server.cpu_seconds()
    after: list[int] = []
    for _ in range(STEPS):
        container.drain(paths, reads // STEPS, readers=readers, cpu=cpu)
        after.append(server.resident_bytes())
    return Endurance(
        contender=server.name,
        reads=reads // STEPS * STEPS,
        start_bytes=start_bytes,
        warm_bytes=after[0],
        peak_bytes=max(after),
        end_bytes=after[-1],
        cpu_seconds=server.cpu_seconds() - start_cpu,
    )
