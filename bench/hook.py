"""What the hook adds to the start of a container: whole runs of it, beside Python that starts and does nothing else.

Run as ``python -m bench.hook``. Each run of the hook is for a new container: a mount namespace with a root, procfs and
sysfs of its own, none of it attached yet. The runs are interleaved: nothing, daemon up, daemon down, daemon hanging.

Touches: a folder in /var/tmp with two run directories (mounted in the host's namespace, as in production), a daemon
and the processes started here. Exit status: 0 when the bound is kept, 1 when it is not.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.bounds import VERDICT_HEADER, Verdict
from bench.compile import CHECKOUT
from bench.private import die_with_parent
from bench.report import table
from bench.stats import Samples
from procview.shipped import hook_program
from procview.slots.publish import withdraw
from procview.slots.skeleton import Skeleton

BARE = "python3 -I -S -c 'import json'"
UP, DOWN, HANGING = "hook, daemon up", "hook, daemon down", "hook, daemon hanging"
BOUND = 2.0
"""Of the hook's median, in those of bare Python."""
ROUNDS = 60
_START_SECONDS = 30.0
_CONTAINER = (
    'mount --bind "$0" "$0" && mount -t proc proc "$0/proc" && mount -t sysfs -o ro sysfs "$0/sys" && echo && read _'
)


@dataclass(frozen=True)
class HookCost:
    runs: dict[str, Samples]

    def ratio(self, what: str) -> float:
        """Of medians: in those of bare Python."""
        return self.runs[what].median_ns / self.runs[BARE].median_ns

    def verdicts(self) -> list[Verdict]:
        return [Verdict(f"{what} / {BARE}", self.ratio(what), BOUND) for what in (UP, DOWN, HANGING)]

    def report(self) -> str:
        rows = [
            [what, f"{self.ratio(what):.2f}", *(f"{value / 1e6:.1f}" for value in (runs.median_ns, runs.p99_ns))]
            for what, runs in self.runs.items()
        ]
        return table("A whole run of the hook: ratios of medians, then median and p99 in ms", _HEADER, rows)


_HEADER = ["what", "/ bare", "median", "p99"]


def measure(rounds: int = ROUNDS) -> HookCost:
    """Not in a mount namespace of the benchmark's own: the hook would look for the host's."""
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="procview-bench-", dir="/var/tmp")))
        daemon, served = stack.enter_context(_daemon(work / "up"))
        unserved = stack.enter_context(_skeleton(work / "down", served.names()))
        rootfs = work / "rootfs"
        for folder in ("proc", "sys"):
            (rootfs / folder).mkdir(parents=True)
        runs = {what: Samples() for what in (BARE, UP, DOWN, HANGING)}
        for _ in range(rounds):
            runs[BARE].durations_ns.append(_timed(["/usr/bin/python3", "-I", "-S", "-c", "import json"], None))
            runs[UP].durations_ns.append(_timed_hook(rootfs, served, views=True))
            runs[DOWN].durations_ns.append(_timed_hook(rootfs, unserved, views=False))
            daemon.send_signal(signal.SIGSTOP)
            try:
                runs[HANGING].durations_ns.append(_timed_hook(rootfs, served, views=True))
            finally:
                daemon.send_signal(signal.SIGCONT)
        return HookCost(runs)


def _timed(argv: list[str], state: Path | None) -> int:
    with (state or Path("/dev/null")).open("rb") as standard_input:
        before = time.perf_counter_ns()
        subprocess.run(argv, stdin=standard_input, check=True)
        return time.perf_counter_ns() - before


def _timed_hook(rootfs: Path, skeleton: Skeleton, *, views: bool) -> int:
    """One run for a new container, which must have everything afterwards."""
    log, state = rootfs.parent / "hook.log", rootfs.parent / "state"
    unshare = ["unshare", "--mount", "--propagation", "slave", "sh", "-c", _CONTAINER, str(rootfs)]
    with subprocess.Popen(unshare, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as container:
        assert container.stdout is not None
        container.stdout.readline()
        linux = {"rootfsPropagation": "rslave"}  # or it would stay behind, and be in the way of the next run
        config = {"root": {"path": str(rootfs)}, "linux": linux}
        (rootfs.parent / "config.json").write_text(json.dumps(config), encoding="utf-8")
        document = {"ociVersion": "1.0.2", "id": "bench", "pid": container.pid, "bundle": str(rootfs.parent)}
        state.write_text(json.dumps(document), encoding="utf-8")
        took = _timed([hook_program(), "--run-directory", skeleton.base, "--log", str(log)], state)
        mounts = Path(f"/proc/{container.pid}/mountinfo").read_text(encoding="utf-8").splitlines()
        container.communicate(b"\n")
    inside = [line for line in mounts if line.split(" ")[4].startswith(f"{rootfs}/")]
    wanted = 2 + len(skeleton.names()) * (2 if views else 1)
    if len(inside) != wanted or log.exists():
        said = log.read_text(encoding="utf-8") if log.exists() else ""
        raise RuntimeError(f"the hook has made {len(inside) - 2} mounts of {wanted - 2}: {said}")
    return took


@contextmanager
def _daemon(directory: Path) -> Iterator[tuple["subprocess.Popen[bytes]", Skeleton]]:
    """A daemon whose views are published."""
    directory.mkdir()
    log = directory / "log"
    (directory / "config.toml").write_text("", encoding="utf-8")
    argv = [sys.executable, "-m", "procview", "serve", "--run-directory", f"{directory}/run"]
    skeleton = Skeleton(f"{directory}/run")
    with ExitStack() as stack:
        stack.callback(skeleton.remove)
        stack.callback(withdraw, skeleton)
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*argv, "--config", f"{directory}/config.toml"],
                cwd=CHECKOUT, stdin=subprocess.DEVNULL, stdout=output, stderr=output, preexec_fn=die_with_parent,
            )  # fmt: skip
        stack.callback(process.wait, _START_SECONDS)
        stack.callback(process.terminate)
        deadline = time.monotonic() + _START_SECONDS
        while "serving " not in log.read_text(errors="replace"):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the daemon does not serve: {log.read_text(errors='replace')}")
            time.sleep(0.02)
        yield process, skeleton


@contextmanager
def _skeleton(directory: Path, names: list[str]) -> Iterator[Skeleton]:
    """Slots without a daemon."""
    directory.mkdir()
    skeleton = Skeleton(f"{directory}/run")
    skeleton.make(names)
    try:
        yield skeleton
    finally:
        skeleton.remove()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.hook", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS, metavar="N", help=f"runs of each (default {ROUNDS})")
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("bench: needs root: it mounts file systems", file=sys.stderr)
        return 2
    cost = measure(options.rounds)
    print(cost.report())
    print("\n" + table("Bounds", VERDICT_HEADER, [verdict.row() for verdict in cost.verdicts()]))
    return 0 if all(verdict.kept for verdict in cost.verdicts()) else 1


if __name__ == "__main__":
    sys.exit(main())
