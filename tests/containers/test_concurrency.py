"""Many containers at once: each reader gets the numbers of its own container, and of no other one.

50 containers with limits of their own; 8 threads take them in turn and have everything in them read, for a minute
(PROCVIEW_CONCURRENCY_SECONDS). Every answer is compared with what only this container can show: its memory limit, its
CPUs, its age, and its CPU time between what the kernel had counted for its cgroup before and after the read.
"""

import os
import pickle
import queue
import random
import struct
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path

import pytest

from tests.containers import reader
from tests.containers.cgroups import Limits
from tests.containers.conftest import Start, host_cpus
from tests.containers.engines import Container
from tests.containers.served import Daemon

CONTAINERS = 50
THREADS = 8
SECONDS = float(os.environ.get("PROCVIEW_CONCURRENCY_SECONDS", "60"))

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def _limits(number: int) -> Limits:
    """Different for each container; enough memory for a reader in Python."""
    cpus = host_cpus()[:2]
    cpusets = [",".join(map(str, cpus)), *map(str, cpus)]
    return Limits(
        memory_bytes=(96 << 20) + number * (1 << 20) + number * _PAGE,
        cpuset=cpusets[number % len(cpusets)],
        cpus=[None, 0.8, 1.7, 3.0][number // len(cpusets) % 4],
    )


@dataclass
class Subject:
    """One container, the process in it that reads, and what it must see."""

    container: Container
    limits: Limits
    process: subprocess.Popen[bytes]
    rounds: int = 0
    first: dict[str, bytes] = field(default_factory=dict)

    @property
    def cpus(self) -> int:
        in_set = len(str(self.limits.cpuset).split(","))
        return in_set if self.limits.cpus is None else min(in_set, ceil(self.limits.cpus))

    @property
    def start_time(self) -> float:
        """When init started, in seconds on CLOCK_BOOTTIME."""
        stat = Path(f"/proc/{self.container.pid}/stat").read_text(encoding="utf-8", errors="replace")
        return int(stat.rpartition(")")[2].split()[19]) / _TICKS

    def ask(self) -> dict[str, bytes | str]:
        """Have everything read once; the CPU tree in full now and then, since it is large and never changes."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(b"all\n" if self.rounds % 20 == 0 else b"some\n")
        self.process.stdin.flush()
        (size,) = struct.unpack("<Q", self.process.stdout.read(8))
        seen: dict[str, bytes | str] = pickle.loads(self.process.stdout.read(size))
        self.rounds += 1
        return seen


def _fails_on_host(path: str) -> bool:
    """Some files of sysfs cannot be read by anyone; which CPU of the host it is makes no difference to that."""
    try:
        Path(path).read_bytes()
    except OSError:
        return path.startswith(reader.CPU_TREE)
    return False


def _check(subject: Subject) -> int:
    """One round of one container. Returns how many files were read, and raises AssertionError for a foreign byte."""
    usage_before, time_before = subject.container.cgroup.cpu_usage_usec(), time.clock_gettime(time.CLOCK_BOOTTIME)
    seen = subject.ask()
    usage_after, time_after = subject.container.cgroup.cpu_usage_usec(), time.clock_gettime(time.CLOCK_BOOTTIME)
    assert not {path: text for path, text in seen.items() if isinstance(text, str) and not _fails_on_host(path)}
    texts = {path: text.decode() for path, text in seen.items() if isinstance(text, bytes)}
    count = subject.cpus

    memory = dict(line.split(":") for line in texts["/proc/meminfo"].splitlines())
    kb = {name: int(value.split()[0]) for name, value in memory.items()}
    assert kb["MemTotal"] * 1024 == subject.limits.memory_bytes
    assert kb["MemFree"] <= kb["MemAvailable"] <= kb["MemTotal"]
    assert kb["SwapFree"] <= kb["SwapTotal"]

    stat = [line.split() for line in texts["/proc/stat"].splitlines()]
    rows = {words[0]: [int(word) for word in words[1:]] for words in stat if words[0].startswith("cpu")}
    assert list(rows) == ["cpu", *(f"cpu{number}" for number in range(count))]
    assert rows["cpu"] == [
        sum(column) for column in zip(*(rows[f"cpu{number}"] for number in range(count)), strict=True)
    ]
    used = sum(rows["cpu"][:3]) * 1_000_000 // _TICKS
    slack = 3 * count * 1_000_000 // _TICKS  # each of three columns is rounded down for each CPU
    assert usage_before - slack <= used <= usage_after

    age = float(texts["/proc/uptime"].split()[0])
    assert time_before - subject.start_time - 0.03 <= age <= time_after - subject.start_time + 0.03

    numbers = [
        line.split(":")[1].strip() for line in texts["/proc/cpuinfo"].splitlines() if line.startswith("processor\t")
    ]
    assert numbers == [str(number) for number in range(count)]
    online = f"0-{count - 1}\n" if count > 1 else "0\n"
    assert texts[f"{reader.CPU_TREE}/online"] == online
    folders = {name for name in texts[reader.CPU_TREE].split() if name[3:].isdecimal()}
    assert folders == {f"cpu{number}" for number in range(count)}

    tasks = texts["/proc/loadavg"].split()
    assert int(tasks[3].split("/")[1]) <= 8, "threads of this container"
    assert int(tasks[4]) < 1000, "its last pid, as it counts them"

    for path in ("/proc/partitions", "/proc/swaps"):
        assert seen[path] == subject.first.setdefault(path, texts[path].encode())
    return len(seen) - 1


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 180)
def test_no_foreign_byte_in_fifty_containers(start_unshare: Start, daemon: Daemon) -> None:
    subjects: queue.SimpleQueue[Subject] = queue.SimpleQueue()
    running: list[Subject] = []
    script = Path(reader.__file__).read_text(encoding="utf-8")
    try:
        for number in range(CONTAINERS):
            limits = _limits(number)
            container = start_unshare(limits)
            process = container.popen(
                [sys.executable, "-S", "-c", script, str(daemon.mount / "proc")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            running.append(Subject(container, limits, process))
        random.shuffle(running)
        for subject in running:
            subjects.put(subject)
        files = _read_all(subjects)
    finally:
        for subject in running:
            subject.process.kill()
            subject.process.communicate()
    rounds = [subject.rounds for subject in running]
    print(f"{files} files in {sum(rounds)} rounds, {min(rounds)} to {max(rounds)} a container")
    assert min(rounds) >= 2
    assert daemon.process.poll() is None


def _read_all(subjects: "queue.SimpleQueue[Subject]") -> int:
    """Each thread takes the container that has waited longest, and gives it back. Returns how many files were read."""
    end = time.monotonic() + SECONDS
    stop = threading.Event()

    def worker() -> int:
        files = 0
        try:
            while time.monotonic() < end and not stop.is_set():
                subject = subjects.get()
                files += _check(subject)
                subjects.put(subject)
        except BaseException:
            stop.set()
            raise
        return files

    with ThreadPoolExecutor(THREADS) as pool:
        futures = [pool.submit(worker) for _ in range(THREADS)]
        return sum(future.result() for future in futures)
