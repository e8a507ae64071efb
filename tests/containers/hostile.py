"""Runs inside a container: does to procview what no program should (test_hostile.py).

Standard library only, and no import of ours: it is handed to the interpreter inside as text. Its arguments are what to
do and numbers. It prints one line of JSON at the end; "open" prints one when it has all that it can get, and waits.
"""

import errno
import json
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

CPU_TREE = "/sys/devices/system/cpu"
MOUNT = "/procview"
FILES_PER_PROCESS = 900
"""Below the usual limit of a process, 1,024."""
CRASH_SECONDS = 0.004

Outcomes = Counter[str]


def _files() -> list[str]:
    """All that can be read: some files of sysfs cannot."""
    found = [os.path.join(folder, name) for folder, _, names in os.walk(MOUNT) for name in names]
    return sorted(path for path in found if not os.path.islink(path) and _read(path) is not None)


def _read(path: str) -> bytes | None:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.readall()
    except OSError:
        return None


def _outcome(call: Callable[[], Any]) -> str:
    try:
        call()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "good"


def _open_all(writer: int, wait: int) -> None:
    """A child: opens until it cannot, tells, and waits for the end of ``wait``."""
    opened: list[int] = []
    outcomes: Outcomes = Counter()
    while len(opened) < FILES_PER_PROCESS and outcomes.total() == len(opened):
        outcomes[_outcome(lambda: opened.append(os.open("/proc/meminfo", os.O_RDONLY)))] += 1
    os.write(writer, json.dumps(outcomes).encode() + b"\n")
    os.read(wait, 1)
    for fd in opened:
        os.close(fd)
    os._exit(0)


def hold_open(processes: int) -> None:
    """Open all that there is to be had; then be told to close it, or to be killed."""
    reader, writer = os.pipe()
    wait, end = os.pipe()
    pids = []
    for _ in range(processes):
        pid = os.fork()
        if pid == 0:
            os.close(end)
            _open_all(writer, wait)
        pids.append(pid)
    os.close(writer)
    total: Outcomes = Counter()
    with os.fdopen(reader, encoding="ascii") as told:
        for _ in pids:
            total.update(json.loads(told.readline()))
    print(json.dumps(total), flush=True)
    if sys.stdin.readline() == "kill\n":
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
    os.close(end)
    for pid in pids:
        os.waitpid(pid, 0)


def _in_threads(threads: int, seconds: int, act: Callable[[random.Random, Outcomes], None]) -> None:
    """``act`` again and again in each of them."""
    end = time.monotonic() + seconds
    seen: list[Outcomes] = []

    def run(seed: int) -> None:
        chance, mine = random.Random(seed), Counter[str]()
        while time.monotonic() < end:
            act(chance, mine)
        seen.append(mine)

    running = [threading.Thread(target=run, args=(seed,)) for seed in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    print(json.dumps(sum(seen, Counter())))


def read_all(threads: int, seconds: int) -> None:
    """Every file, in each thread's own order; a foreign total of memory is an outcome of its own."""
    paths = _files()
    total = (_read("/proc/meminfo") or b"").split()[1]

    def act(chance: random.Random, seen: Outcomes) -> None:
        for path in chance.sample(paths, len(paths)):
            text = b""

            def read(path: str = path) -> None:
                nonlocal text
                with open(path, "rb", buffering=0) as file:
                    text = file.readall()

            seen[_outcome(read)] += 1
            if path.endswith("proc/meminfo") and text.split()[1:2] not in ([], [total]):
                seen["foreign"] += 1

    _in_threads(threads, seconds, act)


def ask_the_slow(threads: int, seconds: int) -> None:
    """What pyfuse3 has to answer: whole listings, and names that are not there."""

    def act(chance: random.Random, seen: Outcomes) -> None:
        seen[_outcome(lambda: os.listdir(CPU_TREE))] += 1
        seen["missing " + _outcome(lambda: os.stat(f"{CPU_TREE}/cpu{chance.randrange(1000, 9999)}"))] += 1

    _in_threads(threads, seconds, act)


def _forever(paths: list[str]) -> None:
    while True:
        for path in paths:
            _read(path)
        os.listdir(CPU_TREE)
        _outcome(lambda: os.stat(f"{CPU_TREE}/cpu4321"))


def crash(rounds: int, at_once: int) -> None:
    """Readers that are killed at any moment."""
    paths = [f"/proc/{name}" for name in ("meminfo", "stat", "diskstats", "cpuinfo", "loadavg")]
    for _ in range(rounds):
        pids = []
        for _ in range(at_once):
            pid = os.fork()
            if pid == 0:
                _forever(paths)
            pids.append(pid)
        time.sleep(random.uniform(0, CRASH_SECONDS))
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        for pid in pids:
            os.waitpid(pid, 0)
    print(json.dumps({"killed": rounds * at_once}))


def read_briefly(processes: int, files: int) -> None:
    """So many processes, one after the other, each of which reads so many files."""
    paths = _files()
    outcomes: Outcomes = Counter()
    for number in range(processes):
        pid = os.fork()
        if pid == 0:
            chosen = random.Random(number).choices(paths, k=files)
            os._exit(0 if all(_read(path) is not None for path in chosen) else 1)
        outcomes[str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))] += 1
    print(json.dumps(outcomes))


_DEEDS: dict[str, Callable[..., None]] = {
    "hold open": hold_open,
    "read all": read_all,
    "ask the slow": ask_the_slow,
    "crash": crash,
    "read briefly": read_briefly,
}

if __name__ == "__main__":
    _DEEDS[sys.argv[1]](*map(int, sys.argv[2:]))
