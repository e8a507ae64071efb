"""Measures procview beside the kernel's own /proc, the floor of FUSE and lxcfs; prints the tables and the verdicts.

Touches: a mount namespace of its own, a directory in /tmp, cgroups named procview-bench-<pid>, .cache of the checkout;
and for the hook, which goes by the host's mounts, a directory in /var/tmp.
Exit status: 0 when every bound is kept, 1 when one is not (or could not be measured), 2 when nothing could be measured.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench import control, crowd, hook, lxcfs, neighbour, propagation, report, servers
from bench.bounds import MIB
from bench.cgroups import Limits, throttled_periods
from bench.compile import compiled
from bench.container import Bind, Container, ReaderFailedError, running_container
from bench.ending import end_if_told, end_when_told
from bench.endurance import endure
from bench.files import FILES
from bench.idle import idle_daemons
from bench.private import enter_private_mounts
from bench.results import Results, save
from bench.servers import FLOOR, KERNEL, LXCFS, OURS, PYFUSE3, RING, Server
from bench.through_fuse import PINNED, UNPINNED, fresh_latencies, latencies, rates
from bench.verdicts import verdicts

MEMORY_BYTES = 512 * MIB
RATE_FILES = ("meminfo", "stat", "cpuinfo")
FRESH_FILES = ("meminfo", "stat", "cpuinfo")


@dataclass
class Effort:
    """How long to measure."""

    rounds: int
    reads: int
    fresh_reads: int
    rate_rounds: int
    rate_seconds: float
    endurance_reads: int
    containers: int
    crowd_rounds: int
    crowd_reads: int
    sampling_seconds: float
    idle_seconds: float
    flood_rounds: int
    flood_seconds: float
    hook_runs: int
    propagated: tuple[int, ...]


FULL = Effort(
    rounds=20,
    reads=100,
    fresh_reads=50,
    rate_rounds=3,
    rate_seconds=1.0,
    endurance_reads=100_000,
    containers=1000,
    crowd_rounds=10,
    crowd_reads=200,
    sampling_seconds=15.0,
    idle_seconds=30.0,
    flood_rounds=5,
    flood_seconds=1.0,
    hook_runs=hook.ROUNDS,
    propagated=propagation.COUNTS,
)
QUICK = Effort(
    rounds=5,
    reads=60,
    fresh_reads=20,
    rate_rounds=1,
    rate_seconds=0.3,
    endurance_reads=10_000,
    containers=100,
    crowd_rounds=5,
    crowd_reads=100,
    sampling_seconds=5.0,
    idle_seconds=6.0,
    flood_rounds=2,
    flood_seconds=0.25,
    hook_runs=10,
    propagated=propagation.COUNTS[:2],
)


def main() -> int:
    options = _arguments()
    if os.geteuid() != 0:
        print("bench: needs root: it mounts file systems and makes cgroups; no bound can be measured", file=sys.stderr)
        return 2
    end_when_told()
    effort = QUICK if options.quick else FULL
    if options.reads is not None:
        effort.endurance_reads = options.reads
    # What writes into the checkout comes first; what needs the network as well.
    for name in ("floor", "reader", "crowd"):
        compiled(name)
    results = Results()
    reasons: dict[str, str] = {}
    lxcfs_version = "(none)"
    try:
        lxcfs.program()
        lxcfs_version = lxcfs.version()
    except lxcfs.LxcfsUnavailableError as error:
        results.missing.append(f"lxcfs: {error}")
        reasons[LXCFS] = "no lxcfs"
    limits = Limits(MEMORY_BYTES, tuple(sorted(os.sched_getaffinity(0)))[-options.cpus :])
    heading = report.heading(limits, lxcfs_version)
    print(heading, flush=True)
    results.hook = hook.measure(effort.hook_runs)
    _show(results.hook.report())
    enter_private_mounts()
    with tempfile.TemporaryDirectory(prefix="procview-bench-") as work, ExitStack() as stack:
        running = _start_servers(stack, Path(work), results, reasons)
        offers = _offers(running)
        binds = _binds(running, offers)
        container = stack.enter_context(running_container(Path(work), limits, binds))
        _measure(container, running, offers, effort, Path(work), results)
        _measure_neighbour(container, running, binds, effort, Path(work), results)
        _measure_control(container, running, effort, results)
        throttled = throttled_periods(container.groups)
        _measure_propagation(running, effort, Path(work), results)
    _measure_crowd(limits, effort, results, reasons)
    _measure_sampling(limits, effort, results)
    if throttled:
        results.missing.append(
            f"the quota throttled the readers in {throttled} periods: rates of the kernel's own files suffer from it"
        )
    for line in dict.fromkeys(results.missing):
        print(f"\nnote: {line}")
    found = verdicts(results, reasons=reasons)
    print("\n" + report.verdict_table(found))
    if options.json:
        save(Path(options.json), heading, results, found)
    kept = all(verdict.kept for verdict in found)
    print("\nevery bound is kept" if kept else "\nFAIL: not every bound is kept")
    return 0 if kept or options.no_fail else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--quick", action="store_true", help="a tenth of the samples: to see that it works, not how fast"
    )
    parser.add_argument(
        "--reads", type=int, metavar="N", help="reads for the memory measurement (the bound is on 1000000)"
    )
    parser.add_argument("--cpus", type=int, default=2, metavar="N", help="CPUs of the container (default 2)")
    parser.add_argument("--json", metavar="FILE", help="save the figures behind the tables")
    parser.add_argument("--no-fail", action="store_true", help="exit with 0 even when a bound is not kept")
    return parser.parse_args()


def _start_servers(stack: ExitStack, work: Path, results: Results, reasons: dict[str, str]) -> list[Server]:
    wanted: dict[str, Callable[[Path], AbstractContextManager[Server]]] = {
        FLOOR: servers.floor,
        LXCFS: servers.lxcfs_server,
        OURS: servers.ours,
        RING: servers.ours_by_ring,
        PYFUSE3: servers.pyfuse3_alone,
    }
    running = []
    for name, start in wanted.items():
        if name in reasons:
            continue
        try:
            running.append(stack.enter_context(start(work)))
        except servers.ServerFailedError as error:
            results.missing.append(str(error))
            reasons[name] = f"no {name}"
    return running


def _offers(running: list[Server]) -> dict[str, list[str]]:
    """Each file, and who has it, in the order in which they take turns."""
    return {
        file: [KERNEL, *(server.name for server in running if server.source(file) is not None)]
        for file, path in FILES.items()
        if Path("/", path).exists()
    }


def _binds(running: list[Server], offers: dict[str, list[str]]) -> list[Bind]:
    binds = [Bind(Path("/", FILES[file]), KERNEL, file) for file in offers]
    for server in running:
        for file in offers:
            source = server.source(file)
            if source is not None:
                binds.append(Bind(source, server.name, file))
    return binds


def _measure(
    container: Container,
    running: list[Server],
    offers: dict[str, list[str]],
    effort: Effort,
    work: Path,
    results: Results,
) -> None:
    cpus = sorted(os.sched_getaffinity(0))
    files = list(offers)
    _check_contents(container, offers, results)
    _measure_hotpath(container, files, effort, work, results)

    results.latency = latencies(container, running, offers, all_cpus=cpus, rounds=effort.rounds, reads=effort.reads)
    for placement in (PINNED, UNPINNED):
        _show(report.latency_table("One reader", placement, files, results.latency))

    some = {file: offers[file] for file in FRESH_FILES}
    results.fresh = fresh_latencies(
        container, running, some, all_cpus=cpus, rounds=effort.rounds, reads=effort.fresh_reads
    )
    for placement in (PINNED, UNPINNED):
        _show(report.latency_table("A new process for each read", placement, list(some), results.fresh))

    some = {file: offers[file] for file in RATE_FILES}
    results.rate = rates(
        container, running, some, all_cpus=cpus, rounds=effort.rate_rounds, readers=4, seconds=effort.rate_seconds
    )
    for placement in (PINNED, UNPINNED):
        _show(report.rate_table("4 readers", placement, list(some), results.rate))

    cpu = container.limits.cpus[-1]
    for server in running:
        if server.name == PYFUSE3:
            continue  # its time is in the tables above
        served = [file for file in files if server.name in offers[file]]
        results.endurance.append(endure(container, server, served, reads=effort.endurance_reads, readers=4, cpu=cpu))
    _show(report.endurance_table(results.endurance))


def _check_contents(container: Container, offers: dict[str, list[str]], results: Results) -> None:
    """A fast answer is worth nothing when it is the host's: those that scope must show the container's limit."""
    for contender in offers["meminfo"]:
        line = container.first_line(container.path(contender, "meminfo"))
        if contender in (LXCFS, OURS, RING, PYFUSE3) and line.split()[1] != str(MEMORY_BYTES // 1024):
            results.missing.append(f"WRONG BYTES: {contender} shows the container '{line}'")


def _measure_propagation(running: list[Server], effort: Effort, work: Path, results: Results) -> None:
    ours = next((server for server in running if server.name == "ours"), None)
    if ours is None:
        results.missing.append("propagation: there are no views to publish")
        return
    for count in effort.propagated:
        results.propagation.append(propagation.measure(ours.mount, work, namespaces=count))
    _show("Views of all slots into mount namespaces, medians\n" + propagation.table(results.propagation))


def _measure_neighbour(
    container: Container, running: list[Server], binds: Sequence[Bind], effort: Effort, work: Path, results: Results
) -> None:
    cpus = sorted(os.sched_getaffinity(0))
    if len(set(container.limits.cpus)) < 2:
        results.missing.append("neighbour: needs a container on two CPUs, one for the flood and one for what is timed")
        return
    with running_container(work, container.limits, binds, "-flood") as other:
        results.neighbour, failures = neighbour.measure(
            container, other, running, all_cpus=cpus, rounds=effort.flood_rounds, seconds=effort.flood_seconds
        )
    results.missing += [f"neighbour: {failure}" for failure in failures]
    _show(report.neighbour_table(results.neighbour))


def _measure_control(container: Container, running: list[Server], effort: Effort, results: Results) -> None:
    server = next((server for server in running if server.name == "ours"), None)
    if server is None or len(set(container.limits.cpus)) < 2:
        results.missing.append("control socket: needs our daemon and a container on two CPUs")
        return
    try:
        results.control = control.measure(
            container,
            server,
            all_cpus=sorted(os.sched_getaffinity(0)),
            rounds=effort.flood_rounds,
            seconds=effort.flood_seconds,
        )
    except (OSError, ReaderFailedError) as error:
        results.missing.append(f"control socket: {error}")
        return
    _show(report.control_lines(results.control))


def _measure_crowd(limits: Limits, effort: Effort, results: Results, reasons: dict[str, str]) -> None:
    """With servers that nobody has read yet. Meanwhile, two others are not read at all."""
    with tempfile.TemporaryDirectory(prefix="procview-bench-") as directory, ExitStack() as stack:
        work = Path(directory)
        idle = stack.enter_context(idle_daemons(work, limits))
        with ExitStack() as crowded:
            running = _start_servers(crowded, work, results, reasons)
            results.crowd = crowd.measure(
                running,
                limits,
                containers=effort.containers,
                rounds=effort.crowd_rounds,
                reads=effort.crowd_reads,
                idle_seconds=effort.sampling_seconds,
            )
        _show(report.crowd_table(results.crowd))
        results.idle = idle.count(effort.idle_seconds)
    _show(report.idle_lines(results.idle))


def _measure_sampling(limits: Limits, effort: Effort, results: Results) -> None:
    try:
        from bench import sampling
    except ImportError as error:
        results.missing.append(f"load sampling: {error}")
        return
    results.sampling = sampling.measure(limits, containers=effort.containers)
    _show(report.sampling_lines(results.sampling))


def _measure_hotpath(container: Container, files: list[str], effort: Effort, work: Path, results: Results) -> None:
    # Compiled: where it is not built (yet), the rest can still be measured.
    try:
        from bench import hotpath
    except ImportError as error:
        results.missing.append(f"hot path: {error}")
        return
    results.hotpath = hotpath.measure(container, files, rounds=effort.rounds, reads=effort.reads)
    _show(report.hotpath_table(results.hotpath, hotpath.call_overhead_ns()))
    results.large_host = hotpath.large_host(work, container.limits.cpus[-1])
    _show(report.large_host_lines(results.large_host))


def _show(text: str) -> None:
    print("\n" + text, flush=True)
    end_if_told()


if __name__ == "__main__":
    sys.exit(main())
