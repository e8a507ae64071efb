"""The hot path alone, without FUSE: Engine.open() (who is the caller?) and View.render(), beside the kernel's own file.

The kernel's side is measured by the compiled reader in the container, ours by calls from Python in this process; both
are pinned to one CPU and take turns. A call from Python costs something as well: an empty loop is measured and
subtracted, the call itself is left in (to our disadvantage), and what a call that does nothing costs is reported.

Touches: reads the host's trees through the engine; opens no mount.
"""

import itertools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from bench import synthetic
from bench.container import Container
from bench.files import FILES
from bench.servers import KERNEL
from bench.stats import Samples
from procview._fast.engine import Engine

# Calls between two readings of the clock: enough that the clock does not count, few enough for a distribution.
BATCH = 20


@dataclass
class HotPath:
    """Durations of one file; those of ours are means over BATCH calls, each."""

    kernel: Samples = field(default_factory=Samples)
    identify: Samples = field(default_factory=Samples)
    render: Samples = field(default_factory=Samples)


def measure(container: Container, files: Sequence[str], *, rounds: int, reads: int) -> dict[str, HotPath]:
    """Per file: the kernel's open-read-close, ours to identify, ours to render."""
    cpu, pid = container.limits.cpus[-1], container.reader_pid()
    results = {file: HotPath() for file in files}
    engine = Engine()
    with suppress(OSError):  # as the daemon does, where the kernel can
        engine.watch_changes()
    try:
        with _pinned(cpu):
            empty_ns = _empty_loop_ns()
            for _ in range(rounds):
                for file in files:
                    result, path = results[file], FILES[file]
                    result.kernel.add(container.time(container.path(KERNEL, file), reads, warm=10, cpu=cpu))
                    view = engine.open(pid, path)
                    if view.fallback is not None:
                        raise RuntimeError(f"{path}: the engine serves the host's file: {view.fallback}")
                    result.identify.add(_timed(partial(engine.open, pid, path), reads // BATCH, empty_ns))
                    result.render.add(_timed(view.render, reads // BATCH, empty_ns))
                    result.render.size_bytes = len(view.render())
    finally:
        engine.close()
    return results


@dataclass(frozen=True)
class LargeHost:
    """cpuinfo of a host with 256 CPUs, all of them visible."""

    host_bytes: int
    first_ns: int
    render: Samples


def large_host(work: Path, cpu: int, renders: int = 200) -> LargeHost:
    host = synthetic.build(work / "synthetic")
    engine = Engine(proc=str(host.proc), sys=str(host.sys), cgroup=str(host.cgroup), boottime_ns=10**12)
    try:
        with _pinned(cpu):
            start = time.perf_counter_ns()
            view = engine.open(host.caller, FILES["cpuinfo"])
            text = view.render()
            first_ns = time.perf_counter_ns() - start
            if view.fallback is not None or text.count(b"processor\t") != 256:
                raise RuntimeError(f"the synthetic host is not served as a container of 256 CPUs: {view.fallback}")
            samples = Samples(size_bytes=len(text))
            for _ in range(renders):
                start = time.perf_counter_ns()
                view.render()
                samples.durations_ns.append(time.perf_counter_ns() - start)
    finally:
        engine.close()
    return LargeHost(host.cpuinfo_bytes, first_ns, samples)


def call_overhead_ns() -> float:
    """What a call from Python to a compiled method without arguments costs that does next to nothing."""
    return _timed(object().__hash__, 200, _empty_loop_ns()).median_ns


def _timed(call: Callable[[], object], batches: int, empty_ns: float) -> Samples:
    samples = Samples()
    clock = time.perf_counter_ns
    for _ in range(max(1, batches)):
        start = clock()
        for _ in itertools.repeat(None, BATCH):
            call()
        samples.durations_ns.append(int((clock() - start - empty_ns) / BATCH))
    return samples


def _empty_loop_ns() -> float:
    """The loop of _timed with nothing in it, and its two readings of the clock."""
    durations = []
    clock = time.perf_counter_ns
    for _ in range(200):
        start = clock()
        for _ in itertools.repeat(None, BATCH):
            pass
        durations.append(clock() - start)
    return Samples(durations).median_ns


@contextmanager
def _pinned(cpu: int) -> Iterator[None]:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, [cpu])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
