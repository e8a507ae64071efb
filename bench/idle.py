"""How often a daemon is woken that nobody reads: context switches of all its threads, voluntary or not.

Two daemons with slots (so each has its guard), both read by a container before: one in all files but loadavg; the
other in loadavg as well, so that it samples that container's load every five seconds from then on. Nobody's watchdog
asks them anything. The guard looks for waiting requests four times a second, by design, and is counted on its own.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench import servers
from bench.cgroups import Limits
from bench.container import Bind, running_container
from bench.files import FILES
from bench.servers import Server

SETTLE_SECONDS = 12.0
"""trio's worker threads go away after ten seconds without work; they are of the daemon's start."""
READ, WATCHED = "idle", "idle-watched"
_READS = 1000


@dataclass(frozen=True)
class Idle:
    """Wake-ups per minute."""

    seconds: float
    daemon: float
    sampling_daemon: float
    guard: float


class IdleDaemons:
    def __init__(self, read: Server, watched: Server) -> None:
        self._processes = {READ: read.process, WATCHED: watched.process}
        self._guard = next(child for child in read.process.children() if "procview.guard" in child.cmdline())
        self._quiet_since = time.monotonic()

    def count(self, seconds: float) -> Idle:
        """Wait until they have been quiet for long enough, then count for so long."""
        time.sleep(max(0.0, self._quiet_since + SETTLE_SECONDS - time.monotonic()))
        processes = [*self._processes.values(), self._guard]
        before = [_switches(process) for process in processes]
        start = time.monotonic()
        time.sleep(seconds)
        after = [_switches(process) for process in processes]
        took = time.monotonic() - start
        rates = (_between(*pair) / took * 60 for pair in zip(before, after, strict=True))
        return Idle(took, *rates)


@contextmanager
def idle_daemons(work: Path, limits: Limits) -> Iterator[IdleDaemons]:
    """Both, after their reads. Raises ServerFailedError."""
    with ExitStack() as stack:
        read, watched = (stack.enter_context(servers.ours(work, name=name, slots=True)) for name in (READ, WATCHED))
        binds = [
            Bind(source, server.name, file)
            for server in (read, watched)
            for file in FILES
            if (source := server.source(file)) is not None
        ]
        with running_container(work, limits, binds, "-idle") as container:
            for server in (read, watched):
                files = [bind.file for bind in binds if bind.contender == server.name]
                paths = [container.path(server.name, file) for file in files if server is watched or file != "loadavg"]
                container.drain(paths, _READS, readers=4, cpu=None)
            # The container stays: when it has gone, its load is no longer sampled.
            yield IdleDaemons(read, watched)


def _switches(process: psutil.Process) -> dict[int, int]:
    """Of each thread, since it started."""
    found = {}
    for task in Path(f"/proc/{process.pid}/task").iterdir():
        try:
            lines = (task / "status").read_text(encoding="utf-8").splitlines()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended; _between() sees that
        found[int(task.name)] = sum(int(line.split()[1]) for line in lines if "voluntary_ctxt_switches" in line)
    return found


def _between(before: dict[int, int], after: dict[int, int]) -> int:
    """A thread that has ended was woken for that."""
    ended = len(before.keys() - after.keys())
    return ended + sum(count - before.get(thread, 0) for thread, count in after.items())
