"""Reliability: the daemon is killed at random moments, under readers that check every byte, and nobody is to notice.

It runs under ``procview supervise``, with slots and guard, as it would without systemd. Containers and checks are those
of the endurance run (``soak.c``): no text may be wrong, no counter may go back, no call may fail. Another reader is
timed: the longest of its reads from a kill until it can read again is what that kill cost.

Touches: as ``bench.soak`` does.
Exit status: 0 when every bound is kept, 1 when one is not, 2 when nothing could be measured.
"""

import argparse
import json
import os
import random
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench import report, soak_report
from bench.bounds import STALL_P99_MS, Verdict
from bench.compile import compiled
from bench.ending import end_if_told, end_when_told
from bench.files import FILES
from bench.private import enter_private_mounts
from bench.servers import ServerFailedError
from bench.soak import Containers, SoakFailedError, expected_of, limits_of, running_containers
from bench.soak_report import Counted
from bench.supervised import Supervised, Timed, supervised

STEP_READS = 2000
_PAUSES_SECONDS = (0.05, 1.5)


Strike = Callable[[int], None]
"""Does something to the daemon with this pid, after which another one is to serve."""


def kill(daemon: int) -> None:
    with suppress(ProcessLookupError):  # it has ended by itself, which the next one's start shows
        os.kill(daemon, signal.SIGKILL)


@dataclass
class Struck:
    """What became of the daemons."""

    stalls_ms: list[float] = field(default_factory=list)
    """For each strike."""
    by_standby: int = 0
    anew: int = 0
    """Strikes after which the connection was not gone on with."""


class Striker(threading.Thread):
    """Strikes the daemon, again and again, at random moments."""

    def __init__(self, server: Supervised, timed: Timed, strike: Strike, count: int, seed: int) -> None:
        super().__init__(daemon=True)
        self._pauses_seconds = [seconds * server.slow for seconds in _PAUSES_SECONDS]
        self._server, self._timed, self._strike, self._count = server, timed, strike, count
        self._random = random.Random(seed)
        self.struck = Struck()
        self.trouble = ""

    def run(self) -> None:
        daemon = 0
        try:
            for _ in range(self._count):
                daemon = self._server.daemon(than=daemon)
                time.sleep(self._random.uniform(*self._pauses_seconds))
                self._timed.longest_seconds()
                reads = self._timed.reads
                self._strike(daemon)
                self._server.daemon(than=daemon)
                # The one that was under way then, and another.
                self._timed.wait_for(reads + 2)
                self.struck.stalls_ms.append(self._timed.longest_seconds() * 1000)
        except (ServerFailedError, OSError) as error:
            self.trouble = f"after {len(self.struck.stalls_ms)} times: {error}"
        said = self._server.log.read_text(errors="replace")
        self.struck.by_standby = said.count("(the standby)")
        self.struck.anew = said.count("with 0 descriptors kept for it") - 1


@dataclass(frozen=True)
class Run:
    """What was counted and timed meanwhile."""

    counted: Counted
    reads: int
    """Of the timed reader."""
    errors: dict[str, int]
    """Its own."""
    struck: Struck
    reports: Sequence[dict[str, Any]]

    @property
    def failed(self) -> int:
        return sum(self.counted.failed.values()) + sum(self.errors.values())


def run_under(strike: Strike, server: Supervised, *, containers: int, count: int, seed: int) -> Run:
    """Strike ``count`` times while so many containers read. Raises ServerFailedError, SoakFailedError."""
    limits = [limits_of(number) for number in range(containers)]
    with running_containers(server.mount, limits) as running:
        for own in limits:
            running.start(expected_of(own))
        timed = Timed(server.mount / FILES["meminfo"], server.slow)
        striker = Striker(server, timed, strike, count, seed)
        timed.start()
        striker.start()
        try:
            counted = _read_while(striker, running, count)
            reports = running.reports()
        finally:
            timed.end()
        run = Run(counted, timed.reads, timed.errors, striker.struck, reports)
        if striker.trouble:
            print(f"\nin trouble {striker.trouble}", file=sys.stderr)
        if run.struck.anew > 0 or run.failed or striker.trouble:
            print(server.log.read_text(errors="replace")[-20000:], file=sys.stderr)
    return run


def verdicts(
    run: Run, count: int, what: str = "times that the daemon was killed", *, slow: float = 1.0
) -> list[Verdict]:
    """On a machine that is emulated (``slow``) nothing is said of time."""
    found = [
        Verdict(what, len(run.struck.stalls_ms), count, at_least=True),
        Verdict("reads that failed", run.failed, 0),
        Verdict("texts or pieces that are wrong, counters that go back", run.counted.wrong, 0),
        Verdict("starts that did not go on with the connection", run.struck.anew, 0),
    ]
    if slow == 1:
        found.append(Verdict("p99 of the longest read after it", _p99(run.struck.stalls_ms), STALL_P99_MS, unit=" ms"))
    return found


def _p99(values: Sequence[float]) -> float:
    return float("nan") if len(values) < 2 else statistics.quantiles(values, n=100, method="inclusive")[98]


def table(run: Run, title: str = "The daemon is killed, and readers go on", name: str = "kills") -> str:
    stalls = sorted(run.struck.stalls_ms)
    row = [
        *(report.thousands(value) for value in (len(stalls), run.struck.by_standby, run.counted.reads + run.reads)),
        report.thousands(run.counted.requests),
        str(run.failed),
        str(run.counted.wrong),
        *(f"{value:.0f}" for value in (statistics.median(stalls or [0]), _p99(stalls or [0, 0]), max(stalls or [0]))),
    ]
    header = [name, "standby", "reads", "calls", "failed", "wrong", "stall median", "p99", "longest ms"]
    lines = [report.table(title, header, [row])]
    lines.append(
        f"({run.counted.killed:,} callers were killed as well, {run.counted.killed_asking:,} of them in mid-request)"
    )
    for failure, count in {**run.counted.failed, **run.errors}.items():
        lines.append(f"failed: {failure} {count:,}")
    return "\n".join([*lines, *map(soak_report.report_lines, run.reports)])


def tell(run: Run, printed: str, found: Sequence[Verdict], heading: str, seed: int, file: str | None) -> int:
    """Print what came out, save it in ``file`` where there is one, and give the exit status."""
    print("\n" + printed, soak_report.verdict_table(found), sep="\n\n")
    if file:
        document = {"heading": heading.splitlines(), "seed": seed, "struck": asdict(run.struck),
                    "counted": asdict(run.counted), "reports": list(run.reports),
                    "verdicts": [{**asdict(one), "kept": one.kept} for one in found]}  # fmt: skip
        Path(file).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    kept = all(verdict.kept for verdict in found)
    print("\nevery bound is kept" if kept else "\nFAIL: not every bound is kept")
    return 0 if kept else 1


def main() -> int:
    options = _arguments()
    if os.geteuid() != 0:
        print("chaos: needs root: it mounts a file system and makes cgroups", file=sys.stderr)
        return 2
    end_when_told()
    compiled("soak")
    heading = soak_report.heading("chaos")
    print(heading, f"seed:        {options.seed}", sep="\n", flush=True)
    enter_private_mounts()
    try:
        with (
            tempfile.TemporaryDirectory(prefix="procview-bench-") as work,
            supervised(Path(work), options.takeover_seconds, slow=options.slow) as server,
        ):
            run = run_under(kill, server, containers=options.containers, count=options.kills, seed=options.seed)
    except (ServerFailedError, SoakFailedError) as error:
        print(f"\nchaos: {error}", file=sys.stderr)
        return 2
    return tell(run, table(run), verdicts(run, options.kills, slow=options.slow), heading, options.seed, options.json)


def _read_while(striker: Striker, containers: Containers, count: int) -> Counted:
    """All containers, as long as daemons are struck; what they have counted."""
    counted = Counted()
    while striker.is_alive():
        for so_far in containers.read_until(counted.reads + STEP_READS):
            counted = so_far
            end_if_told()
            if sys.stderr.isatty():
                done = len(striker.struck.stalls_ms)
                line = f"{done:,} of {count:,} times, {counted.reads:,} reads, {sum(counted.failed.values())} failed"
                print(f"\r{line}", end="", file=sys.stderr, flush=True)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    return counted


def add_options(parser: argparse.ArgumentParser) -> None:
    """What this and bench.upgrade are told alike."""
    parser.add_argument("--containers", type=int, default=10, metavar="N", help="how many read (10)")
    parser.add_argument("--seed", type=int, default=None, metavar="N", help="of the moments (a random one, printed)")
    parser.add_argument(
        "--takeover-seconds",
        type=float,
        metavar="N",
        help="how long readers may wait for the next daemon (the setting)",
    )
    parser.add_argument(
        "--slow",
        type=float,
        default=1.0,
        metavar="FACTOR",
        help="on an emulated machine: pauses, waits, the watchdog, takeover_seconds and hang_seconds, so many times; "
        "nothing is said of stalls then",
    )
    parser.add_argument("--json", metavar="FILE", help="save the figures behind the tables")


def check_options(parser: argparse.ArgumentParser, options: argparse.Namespace, count: int) -> None:
    """Ends the program where they make no sense; a seed is found where there is none."""
    if count < 1 or not 1 <= options.containers <= 1000:
        parser.error("it wants at least one time, and 1 to 1000 containers")
    if not 1 <= options.slow <= 1000:
        parser.error("--slow: a factor from 1 to 1000")
    if options.seed is None:
        options.seed = random.SystemRandom().randrange(1 << 32)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.chaos", description=__doc__.splitlines()[0] if __doc__ else None
    )
    parser.add_argument("--kills", type=int, default=1000, metavar="N", help="how often the daemon is killed (1000)")
    add_options(parser)
    options = parser.parse_args()
    check_options(parser, options, options.kills)
    return options


if __name__ == "__main__":
    sys.exit(main())
