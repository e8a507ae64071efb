"""A container whose programs do all they can to procview: its neighbour does not notice, and nothing is left of it.

What is done is in hostile.py; the neighbour reads all the while, by watcher.py.
"""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from procview._fast.open_files import MAX_OPEN_PER_OWNER
from tests.containers import hostile, slots, watcher
from tests.containers.cgroups import Limits
from tests.containers.conftest import MEMORY_BYTES, Start, host_cpus
from tests.containers.engines import Container
from tests.containers.rootfs import PYTHON
from tests.containers.served import Daemon

SECONDS = 110
"""A net, far longer than any of these programs takes."""
LONGEST_SECONDS = 20.0
"""The longest that a neighbour's read may take. A net as well, and no test of speed: it is what somebody who waits for
all requests of others would exceed."""
CALM_SECONDS = 30
"""A net as well: how long it may take until all is closed."""
HOSTILE_SECONDS = 4
MORE_DESCRIPTORS = 8
"""Of files of cgroups that are kept open: some may be new, one reader may not."""
MORE_BYTES = 8 << 20
"""Of memory, after many reads more than before them."""

_STOP = "/tmp/stop"
_CPUS_ONLINE = "/sys/devices/system/cpu/online"


def _argv(deed: str, *numbers: int) -> list[str]:
    source = Path(hostile.__file__).read_text(encoding="utf-8")
    return [PYTHON, "-I", "-S", "-c", source, deed, *map(str, numbers)]


def _done(container: Container, deed: str, *numbers: int) -> dict[str, int]:
    """What a program in the container got: how often which outcome."""
    outcomes: dict[str, int] = json.loads(container.output(_argv(deed, *numbers), timeout=SECONDS))
    return outcomes


@pytest.fixture
def container(start_runc: Start) -> Container:
    return start_runc()


@pytest.fixture
def neighbour(start_runc: Start) -> Container:
    """Another one, with numbers of its own."""
    return start_runc(Limits(memory_bytes=MEMORY_BYTES // 2, cpuset=str(host_cpus()[0]), cpus=1.0))


@contextlib.contextmanager
def _undisturbed(neighbour: Container) -> Iterator[None]:
    """Meanwhile it reads: its own values, without an error, and none takes too long."""
    starts = {"/proc/meminfo": f"MemTotal:       {MEMORY_BYTES // 2 // 1024:8} kB\n", _CPUS_ONLINE: "0\n"}
    starts |= {"/proc/stat": "cpu  ", "/proc/uptime": "", "/proc/loadavg": "", "/proc/cpuinfo": "processor\t: 0\n"}
    task = {"files": {path: {"own": start} for path, start in starts.items()}, "stop": _STOP, "output": None}
    argv = [PYTHON, "-I", "-S", "-c", Path(watcher.__file__).read_text(encoding="utf-8")]
    argv.append(json.dumps(task | {"pause": 0.005}))
    with neighbour.popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as reader:
        try:
            assert reader.stdout is not None
            assert reader.stdout.readline() == "ready\n"
            yield
            neighbour.output(["touch", _STOP], timeout=SECONDS)
            report = json.loads(reader.communicate(timeout=SECONDS)[0])
        finally:
            reader.kill()
    for path, stretches in report.items():
        assert [outcome for outcome, *_ in stretches] == ["own"], (path, stretches)
        _, _, _, count, longest = stretches[0]
        assert count > 10, (path, stretches)
        assert longest < LONGEST_SECONDS, (path, stretches)


def _wait_for_calm(daemon: Daemon, before: dict[str, int]) -> dict[str, int]:
    """Until as many files are open as ``before``, here and in the daemon, and no request is under way."""
    deadline = time.monotonic() + CALM_SECONDS
    while (
        (now := daemon.counters())["fs_open"] != before["fs_open"]
        or now["fds"] > before["fds"] + MORE_DESCRIPTORS
        or now.get("lane_pending")
    ):
        assert time.monotonic() < deadline, f"{before}\n{now}"
        time.sleep(0.1)
    return now


def _at_rest(daemon: Daemon) -> dict[str, int]:
    """The counters when no view is open: nobody waits for the release of the last one."""
    return _wait_for_calm(daemon, {"fs_open": 0, "fds": sys.maxsize})


@pytest.fixture
def calm(daemon: Daemon, container: Container, neighbour: Container) -> Iterator[dict[str, int]]:
    """The counters before a test; what it leaves open and pending is the same afterwards, and no error was logged."""
    for one in (container, neighbour):
        assert set(_done(one, "read all", 1, 1)) == {"good"}  # files that are kept open are so from now on
    before = _at_rest(daemon)
    said = len(daemon.said())
    yield before
    _wait_for_calm(daemon, before)
    assert slots.memory_kb(container.read("/proc/meminfo")) == MEMORY_BYTES // 1024
    assert "cpu0" in container.output(["ls", "/sys/devices/system/cpu"])
    assert not [line for line in daemon.said()[said:].splitlines() if "Traceback" in line or "ERROR" in line]
    assert daemon.process.poll() is None


@pytest.mark.parametrize("end", ["close", "kill"])
def test_more_open_files_than_there_may_be_are_refused_and_all_of_them_come_back(
    end: str, container: Container, neighbour: Container, daemon: Daemon, calm: dict[str, int]
) -> None:
    processes = MAX_OPEN_PER_OWNER // hostile.FILES_PER_PROCESS + 2
    with _undisturbed(neighbour):
        holder = container.popen(
            _argv("hold open", processes), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        with holder:
            try:
                assert holder.stdout is not None
                outcomes = json.loads(holder.stdout.readline())
                assert set(outcomes) == {"good", "ENFILE"}
                assert outcomes["good"] == MAX_OPEN_PER_OWNER
                assert daemon.counters()["fs_open"] >= calm["fs_open"] + MAX_OPEN_PER_OWNER
                refused = container.run(["cat", "/proc/meminfo"])
                assert "Too many open files in system" in refused.stderr
                neighbour.output(["ls", "/sys/devices/system/cpu"])
                holder.communicate(f"{end}\n", timeout=SECONDS)
            finally:
                holder.kill()
        assert holder.returncode == 0


def test_sixty_four_threads_that_read_everything_get_it_and_so_does_the_neighbour(
    container: Container, neighbour: Container, calm: dict[str, int]
) -> None:
    with _undisturbed(neighbour):
        outcomes = _done(container, "read all", 64, HOSTILE_SECONDS)
    assert set(outcomes) == {"good"}
    assert outcomes["good"] > 64
    assert calm["fds"] > 0


@pytest.mark.parametrize("threads", [64, 400])
def test_requests_that_the_lane_does_not_answer_hold_up_nobody_else(
    threads: int, container: Container, neighbour: Container, calm: dict[str, int]
) -> None:
    """With more than 96 of one container at once, EAGAIN is what it gets; how many there are at a time is chance."""
    with _undisturbed(neighbour):
        flood = container.popen(_argv("ask the slow", threads, HOSTILE_SECONDS), stdout=subprocess.PIPE)
        with flood:
            try:
                while flood.poll() is None:
                    neighbour.output(["ls", "/sys/devices/system/cpu"], timeout=SECONDS)
                assert flood.stdout is not None
                outcomes = json.loads(flood.stdout.read())
            finally:
                flood.kill()
    assert flood.returncode == 0
    allowed = {"good", "missing ENOENT"}
    if threads > 96:
        allowed |= {"EAGAIN", "missing EAGAIN"}
    assert set(outcomes) <= allowed
    assert outcomes["good"] > 0
    assert calm["fds"] > 0


@pytest.mark.slow
def test_thousands_of_readers_killed_in_mid_request_leave_nothing(
    container: Container, neighbour: Container, calm: dict[str, int]
) -> None:
    programs, rounds, at_once = 4, 150, 5
    with _undisturbed(neighbour), contextlib.ExitStack() as undo:
        running = []
        for _ in range(programs):
            program = undo.enter_context(container.popen(_argv("crash", rounds, at_once), stdout=subprocess.PIPE))
            undo.callback(program.kill)
            running.append(program)
        outcomes = [json.loads(program.communicate(timeout=SECONDS)[0]) for program in running]
    assert outcomes == [{"killed": rounds * at_once}] * programs
    assert calm["fds"] > 0


@pytest.mark.slow
@pytest.mark.timeout(3 * SECONDS)
def test_twenty_thousand_reads_of_short_lived_processes_cost_no_descriptor_and_no_memory(
    container: Container, daemon: Daemon, calm: dict[str, int]
) -> None:
    files = 20
    assert _done(container, "read briefly", 200, files) == {"0": 200}
    before = _at_rest(daemon)
    assert _done(container, "read briefly", 1000, files) == {"0": 1000}
    after = _wait_for_calm(daemon, before)
    assert after["rss_bytes"] <= before["rss_bytes"] + MORE_BYTES
    assert after["fs_text_bytes"] <= before["fs_text_bytes"]
    assert calm["fds"] > 0
