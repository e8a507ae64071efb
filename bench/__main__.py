"""Measures procview beside the kernel's own /proc, the floor of FUSE and lxcfs; prints the tables and the verdicts.

Touches: a mount namespace of its own, a directory in /tmp, cgroups named procview-bench-<pid>, .cache of the checkout;
and for the hook, which goes by the host's mounts, a directory in /var/tmp.
Exit status: 0 when every bound is kept, 1 when one is not (or could not be measured), 2 when nothing could be measured.
"""

import argparse
import json
import math
import os
import sys
import tempfile
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import bounds, hook, lxcfs, propagation, report, servers
from bench.bounds import Verdict
from bench.cgroups import Limits, throttled_periods
from bench.compile import compiled
from bench.container import Bind, Container, running_container
from bench.endurance import MIB, Endurance, endure
from bench.files import FILES
from bench.hook import HookCost
from bench.private import enter_private_mounts
from bench.propagation import Propagation
from bench.servers import KERNEL, Server
from bench.stats import Samples
from bench.through_fuse import PINNED, UNPINNED, Cell, fresh_latencies, latencies, rates

if TYPE_CHECKING:
    from bench.hotpath import HotPath, LargeHost
    from bench.sampling import Sampling

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
    sampled_containers: int
    hook_runs: int
    propagated: tuple[int, ...]


FULL = Effort(
    rounds=20,
    reads=100,
    fresh_reads=50,
    rate_rounds=3,
    rate_seconds=1.0,
    endurance_reads=100_000,
    sampled_containers=1000,
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
    sampled_containers=100,
    hook_runs=10,
    propagated=propagation.COUNTS[:2],
)


@dataclass
class Results:
    latency: dict[Cell, Samples] = field(default_factory=dict)
    fresh: dict[Cell, Samples] = field(default_factory=dict)
    rate: dict[Cell, float] = field(default_factory=dict)
    endurance: list[Endurance] = field(default_factory=list)
    hotpath: "dict[str, HotPath]" = field(default_factory=dict)
    large_host: "LargeHost | None" = None
    sampling: "Sampling | None" = None
    hook: HookCost | None = None
    propagation: list[Propagation] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def main() -> int:
    options = _arguments()
    if os.geteuid() != 0:
        print("bench: needs root: it mounts file systems and makes cgroups", file=sys.stderr)
        return 2
    effort = QUICK if options.quick else FULL
    if options.reads is not None:
        effort.endurance_reads = options.reads
    # What writes into the checkout comes first; what needs the network as well.
    compiled("floor")
    compiled("reader")
    results = Results()
    lxcfs_version = "(none)"
    try:
        lxcfs.program()
        lxcfs_version = lxcfs.version()
    except lxcfs.LxcfsUnavailableError as error:
        results.missing.append(f"lxcfs: {error}")
    limits = Limits(MEMORY_BYTES, tuple(sorted(os.sched_getaffinity(0)))[-options.cpus :])
    print(report.heading(limits, lxcfs_version), flush=True)
    results.hook = hook.measure(effort.hook_runs)
    _show(results.hook.report())
    enter_private_mounts()
    with tempfile.TemporaryDirectory(prefix="procview-bench-") as work, ExitStack() as stack:
        running = _start_servers(stack, Path(work), results, with_lxcfs=lxcfs_version != "(none)")
        offers = _offers(running)
        binds = _binds(running, offers)
        container = stack.enter_context(running_container(Path(work), limits, binds))
        _measure(container, running, offers, effort, Path(work), results)
        throttled = throttled_periods(container.groups)
        _measure_propagation(running, effort, Path(work), results)
    _measure_sampling(limits, effort, results)
    if throttled:
        results.missing.append(
            f"the quota throttled the readers in {throttled} periods: rates of the kernel's own files suffer from it"
        )
    for line in results.missing:
        print(f"\nnote: {line}")
    verdicts = _verdicts(results)
    print("\n" + report.verdict_table(verdicts))
    if options.json:
        _save(Path(options.json), limits, lxcfs_version, results, verdicts)
    kept = all(verdict.kept for verdict in verdicts)
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


def _start_servers(stack: ExitStack, work: Path, results: Results, *, with_lxcfs: bool) -> list[Server]:
    wanted: list[AbstractContextManager[Server]] = [servers.floor(work)]
    if with_lxcfs:
        wanted.append(servers.lxcfs_server(work))
    wanted.append(servers.ours(work))
    running = []
    for server in wanted:
        try:
            running.append(stack.enter_context(server))
        except servers.ServerFailedError as error:
            results.missing.append(str(error))
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
        served = [file for file in files if server.name in offers[file]]
        results.endurance.append(endure(container, server, served, reads=effort.endurance_reads, readers=4, cpu=cpu))
    _show(report.endurance_table(results.endurance))


def _check_contents(container: Container, offers: dict[str, list[str]], results: Results) -> None:
    """A fast answer is worth nothing when it is the host's: those that scope must show the container's limit."""
    for contender in offers["meminfo"]:
        line = container.first_line(container.path(contender, "meminfo"))
        if contender in ("lxcfs", "ours") and line.split()[1] != str(MEMORY_BYTES // 1024):
            results.missing.append(f"WRONG BYTES: {contender} shows the container '{line}'")


def _measure_propagation(running: list[Server], effort: Effort, work: Path, results: Results) -> None:
    ours = next((server for server in running if server.name == "ours"), None)
    if ours is None:
        results.missing.append("propagation: there are no views to publish")
        return
    for count in effort.propagated:
        results.propagation.append(propagation.measure(ours.mount, work, namespaces=count))
    _show("Views of all slots into mount namespaces, medians\n" + propagation.table(results.propagation))


def _measure_sampling(limits: Limits, effort: Effort, results: Results) -> None:
    try:
        from bench import sampling
    except ImportError as error:
        results.missing.append(f"load sampling: {error}")
        return
    results.sampling = sampling.measure(limits, containers=effort.sampled_containers)
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


def _verdicts(results: Results) -> list[Verdict]:
    verdicts = []
    for file, limit in bounds.HOT_PATH_RATIO.items():
        result = results.hotpath.get(file)
        value = result.render.median_ns / result.kernel.median_ns if result else math.nan
        verdicts.append(Verdict(f"hot path: render of {file} / kernel's open-read-close", value, limit))
    value = results.large_host.render.median_ns / 1e6 if results.large_host else math.nan
    verdicts.append(Verdict("hot path: cpuinfo of 256 CPUs", value, bounds.LARGE_CPUINFO_NS / 1e6, unit=" ms"))
    for file, limit in bounds.LXCFS_RATIO.items():
        medians = [results.latency.get(Cell(PINNED, file, name), Samples()).median_ns for name in ("lxcfs", "ours")]
        verdicts.append(
            Verdict(f"through FUSE, pinned: lxcfs / ours, {file}", medians[0] / medians[1], limit, at_least=True)
        )
    verdicts += results.hook.verdicts() if results.hook else []
    ours = next((result for result in results.endurance if result.contender == "ours"), None)
    reads = f"{ours.reads:,} reads" if ours else "reads"
    peak, growth = (ours.peak_bytes / MIB, ours.growth_bytes / MIB) if ours else (math.nan, math.nan)
    verdicts.append(Verdict(f"resident memory over {reads}", peak, bounds.RESIDENT_BYTES / MIB, unit=" MiB"))
    verdicts.append(
        Verdict(f"its growth after the first tenth of {reads}", growth, bounds.GROWTH_BYTES / MIB, unit=" MiB")
    )
    return verdicts


def _save(path: Path, limits: Limits, lxcfs_version: str, results: Results, verdicts: list[Verdict]) -> None:
    def cells(values: dict[Cell, Samples]) -> list[dict[str, Any]]:
        return [{**asdict(cell), **samples.summary()} for cell, samples in values.items()]

    large = results.large_host
    document = {
        "heading": report.heading(limits, lxcfs_version).splitlines(),
        "latency": cells(results.latency),
        "fresh": cells(results.fresh),
        "rate": [{**asdict(cell), "reads_per_second": value} for cell, value in results.rate.items()],
        "endurance": [asdict(result) for result in results.endurance],
        "hotpath": {
            file: {name: getattr(result, name).summary() for name in ("kernel", "identify", "render")}
            for file, result in results.hotpath.items()
        },
        "large_host": {"first_ns": large.first_ns, **large.render.summary()} if large else None,
        "sampling": asdict(results.sampling) if results.sampling else None,
        "hook": {what: runs.summary() for what, runs in results.hook.runs.items()} if results.hook else None,
        "propagation": [asdict(one) for one in results.propagation],
        "verdicts": [{**asdict(verdict), "kept": verdict.kept} for verdict in verdicts],
        "notes": results.missing,
    }
    path.write_text(json.dumps(document, indent=1) + "\n")


def _show(text: str) -> None:
    print("\n" + text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
