"""Endurance: many containers read all files, callers die in mid-request, and every byte is checked.

What reads and checks is ``soak.c``. Between the tenths of the reads all readers are killed, every container reads every
file once (so that the same descriptors are kept each time), and when the daemon is calm it is weighed. It is the
daemon as it is by default, with no slots.

Touches: a mount namespace of its own, a directory in /tmp, cgroups procview-bench-<pid>-crowd, .cache of the checkout;
for rings of io_uring the kernel's parameter that allows them.
Exit status: 0 when every bound is kept, 1 when one is not, 2 when nothing could be measured.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from bench import soak_report
from bench.cgroups import Limits, crowd_groups
from bench.compile import compiled
from bench.ending import end_if_told, end_when_told
from bench.private import die_with_parent, enter_private_mounts
from bench.servers import Server, ServerFailedError, ours, ours_by_ring
from bench.soak_report import Counted, State
from bench.soak_watch import NotCalmError, Watch

STEPS = 10
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_QUOTAS = (None, 0.8, 1.7, 3.0)
_PARENT_CPUS = 64.0


class SoakFailedError(Exception):
    """The containers cannot go on: with the reason."""


@dataclass(frozen=True)
class Expected:
    """What a container must see."""

    memory_kb: int
    cpus: int


def limits_of(number: int) -> Limits:
    """Different for each container, so that no other one's numbers are right by chance."""
    cpus = tuple(sorted(os.sched_getaffinity(0)))[:2]
    cpusets = [cpus, *((cpu,) for cpu in cpus)]
    return Limits(
        memory_bytes=(96 << 20) + number * (1 << 20) + number * _PAGE_BYTES,
        cpus=cpusets[number % len(cpusets)],
        quota_cpus=_QUOTAS[number // len(cpusets) % len(_QUOTAS)],
    )


def expected_of(limits: Limits) -> Expected:
    in_set = len(limits.cpus)
    quota = in_set if limits.quota_cpus is None else math.ceil(limits.quota_cpus)
    return Expected(limits.memory_bytes // 1024, min(in_set, quota))


class Containers:
    """Talks to ``soak.c``."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def start(self, expected: Expected) -> int:
        """One more; how many files it can read."""
        return int(self._ask(f"start {expected.memory_kb} {expected.cpus}")["files"])

    def read_until(self, reads: int) -> Iterator[Counted]:
        """Until there have been so many by all of them; what has been counted so far, each second and at the end."""
        yield from self._counted(f"read {reads}")

    def read_once(self) -> Counted:
        """Every file, by the first process of each."""
        *_, last = self._counted("once")
        return last

    def reports(self) -> list[dict[str, Any]]:
        """The first that were wrong."""
        return list(self._ask("reports")["reports"])

    def _counted(self, command: str) -> Iterator[Counted]:
        answer = self._ask(command)
        while not answer.pop("over"):
            yield Counted(**answer)
            answer = self._answer()
        yield Counted(**answer)

    def _ask(self, command: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        end_if_told()
        answer: dict[str, Any] = json.loads(line or '{"error": "the containers have ended"}')
        if "error" in answer:
            raise SoakFailedError(answer["error"])
        return answer


@contextmanager
def running_containers(mount: Path, limits: Sequence[Limits]) -> Iterator[Containers]:
    parent = Limits(sum(own.memory_bytes for own in limits), tuple(sorted(os.sched_getaffinity(0))), _PARENT_CPUS)
    with crowd_groups(parent, limits) as groups:
        process = subprocess.Popen(
            [str(compiled("soak")), str(mount), *map(str, groups)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=die_with_parent,
        )
        try:
            yield Containers(process)
        finally:
            # It may be in the middle of a command. It ends its containers; if it is stuck, they die with it.
            process.terminate()
            try:
                process.communicate(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()


def main() -> int:
    options = _arguments()
    if os.geteuid() != 0:
        print("soak: needs root: it mounts a file system and makes cgroups", file=sys.stderr)
        return 2
    end_when_told()
    compiled("soak")
    heading = soak_report.heading()
    print(heading, flush=True)
    enter_private_mounts()
    states: list[State] = []
    reports: list[dict[str, Any]] = []
    trouble = ""
    try:
        with (
            tempfile.TemporaryDirectory(prefix="procview-bench-") as work,
            _server(Path(work), options.transport) as server,
        ):
            watch = Watch(server, Path(work) / f"{server.name}.log")
            _soak(server, watch, options.containers, options.reads, states, reports)
    except (ServerFailedError, SoakFailedError, NotCalmError, psutil.Error) as error:
        trouble = str(error)
        print(f"\nsoak: {trouble}", file=sys.stderr)
    if len(states) < 2:
        return 2
    verdicts = soak_report.verdicts(states)
    print("\n" + soak_report.table(states), *map(soak_report.report_lines, reports), sep="\n")
    print("\n" + soak_report.verdict_table(verdicts))
    if options.json:
        soak_report.save(Path(options.json), heading, states, reports, verdicts, trouble)
    kept = all(verdict.kept for verdict in verdicts) and not trouble
    print("\nevery bound is kept" if kept else "\nFAIL: not every bound is kept")
    return 0 if kept else 1


def _server(work: Path, transport: str | None) -> AbstractContextManager[Server]:
    if transport == "uring":
        return ours_by_ring(work)
    return ours(work, ["--transport", transport] if transport else [])


def _soak(
    server: Server, watch: Watch, count: int, reads: int, states: list[State], reports: list[dict[str, Any]]
) -> None:
    """Fills ``states`` and ``reports``, which are there after an error, too."""
    states.append(watch.when_calm("start", Counted()))
    limits = [limits_of(number) for number in range(count)]
    with running_containers(server.mount, limits) as containers:
        files = [containers.start(expected_of(own)) for own in limits]
        print(f"{count} containers, {min(files)} to {max(files)} files in each", flush=True)
        begun = time.monotonic()
        try:
            for step in range(1, STEPS + 1):
                watch.forget_peak()
                for counted in containers.read_until(reads * step // STEPS):
                    watch.look()
                    _show_progress(counted, reads, time.monotonic() - begun)
                _show_progress(counted, reads, time.monotonic() - begun, over=True)
                states.append(watch.when_calm(f"{step}/{STEPS}", containers.read_once()))
        except (SoakFailedError, NotCalmError):
            with suppress(SoakFailedError, OSError):  # whatever became of them
                reports += containers.reports()
            raise
        reports += containers.reports()
    states.append(watch.when_calm("they are gone", states[-1].counted))


def _show_progress(counted: Counted, reads: int, seconds: float, *, over: bool = False) -> None:
    """On a terminal a line that changes; elsewhere one for each tenth."""
    is_terminal = sys.stderr.isatty()
    if is_terminal or over:
        line = (
            f"{counted.reads:,} of {reads:,} reads in {seconds:.0f} s, {counted.killed:,} callers killed, "
            f"{counted.wrong} wrong, {sum(counted.failed.values())} failed"
        )
        start, end = ("\r", "\n" if over else "") if is_terminal else ("", "\n")
        print(f"{start}{line}", end=end, file=sys.stderr, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.soak", description=__doc__.splitlines()[0] if __doc__ else None
    )
    parser.add_argument("--reads", type=int, default=10_000_000, metavar="N", help="of all containers (10000000)")
    parser.add_argument("--containers", type=int, default=50, metavar="N", help="how many (50)")
    parser.add_argument(
        "--transport", choices=("dev", "uring"), help="how requests come to the daemon (its own default)"
    )
    parser.add_argument("--json", metavar="FILE", help="save the figures behind the tables")
    options = parser.parse_args()
    if options.reads < STEPS or not 1 <= options.containers <= 1000:
        parser.error("at least 10 reads, and 1 to 1000 containers")
    return options


if __name__ == "__main__":
    sys.exit(main())
