"""One round of questions to the daemon, and of the host's own numbers at the same moment."""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import psutil

from procview.client import Answer, Client

PRESSURES = ("cpu", "memory", "io")


@dataclass(frozen=True, slots=True)
class Host:
    """The host's own numbers; None where the kernel does not say."""

    cpus: int | None = None
    cpu_used: float | None = None
    """CPUs that were busy since the poll before."""
    memory_total_bytes: int | None = None
    memory_available_bytes: int | None = None
    swap_total_bytes: int | None = None
    swap_used_bytes: int | None = None
    load_averages: tuple[float, ...] | None = None
    pressure_percent: tuple[float | None, ...] = (None, None, None)
    """As PRESSURES: the share of the last 10 s in which something waited."""
    up_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Poll:
    """What came back. The first two are of CLOCK_MONOTONIC, ``wall_seconds`` since 1970."""

    asked_seconds: float
    """When the daemon was asked how it is."""
    looked_seconds: float
    """When the daemon looked at the containers: up to a second ago, if somebody else had asked."""
    wall_seconds: float
    status: Answer
    containers: list[Answer]
    host: Host = field(default_factory=Host)


def poll(client: Client) -> Poll:
    """Ask once. Raises AskingError."""
    status, asked = client.status(), time.monotonic()
    seen = client.containers(with_load=True)
    return Poll(asked, seen.monotonic_seconds, time.time(), status, seen.containers, host_now())


def host_now(proc: str = "/proc", percent: Callable[[], float] = psutil.cpu_percent) -> Host:
    """The host, if this is called on the host."""
    cpus, memory, swap = psutil.cpu_count(), psutil.virtual_memory(), psutil.swap_memory()
    return Host(
        cpus=cpus,
        cpu_used=percent() / 100 * cpus if cpus else None,
        memory_total_bytes=memory.total,
        memory_available_bytes=memory.available,
        swap_total_bytes=swap.total,
        swap_used_bytes=swap.used,
        load_averages=tuple(psutil.getloadavg()),
        pressure_percent=tuple(_pressure(f"{proc}/pressure/{kind}") for kind in PRESSURES),
        up_seconds=time.clock_gettime(time.CLOCK_BOOTTIME),
    )


def _pressure(path: str) -> float | None:
    with suppress(OSError, ValueError), open(path, encoding="ascii") as file:
        return float(file.readline().partition("avg10=")[2].partition(" ")[0])
    return None
