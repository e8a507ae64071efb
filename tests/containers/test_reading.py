"""Readers that do not behave: odd sizes and offsets, several threads on one descriptor, writers, the dead."""

import json
import time

import pytest

from tests.containers.conftest import Start
from tests.containers.engines import Container
from tests.containers.rootfs import PYTHON
from tests.containers.served import Daemon
from tests.timing import patient

_BEYOND = """
import json, os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
whole = os.pread(fd, 1 << 20, 0)
offsets = [len(whole), len(whole) + 1, 1 << 20, 1 << 40]
print(json.dumps([len(os.pread(fd, 4096, offset)) for offset in offsets]))
"""

_PIECES = """
import os, sys
for size in (1, 2, 3, 7, 64, 100, 4096, 65536):
    fd = os.open(sys.argv[1], os.O_RDONLY)
    whole = b""
    while piece := os.read(fd, size):
        assert len(piece) <= size
        whole += piece
    again = os.pread(fd, len(whole), 1)
    assert again == whole[1:], (size, again, whole)
    os.close(fd)
    names = [line.split(b":")[0] for line in whole.splitlines()]
    assert whole.endswith(b"\\n") and names[0] == b"MemTotal" and len(names) == len(set(names)), (size, whole)
    known = globals().setdefault("known", names)
    assert names == known, (size, names)
"""

# One thread makes new renderings, three read slices of whatever is there: each line must be whole all the same.
_THREADS = """
import os, sys, threading, time
fd = os.open("/proc/meminfo", os.O_RDONLY)
names = [line.split(b":")[0] for line in os.pread(fd, 1 << 16, 0).splitlines()]
end = time.monotonic() + 2
wrong = []
rounds = [0]

def check(text):
    lines = text.splitlines()
    fine = text.endswith(b"\\n") and [line.split(b":")[0] for line in lines] == names
    if not fine or not all(line.split()[1].isdigit() for line in lines):
        wrong.append(text)
    rounds[0] += 1

def renew():
    while time.monotonic() < end and not wrong:
        check(os.pread(fd, 1 << 16, 0))

def slices():
    while time.monotonic() < end and not wrong:
        text, size = b"", 300
        while piece := os.pread(fd, size, len(text)):
            text += piece
        check(text)

threads = [threading.Thread(target=target) for target in (renew, slices, slices, slices)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
assert rounds[0] > 100, rounds
assert not wrong, wrong[0]
"""

_KILLED = """
import os, random, signal, time
for _ in range(150):
    pids = []
    for _ in range(4):
        pid = os.fork()
        if not pid:
            while True:
                for name in ("meminfo", "stat", "diskstats", "cpuinfo"):
                    with open(f"/proc/{name}", "rb") as file:
                        file.read()
        pids.append(pid)
    time.sleep(random.uniform(0, 0.004))
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    for pid in pids:
        os.waitpid(pid, 0)
"""


def _views(container: Container) -> list[str]:
    shown = container.output(["sh", "-c", "cd /procview && find proc -type f"]).split()
    return [f"/{path}" for path in shown]


def test_reading_beyond_the_end_gives_nothing(start_runc: Start) -> None:
    container = start_runc()
    for path in _views(container):
        assert json.loads(container.output([PYTHON, "-c", _BEYOND, path])) == [0, 0, 0, 0], path


def test_pieces_of_any_size_make_up_the_whole(container: Container) -> None:
    container.output([PYTHON, "-c", _PIECES, "/proc/meminfo"])


def test_threads_that_share_a_descriptor_never_see_a_torn_line(container: Container) -> None:
    container.output([PYTHON, "-c", _THREADS])


def test_nothing_can_be_written(start_runc: Start) -> None:
    container = start_runc()
    for path in _views(container):
        result = container.run(["sh", "-c", f"echo 1 > {path}"])
        assert result.returncode != 0, path
        assert "Permission denied" in result.stderr, path
        assert container.output(["stat", "-c", "%a %s %F", path]) == "444 0 regular empty file\n"


@pytest.mark.slow
def test_readers_killed_in_mid_request_leave_no_trace(start_runc: Start, daemon: Daemon) -> None:
    container = start_runc()
    for path in _views(container):
        container.read(path)
    before = daemon.descriptors()
    container.output([PYTHON, "-c", _KILLED], timeout=90)
    assert container.read("/proc/meminfo").startswith("MemTotal:")
    deadline = time.monotonic() + patient(30)
    while daemon.descriptors() > before + 8 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert (
        daemon.descriptors() <= before + 8
    )  # descriptors of cgroup files are kept: some may be new, one a reader may not


def test_the_daemon_complains_about_nothing(start_runc: Start, daemon: Daemon) -> None:
    container = start_runc()
    for path in _views(container):
        container.read(path)
    assert not [line for line in daemon.said().splitlines() if "Traceback" in line or "ERROR" in line]
