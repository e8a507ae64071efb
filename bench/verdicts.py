"""The bounds, applied to what a run has found. A bound that could not be measured is a row, too, and is not kept."""

import math
from collections.abc import Iterator, Mapping

from bench import bounds
from bench.bounds import MIB, Verdict
from bench.control import CLIENTS
from bench.files import FILES
from bench.neighbour import BESIDE_FLOOD, BESIDE_OWN, CROWD_ALONE, CROWD_IN_FLOOD, THREADS
from bench.results import Results
from bench.servers import FLOOR, LXCFS, OURS, PYFUSE3, RING
from bench.stats import Samples
from bench.through_fuse import PINNED, UNPINNED, Cell, Rate


def verdicts(results: Results, *, reasons: Mapping[str, str]) -> list[Verdict]:
    """``reasons``: by contender, why it is not there."""
    return [
        *_hot_path(results),
        *_latency(results, reasons),
        *_rate(results, reasons.get(LXCFS, "")),
        *_crowd(results),
        *_idle(results),
        *_neighbour(results),
        *_control(results),
        *(results.hook.verdicts() if results.hook else []),
        *_memory(results),
    ]


def _hot_path(results: Results) -> Iterator[Verdict]:
    for file, limit in bounds.HOT_PATH_RATIO.items():
        result = results.hotpath.get(file)
        value = result.render.median_ns / result.kernel.median_ns if result else math.nan
        yield Verdict(f"hot path: render of {file} / kernel's open-read-close", value, limit)
    value = results.large_host.render.median_ns / 1e6 if results.large_host else math.nan
    yield Verdict("hot path: cpuinfo of 256 CPUs", value, bounds.LARGE_CPUINFO_NS / 1e6, unit=" ms")


def _latency(results: Results, reasons: Mapping[str, str]) -> Iterator[Verdict]:
    def at(file: str, contender: str, placement: str = PINNED) -> float:
        return results.latency.get(Cell(placement, file, contender), Samples()).median_ns

    for file in FILES:
        floor = at(file, FLOOR)
        yield Verdict(
            f"pinned: ours / floor, {file}",
            at(file, OURS) / floor,
            bounds.FLOOR_RATIO,
            pyfuse3=at(file, PYFUSE3) / floor,
            reason=reasons.get(FLOOR, ""),
        )
    for file, limit in bounds.LXCFS_RATIO.items():
        lxcfs = at(file, LXCFS)
        yield Verdict(
            f"pinned: lxcfs / ours, {file}",
            lxcfs / at(file, OURS),
            limit,
            at_least=True,
            pyfuse3=lxcfs / at(file, PYFUSE3),
            reason=reasons.get(LXCFS, ""),
        )
    for file, limit in bounds.RING_RATIO.items():
        lxcfs = at(file, LXCFS, UNPINNED)
        yield Verdict(
            f"unpinned: lxcfs / ours by a ring, {file}",
            lxcfs / at(file, RING, UNPINNED),
            limit,
            at_least=True,
            pyfuse3=lxcfs / at(file, PYFUSE3, UNPINNED),
            reason=reasons.get(LXCFS, "") or reasons.get(RING, ""),
        )


def _rate(results: Results, reason: str) -> Iterator[Verdict]:
    def at(placement: str, contender: str) -> Rate:
        return results.rate.get(Cell(placement, bounds.RATE_FILE, contender), Rate())

    for placement in (PINNED, UNPINNED):
        lxcfs = at(placement, LXCFS).reads_per_second
        yield Verdict(
            f"{placement}: reads/s of 4 readers, ours / lxcfs, {bounds.RATE_FILE}",
            at(placement, OURS).reads_per_second / lxcfs,
            bounds.RATE_RATIO,
            at_least=True,
            pyfuse3=at(placement, PYFUSE3).reads_per_second / lxcfs,
            reason=reason,
        )
    cost = {name: at(PINNED, name).cpu_usec_per_read for name in (LXCFS, OURS, PYFUSE3)}
    yield Verdict(
        f"pinned: server's CPU time of a read, ours / lxcfs, {bounds.RATE_FILE}",
        _ratio(cost[OURS], cost[LXCFS]),
        bounds.CPU_RATIO,
        pyfuse3=_ratio(cost[PYFUSE3], cost[LXCFS]),
        reason=reason,
    )


def _crowd(results: Results) -> Iterator[Verdict]:
    crowd = results.crowd
    many = f"{crowd.containers:,} containers" if crowd else "many containers"

    def ratios(contender: str) -> tuple[float, float]:
        reads = crowd.reads.get(contender) if crowd else None
        if reads is None:
            return math.nan, math.nan
        return (
            reads.one_of_many.median_ns / reads.only.median_ns,
            reads.in_turn.median_ns / reads.only_in_turn.median_ns,
        )

    whats = ("one of them / the only one", "all in turn / the only one, woken alike")
    for what, value, compared in zip(whats, ratios(OURS), ratios(PYFUSE3), strict=True):
        yield Verdict(f"{many}, meminfo: {what}", value, bounds.CROWD_RATIO, pyfuse3=compared)
    resident = {name: crowd.resident_bytes.get(name, math.nan) / MIB if crowd else math.nan for name in (OURS, PYFUSE3)}
    yield Verdict(
        f"{many}: resident memory", resident[OURS], bounds.RESIDENT_BYTES / MIB, unit=" MiB", pyfuse3=resident[PYFUSE3]
    )
    percent = {name: crowd.sampling_percent.get(name, math.nan) if crowd else math.nan for name in (OURS, PYFUSE3)}
    yield Verdict(
        f"{many}, idle: the daemon samples all loads",
        percent[OURS],
        bounds.SAMPLING_PERCENT,
        unit=" %",
        pyfuse3=percent[PYFUSE3],
    )
    sampling = results.sampling
    many = f"{sampling.containers:,} containers" if sampling else "many containers"
    value = sampling.percent_of_a_core(sampling.moved_ns) if sampling else math.nan
    yield Verdict(f"{many}, every one is scanned each time", value, bounds.SAMPLING_PERCENT, unit=" %")


def _idle(results: Results) -> Iterator[Verdict]:
    value = results.idle.daemon if results.idle else math.nan
    yield Verdict("idle: the daemon's wake-ups per minute", value, bounds.IDLE_WAKE_UPS)


def _neighbour(results: Results) -> Iterator[Verdict]:
    def ratio(server: str, flooded: str, own: str) -> float:
        found = results.neighbour.get(server)
        return found[flooded].p99_ns / found[own].p99_ns if found else math.nan

    for what, flooded, own in (
        (f"a neighbour's {THREADS} readers / {THREADS} more of one's own", BESIDE_FLOOD, BESIDE_OWN),
        (f"{THREADS} readers beside a neighbour's {THREADS} / alone", CROWD_IN_FLOOD, CROWD_ALONE),
    ):
        yield Verdict(
            f"p99 of meminfo: {what}",
            ratio(OURS, flooded, own),
            bounds.NEIGHBOUR_RATIO,
            pyfuse3=ratio(PYFUSE3, flooded, own),
        )


def _control(results: Results) -> Iterator[Verdict]:
    found = results.control
    value = found.beside.median_ns / found.alone.median_ns if found else math.nan
    yield Verdict(f"meminfo: beside {CLIENTS} clients of the control socket / alone", value, bounds.CONTROL_RATIO)


def _memory(results: Results) -> Iterator[Verdict]:
    ours = next((result for result in results.endurance if result.contender == OURS), None)
    reads = f"{ours.reads:,} reads" if ours else "reads"
    peak, growth = (ours.peak_bytes / MIB, ours.growth_bytes / MIB) if ours else (math.nan, math.nan)
    yield Verdict(f"resident memory over {reads}", peak, bounds.RESIDENT_BYTES / MIB, unit=" MiB")
    yield Verdict(f"its growth after the first tenth of {reads}", growth, bounds.GROWTH_BYTES / MIB, unit=" MiB")


def _ratio(above: float, below: float) -> float:
    """CPU time is counted in hundredths of a second: a short run may have used none."""
    return above / below if below else math.nan
