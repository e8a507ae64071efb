"""Where the time of one open-read-close goes: the daemon's CPU time, and its system calls, for each file.

``python -m bench.profile`` (``--no-lane``: of pyfuse3 alone). Time and calls are measured one after the other, because
counting the calls (by strace, of all threads of the daemon) slows it down many times. One reader, pinned.

Touches: what a run of the benchmark does; traces the daemon that it starts.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench import servers
from bench.bounds import MIB
from bench.cgroups import Limits
from bench.container import Bind, Container, running_container
from bench.files import FILES
from bench.private import enter_private_mounts
from bench.report import number, table
from bench.servers import Server

TIMED_READS = 20_000
"""CPU time is counted in hundredths of a second."""
COUNTED_READS = 500
_ATTACH_SECONDS = 10.0
_LEAST = 0.05
"""Calls that are rarer than that, for each file, have no column: they are the reader's first, or a timer's."""


def system_calls(container: Container, server: Server, file: str, work: Path) -> dict[str, float]:
    """How often the server makes each system call for one open-read-close."""
    path, summary = container.path(server.name, file), work / "strace"
    cpu = container.limits.cpus[-1]
    container.drain([path], COUNTED_READS // 10, readers=1, cpu=cpu)
    command = ["strace", "-f", "-qq", "-c", "-o", str(summary), "-p", str(server.process.pid)]
    tracer = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        _wait_until_traced(server.process.pid, tracer)
        container.drain([path], COUNTED_READS, readers=1, cpu=cpu)
    finally:
        tracer.send_signal(signal.SIGINT)  # it lets go, and writes
        tracer.wait()
    return {name: calls / COUNTED_READS for name, calls in parse_summary(summary.read_text(encoding="utf-8")).items()}


def parse_summary(text: str) -> dict[str, int]:
    """Of ``strace -c``: calls by name. Lines are: % time, seconds, µs/call, calls, errors (may be empty), name."""
    found = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 5 and words[3].isdigit() and words[-1] != "total":
            found[words[-1]] = int(words[3])
    return found


def _wait_until_traced(pid: int, tracer: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + _ATTACH_SECONDS
    while any("TracerPid:\t0\n" in (task / "status").read_text() for task in Path(f"/proc/{pid}/task").iterdir()):
        if tracer.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError("strace cannot trace the daemon")
        time.sleep(0.01)


def cpu_usec(container: Container, server: Server, file: str) -> tuple[float, float]:
    """The server's CPU time of one open-read-close: user, system."""
    before = server.process.cpu_times()
    path, cpu = container.path(server.name, file), container.limits.cpus[-1]
    container.drain([path], TIMED_READS, readers=1, cpu=cpu)
    after = server.process.cpu_times()
    user, system = (getattr(after, kind) - getattr(before, kind) for kind in ("user", "system"))
    return user / TIMED_READS * 1e6, system / TIMED_READS * 1e6


def profile(container: Container, server: Server, files: Sequence[str], work: Path) -> str:
    """The table."""
    server.pin([container.limits.cpus[-1]])
    times = {file: cpu_usec(container, server, file) for file in files}
    calls: dict[str, dict[str, float]] = {file: {} for file in files}
    if shutil.which("strace"):
        calls = {file: system_calls(container, server, file, work) for file in files}
    names = {name: max(of.get(name, 0.0) for of in calls.values()) for of in calls.values() for name in of}
    columns = sorted((name for name, most in names.items() if most >= _LEAST), key=lambda name: -names[name])
    rows = [
        [
            file,
            *(number(value) for value in times[file]),
            number(sum(calls[file].values()), 2) if calls[file] else "-",
            *(number(calls[file].get(name, 0.0), 2) for name in columns),
        ]
        for file in files
    ]
    header = ["file", "user µs", "system µs", "calls", *columns]
    title = f"One open-read-close from '{server.name}', pinned: the daemon's CPU time, then its system calls"
    missing = "" if shutil.which("strace") else "\n(no strace here: calls are not counted)"
    return table(title, header, rows) + missing


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.profile", description=__doc__.splitlines()[0])
    parser.add_argument("--no-lane", action="store_true", help="pyfuse3 alone")
    parser.add_argument("files", nargs="*", choices=[[], *FILES], metavar="FILE", help="default: all")
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("bench: needs root: it mounts file systems and makes cgroups", file=sys.stderr)
        return 2
    enter_private_mounts()
    limits = Limits(512 * MIB, tuple(sorted(os.sched_getaffinity(0)))[-2:])
    with tempfile.TemporaryDirectory(prefix="procview-bench-") as directory:
        work = Path(directory)
        with (servers.pyfuse3_alone if options.no_lane else servers.ours)(work) as server:
            sources = {file: server.source(file) for file in options.files or FILES}
            binds = [Bind(source, server.name, file) for file, source in sources.items() if source is not None]
            with running_container(work, limits, binds) as container:
                print(profile(container, server, [bind.file for bind in binds], work))
    return 0


if __name__ == "__main__":
    sys.exit(main())
