"""Plain text tables of at most 120 columns: the ratios first, then what they were made from."""

import math
import os
import platform
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from bench.bounds import HOT_PATH_RATIO, MIB, VERDICT_HEADER, Verdict
from bench.cgroups import Limits, hierarchies
from bench.control import CLIENTS, Control
from bench.crowd import CrowdResult
from bench.endurance import Endurance
from bench.idle import Idle
from bench.neighbour import ALONE, BESIDE_FLOOD, BESIDE_OWN, CROWD_ALONE, CROWD_IN_FLOOD, SITUATIONS, Neighbour
from bench.servers import FLOOR, KERNEL, LXCFS, OURS, PYFUSE3, RING
from bench.stats import Samples
from bench.through_fuse import Cell, Rate

if TYPE_CHECKING:
    # It imports the compiled engine, and the rest of the benchmark runs without that.
    from bench.hotpath import HotPath, LargeHost
    from bench.sampling import Sampling

CONTENDERS = (KERNEL, FLOOR, LXCFS, OURS, RING, PYFUSE3)
SLOWEST_READS_OF = (LXCFS, OURS)
CPU_OF = (LXCFS, OURS, RING)
"""Whose 99th percentiles, and whose CPU time, a table of 120 columns has room for."""


def heading(limits: Limits, lxcfs_version: str) -> str:
    cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    model = next((line.partition(":")[2].strip() for line in cpuinfo if line.startswith("model name")), "?")
    packages = ", ".join(f"{name} {_version(name)}" for name in ("procview", "pyfuse3", "trio"))
    kinds = {hierarchy.unified for hierarchy in hierarchies()}
    cgroup = {(True,): "v2", (False,): "v1", (False, True): "hybrid (v1 controllers)"}[tuple(sorted(kinds))]
    lines = {
        "command": f"python -m bench {shlex.join(sys.argv[1:])}".rstrip(),
        "kernel": f"{platform.release()} {platform.machine()}, cgroup {cgroup}",
        "CPUs": f"{os.cpu_count()} x {model}",
        "load before": " ".join(f"{load:.2f}" for load in os.getloadavg()),
        "versions": f"Python {platform.python_version()}, {packages}, lxcfs {lxcfs_version}",
        "container": f"memory {limits.memory_bytes // MIB} MiB, CPUs {limits.cpu_list}, quota {len(limits.cpus)} CPUs",
    }
    return "\n".join(f"{name + ':':<13}{text}" for name, text in lines.items())


def latency_table(title: str, placement: str, files: Sequence[str], cells: Mapping[Cell, Samples]) -> str:
    def at(file: str, contender: str) -> Samples:
        return cells.get(Cell(placement, file, contender), Samples())

    rows = []
    for file in files:
        medians = {name: at(file, name).median_ns for name in CONTENDERS}
        rows.append(
            [
                file,
                ratio(medians[LXCFS], medians[OURS]),
                ratio(medians[LXCFS], medians[RING]),
                ratio(medians[OURS], medians[FLOOR]),
                *(usec(medians[name]) for name in CONTENDERS),
                *(usec(at(file, name).p99_ns) for name in SLOWEST_READS_OF),
            ]
        )
    header = [
        "file",
        "lxcfs/ours",
        "lxcfs/ring",
        "ours/floor",
        *CONTENDERS,
        *(f"p99 {name}" for name in SLOWEST_READS_OF),
    ]
    return table(f"{title}, {placement}: ratios of medians, then medians and p99 in µs", header, rows)


def rate_table(title: str, placement: str, files: Sequence[str], cells: Mapping[Cell, Rate]) -> str:
    def at(file: str, contender: str) -> Rate:
        return cells.get(Cell(placement, file, contender), Rate())

    rows = []
    for file in files:
        per_second = {name: at(file, name).reads_per_second for name in CONTENDERS}
        rows.append(
            [
                file,
                *(ratio(per_second[name], per_second[LXCFS]) for name in (OURS, RING)),
                *(thousands(per_second[name]) for name in CONTENDERS),
                *(number(at(file, name).cpu_usec_per_read) for name in CPU_OF),
            ]
        )
    header = ["file", "ours/lxcfs", "ring/lxcfs", *CONTENDERS, *(f"CPU {name}" for name in CPU_OF)]
    return table(
        f"{title}, {placement}: ratios, then reads/s, then the server's CPU time of a read in µs", header, rows
    )


def neighbour_table(results: Neighbour) -> str:
    rows = [
        [
            server,
            ratio(found[BESIDE_FLOOD].p99_ns, found[BESIDE_OWN].p99_ns),
            ratio(found[CROWD_IN_FLOOD].p99_ns, found[CROWD_ALONE].p99_ns),
            ratio(found[BESIDE_FLOOD].p99_ns, found[ALONE].p99_ns),
            *(usec(found[situation].p99_ns, 0) for situation in SITUATIONS),
        ]
        for server, found in results.items()
    ]
    header = ["server", "flood/own", "64 in flood/alone", "flood/alone", *SITUATIONS]
    title = "A neighbour of a container with 64 readers, meminfo: ratios of its p99, then p99 in µs"
    return (
        table(title, header, rows) + "\n(flood on one CPU, timed reads on another, server on any: bench/neighbour.py)"
    )


def control_lines(result: Control) -> str:
    return (
        f"A reader of meminfo beside {CLIENTS} clients of the control socket / alone: "
        f"{ratio(result.beside.median_ns, result.alone.median_ns)} in the median "
        f"({usec(result.beside.median_ns)} and {usec(result.alone.median_ns)} µs), "
        f"{ratio(result.beside.p99_ns, result.alone.p99_ns)} in the 99th percentile "
        f"({usec(result.beside.p99_ns)} and {usec(result.alone.p99_ns)} µs)"
    )


def crowd_table(result: CrowdResult) -> str:
    rows = []
    for name, reads in result.reads.items():
        medians = [s.median_ns for s in (reads.only, reads.one_of_many, reads.only_in_turn, reads.in_turn)]
        rows.append(
            [
                name,
                ratio(medians[1], medians[0]),
                ratio(medians[3], medians[2]),
                *(usec(value) for value in medians),
                number(result.resident_bytes.get(name, math.nan) / MIB),
                number(result.sampling_percent.get(name, math.nan), 2),
            ]
        )
    header = [
        "",
        "one of many/only",
        "in turn/only",
        "only",
        "one of many",
        "only, woken",
        "in turn",
        "MiB",
        "idle CPU %",
    ]
    title = f"{result.containers:,} containers, meminfo, pinned: ratios of medians, then medians in µs; the server"
    return (
        table(title, header, rows) + f"\n(started in {result.start_seconds:.2f} s; 'woken': as in turns, for each read)"
    )


def idle_lines(result: Idle) -> str:
    return (
        f"Wake-ups per minute while nobody reads, counted for {result.seconds:.0f} s: the daemon {result.daemon:.1f}; "
        f"one that samples the load of a container {result.sampling_daemon:.1f}; the guard {result.guard:.1f}"
    )


def sampling_lines(result: "Sampling") -> str:
    rounds = (("nothing has moved", result.idle_ns), ("every one is scanned", result.moved_ns))
    return "\n".join(
        f"One round of the load sampler, {thousands(result.containers)} containers, {what}: "
        f"{round_ns / 1e6:.2f} ms, {result.percent_of_a_core(round_ns):.2f} % of a core at one in 5 s"
        for what, round_ns in rounds
    )


def endurance_table(results: Iterable[Endurance]) -> str:
    rows = [
        [
            result.contender,
            thousands(result.reads),
            *(
                f"{size / MIB:.2f}"
                for size in (
                    result.start_bytes,
                    result.warm_bytes,
                    result.end_bytes,
                    result.peak_bytes,
                    result.growth_bytes,
                )
            ),
            f"{result.cpu_usec_per_read:.1f}",
        ]
        for result in results
    ]
    header = ["server", "reads", "start", "after 1/10", "end", "peak", "growth 1/10..end", "server's CPU µs/read"]
    return table("Resident memory of the server in MiB, and its CPU time per read, pinned", header, rows)


def hotpath_table(results: Mapping[str, "HotPath"], overhead_ns: float) -> str:
    rows = []
    for file, result in results.items():
        kernel, identify, render = (s.median_ns for s in (result.kernel, result.identify, result.render))
        bound = HOT_PATH_RATIO.get(file)
        kept = "" if bound is None else Verdict(file, render / kernel, bound).word
        rows.append(
            [
                file,
                ratio(render, kernel),
                "" if bound is None else f"<= {bound:g}",
                kept,
                ratio(identify + render, kernel),
                *(usec(value, 2) for value in (kernel, identify, render, identify + render, result.render.p99_ns)),
            ]
        )
    header = [
        "file",
        "render/kernel",
        "bound",
        "",
        "sum/kernel",
        "kernel",
        "identify",
        "render",
        "sum",
        "p99 render",
    ]
    title = "Hot path without FUSE: ratios of medians, then medians in µs"
    return table(title, header, rows) + f"\n(a call from Python that does nothing: {overhead_ns:.0f} ns, left in ours)"


def large_host_lines(result: "LargeHost") -> str:
    return (
        f"cpuinfo of a synthetic host with 256 CPUs, all visible ({result.host_bytes:,} bytes): "
        f"render {usec(result.render.median_ns)} µs (p99 {usec(result.render.p99_ns)}), "
        f"the very first {usec(result.first_ns)}"
    )


def verdict_table(verdicts: Iterable[Verdict]) -> str:
    return table("Bounds", VERDICT_HEADER, [verdict.row() for verdict in verdicts])


def table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The first column to the left, numbers to the right."""
    widths = [max(len(line[column]) for line in (header, *rows)) for column in range(len(header))]
    lines = [
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in (header, *rows)
    ]
    return "\n".join([title, "-" * len(lines[0]), *(line.rstrip() for line in lines)])


def ratio(above: float, below: float) -> str:
    return "-" if math.isnan(above) or math.isnan(below) else f"{above / below:.2f}"


def usec(value_ns: float, digits: int = 1) -> str:
    return "-" if math.isnan(value_ns) else f"{value_ns / 1e3:.{digits}f}"


def number(value: float, digits: int = 1) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def thousands(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:,.0f}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(not installed)"
