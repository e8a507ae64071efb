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
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bench import report, soak_report
from bench.bounds import STALL_P99_MS, Verdict
from bench.compile import CHECKOUT, compiled
from bench.ending import end_if_told, end_when_told
from bench.files import FILES
from bench.private import die_with_parent, enter_private_mounts
from bench.servers import ServerFailedError
from bench.soak import Containers, SoakFailedError, expected_of, limits_of, running_containers
from bench.soak_report import Counted
from procview.lock import holder
from procview.slots.publish import published, withdraw
from procview.slots.skeleton import Skeleton

START_SECONDS = 60.0
STEP_READS = 2000
_PAUSES_SECONDS = (0.05, 1.5)


class Supervised:
    """``procview supervise``, and the daemon that serves under it."""

    def __init__(self, process: "subprocess.Popen[bytes]", run_directory: Path, log: Path) -> None:
        self.process = process
        self.skeleton = Skeleton(str(run_directory))
        self.mount = run_directory / "fs"
        self.log = log

    def daemon(self, than: int = 0) -> int:
        """Wait for the pid of a daemon that is another one than ``than``. Raises ServerFailedError."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            owner = holder(self.skeleton.lock)
            if owner is not None and owner.pid not in (None, than):
                return int(owner.pid or 0)
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise ServerFailedError(f"there is no daemon: {self.last_words()}")
            time.sleep(0.002)

    def wait_until_served(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while "proc/uptime" not in published(self.skeleton) or b"serving" not in self.log.read_bytes():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise ServerFailedError(f"it does not serve: {self.last_words()}")
            time.sleep(0.02)

    def last_words(self) -> str:
        return " | ".join(self.log.read_text(errors="replace").splitlines()[-5:]) or "(it said nothing)"


@contextmanager
def supervised(work: Path, takeover_seconds: float | None) -> Iterator[Supervised]:
    """It is ended, and its slots are taken down, whatever happens."""
    run_directory, log = work / "run", work / "log"
    config = work / "procview.toml"
    setting = "" if takeover_seconds is None else f"takeover_seconds = {takeover_seconds}\n"
    config.write_text(setting, encoding="utf-8")
    command = [sys.executable, "-m", "procview", "supervise", "--steady-seconds", "0"]
    command += ["--run-directory", str(run_directory), "--config", str(config)]
    environment = {key: value for key, value in os.environ.items() if key not in ("NOTIFY_SOCKET", "WATCHDOG_USEC")}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=CHECKOUT, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            preexec_fn=die_with_parent,
        )  # fmt: skip
    found = Supervised(process, run_directory, log)
    try:
        found.wait_until_served()
        yield found
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        withdraw(found.skeleton)
        found.skeleton.remove()


class Timed(threading.Thread):
    """Reads one file without a pause, until told to end."""

    def __init__(self, path: Path) -> None:
        super().__init__(daemon=True)
        self._path = path
        self._over = threading.Event()
        self._begun = time.monotonic()
        self._longest = 0.0
        self.reads = 0
        self.errors: dict[str, int] = {}

    def run(self) -> None:
        while not self._over.is_set():
            self._begun = time.monotonic()
            try:
                self._path.read_bytes()
            except OSError as error:
                name = error.strerror or str(error)
                self.errors[name] = self.errors.get(name, 0) + 1
            self._longest = max(self._longest, time.monotonic() - self._begun)
            self.reads += 1
            time.sleep(0.001)

    def longest_seconds(self) -> float:
        """Of the reads since the last call, that under way included."""
        longest, self._longest = max(self._longest, time.monotonic() - self._begun), 0.0
        return longest

    def wait_for(self, reads: int) -> None:
        """Until it has read so often. Raises ServerFailedError."""
        deadline = time.monotonic() + START_SECONDS
        while self.reads < reads:
            if time.monotonic() > deadline:
                raise ServerFailedError(f"a reader waits for {START_SECONDS:.0f} s")
            time.sleep(0.002)

    def end(self) -> None:
        self._over.set()
        self.join(START_SECONDS)


@dataclass
class Killed:
    """What became of the daemons."""

    stalls_ms: list[float] = field(default_factory=list)
    """For each kill."""
    by_standby: int = 0
    anew: int = 0
    """Kills after which the connection was not gone on with."""


class Killer(threading.Thread):
    """Kills the daemon, again and again, at random moments."""

    def __init__(self, server: Supervised, timed: Timed, kills: int, seed: int) -> None:
        super().__init__(daemon=True)
        self._server, self._timed, self._kills = server, timed, kills
        self._random = random.Random(seed)
        self.killed = Killed()
        self.trouble = ""

    def run(self) -> None:
        daemon = 0
        try:
            for _ in range(self._kills):
                daemon = self._server.daemon(than=daemon)
                time.sleep(self._random.uniform(*_PAUSES_SECONDS))
                self._timed.longest_seconds()
                reads = self._timed.reads
                with suppress(ProcessLookupError):  # it has ended by itself, which the next one's start shows
                    os.kill(daemon, signal.SIGKILL)
                self._server.daemon(than=daemon)
                # The one that was under way then, and another.
                self._timed.wait_for(reads + 2)
                self.killed.stalls_ms.append(self._timed.longest_seconds() * 1000)
        except (ServerFailedError, OSError) as error:
            self.trouble = f"after {len(self.killed.stalls_ms)} kills: {error}"
        said = self._server.log.read_text(errors="replace")
        self.killed.by_standby = said.count("(the standby)")
        self.killed.anew = said.count("with 0 descriptors kept for it") - 1


def verdicts(counted: Counted, timed: Timed, killed: Killed, kills: int) -> list[Verdict]:
    return [
        Verdict("times that the daemon was killed", len(killed.stalls_ms), kills, at_least=True),
        Verdict("reads that failed", sum(counted.failed.values()) + sum(timed.errors.values()), 0),
        Verdict("texts or pieces that are wrong, counters that go back", counted.wrong, 0),
        Verdict("starts that did not go on with the connection", killed.anew, 0),
        Verdict("p99 of the longest read after a kill", _p99(killed.stalls_ms), STALL_P99_MS, unit=" ms"),
    ]


def _p99(values: Sequence[float]) -> float:
    return float("nan") if len(values) < 2 else statistics.quantiles(values, n=100, method="inclusive")[98]


def table(counted: Counted, timed: Timed, killed: Killed) -> str:
    stalls = sorted(killed.stalls_ms)
    row = [
        *(report.thousands(value) for value in (len(stalls), killed.by_standby, counted.reads + timed.reads)),
        report.thousands(counted.requests),
        str(sum(counted.failed.values()) + sum(timed.errors.values())),
        str(counted.wrong),
        *(f"{value:.0f}" for value in (statistics.median(stalls or [0]), _p99(stalls or [0, 0]), max(stalls or [0]))),
    ]
    header = ["kills", "standby", "reads", "calls", "failed", "wrong", "stall median", "p99", "longest ms"]
    lines = [report.table("The daemon is killed, and readers go on", header, [row])]
    lines.append(f"({counted.killed:,} callers were killed as well, {counted.killed_asking:,} of them in mid-request)")
    for name, count in {**counted.failed, **timed.errors}.items():
        lines.append(f"failed: {name} {count:,}")
    return "\n".join(lines)


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
    limits = [limits_of(number) for number in range(options.containers)]
    try:
        with (
            tempfile.TemporaryDirectory(prefix="procview-bench-") as work,
            supervised(Path(work), options.takeover_seconds) as server,
            running_containers(server.mount, limits) as containers,
        ):
            for own in limits:
                containers.start(expected_of(own))
            timed = Timed(server.mount / FILES["meminfo"])
            killer = Killer(server, timed, options.kills, options.seed)
            timed.start()
            killer.start()
            try:
                counted = _read_while(killer, containers, options.kills)
                reports = containers.reports()
            finally:
                timed.end()
            if killer.trouble:
                print(f"\nchaos: {killer.trouble}", file=sys.stderr)
            if killer.killed.anew > 0 or counted.failed or timed.errors or killer.trouble:
                print(server.log.read_text(errors="replace")[-20000:], file=sys.stderr)
    except (ServerFailedError, SoakFailedError) as error:
        print(f"\nchaos: {error}", file=sys.stderr)
        return 2
    found = verdicts(counted, timed, killer.killed, options.kills)
    print("\n" + table(counted, timed, killer.killed), *map(soak_report.report_lines, reports), sep="\n")
    print("\n" + soak_report.verdict_table(found))
    if options.json:
        document = {"heading": heading.splitlines(), "seed": options.seed, "killed": asdict(killer.killed),
                    "counted": asdict(counted), "reports": list(reports),
                    "verdicts": [{**asdict(one), "kept": one.kept} for one in found]}  # fmt: skip
        Path(options.json).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    kept = all(verdict.kept for verdict in found)
    print("\nevery bound is kept" if kept else "\nFAIL: not every bound is kept")
    return 0 if kept else 1


def _read_while(killer: Killer, containers: Containers, kills: int) -> Counted:
    """All containers, as long as daemons are killed; what they have counted."""
    counted = Counted()
    while killer.is_alive():
        for so_far in containers.read_until(counted.reads + STEP_READS):
            counted = so_far
            end_if_told()
            if sys.stderr.isatty():
                done = len(killer.killed.stalls_ms)
                line = f"{done:,} of {kills:,} kills, {counted.reads:,} reads, {sum(counted.failed.values())} failed"
                print(f"\r{line}", end="", file=sys.stderr, flush=True)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    return counted


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.chaos", description=__doc__.splitlines()[0] if __doc__ else None
    )
    parser.add_argument("--kills", type=int, default=1000, metavar="N", help="how often the daemon is killed (1000)")
    parser.add_argument("--containers", type=int, default=10, metavar="N", help="how many read (10)")
    parser.add_argument("--seed", type=int, default=None, metavar="N", help="of the moments (a random one, printed)")
    parser.add_argument(
        "--takeover-seconds",
        type=float,
        metavar="N",
        help="how long readers may wait for the next daemon (the setting)",
    )
    parser.add_argument("--json", metavar="FILE", help="save the figures behind the tables")
    options = parser.parse_args()
    if options.kills < 1 or not 1 <= options.containers <= 1000:
        parser.error("at least one kill, and 1 to 1000 containers")
    if options.seed is None:
        options.seed = random.SystemRandom().randrange(1 << 32)
    return options


if __name__ == "__main__":
    sys.exit(main())
