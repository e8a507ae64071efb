"""Rings of io_uring in place of /dev/fuse: whether there can be some, whose requests come by which, how they end."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from procview._fast.ring import probe
from procview.fs import transport
from procview.fs.transport import NoRingError, rings, shared_out
from tests import lane
from tests.daemon.process import Daemon, Place, eventually, needs_mount
from tests.timing import lateness, patient

SECONDS = patient(20)


def test_each_cpu_has_its_own_ring_and_the_others_are_shared_out() -> None:
    assert shared_out(2, [0, 1]) == [(0, [0]), (1, [1])]
    assert shared_out(6, [1, 4]) == [(1, [0, 1, 3]), (4, [2, 4, 5])]
    assert shared_out(1, [0]) == [(0, [0])]


def test_a_cpu_beyond_the_kernels_queues_has_none() -> None:
    """The kernel counts its queues and numbers them by CPU; with gaps among the CPUs the last ones share the first."""
    assert shared_out(2, [0, 5]) == [(0, [0, 1])]


@pytest.mark.parametrize("name", ["auto", "dev"])
def test_none_is_made_unless_asked_for(name: transport.Transport) -> None:
    assert rings(name) == []


def test_a_kernel_without_them_is_told_apart_from_one_that_has_them_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    switch = tmp_path / "enable_uring"
    monkeypatch.setattr(transport, "SWITCH", switch)
    with pytest.raises(NoRingError, match=r"6\.14"):
        rings("uring")
    switch.write_text("N\n", encoding="ascii")
    with pytest.raises(NoRingError, match=rf"write Y to {switch}"):
        rings("uring")


def test_too_many_cpus_for_too_few_threads_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "enable_uring").write_text("Y\n", encoding="ascii")
    (tmp_path / "possible").write_text("0-99,200-999\n", encoding="ascii")
    monkeypatch.setattr(transport, "SWITCH", tmp_path / "enable_uring")
    monkeypatch.setattr(transport, "_POSSIBLE", tmp_path / "possible")
    if probe():
        pytest.skip(f"io_uring_setup: {os.strerror(probe())}")
    with pytest.raises(NoRingError, match="too few CPUs"):
        rings("uring")
    (tmp_path / "possible").write_text("0-99\n", encoding="ascii")
    assert sum(len(queues) for _, queues in rings("uring")) == 100


# --- with a daemon ----------------------------------------------------------------------------------------------------


@pytest.fixture
def ring(place: Place) -> Iterator[Daemon]:
    with lane.rings_offered():
        yield place.start(options=lane.options(lane.RING))


def counted(daemon: Daemon) -> dict[str, int]:
    """What the lane counts."""
    before = len(daemon.said)
    daemon.process.send_signal(signal.SIGUSR1)
    eventually(lambda: "rss_bytes=" in daemon.said[before:], "the counters")
    pairs = (word.split("=") for word in daemon.said[before:].split() if word.startswith("lane_"))
    return {name: int(value) for name, value in pairs}


def _came_by_ring(daemon: Daemon, least: int) -> bool:
    return counted(daemon)["lane_by_ring"] >= least


class TestServing:
    pytestmark = needs_mount

    def test_requests_of_every_cpu_come_by_a_ring(self, ring: Daemon, place: Place) -> None:
        for cpu in sorted(os.sched_getaffinity(0)):
            least = counted(ring)["lane_by_ring"] + 4  # open, two reads; and release, which nobody waits for
            subprocess.run(["taskset", "-c", str(cpu), "cat", place.mount / "proc/meminfo"], check=True)
            eventually(partial(_came_by_ring, ring, least), f"four requests by the ring of CPU {cpu}")

    def test_what_the_lane_does_not_answer_is_answered_through_the_ring(self, ring: Daemon, place: Place) -> None:
        before = counted(ring)
        assert "online" in os.listdir(place.mount / "sys/devices/system/cpu")
        with pytest.raises(FileNotFoundError):
            os.stat(place.mount / "proc/no-such-file")
        with pytest.raises(PermissionError):
            os.open(place.mount / "proc/meminfo", os.O_WRONLY)
        after = counted(ring)
        assert after["lane_relayed"] > before["lane_relayed"]
        eventually(lambda: counted(ring)["lane_pending"] == 0, "all replies")

    def test_a_large_read_comes_whole(self, ring: Daemon, place: Place) -> None:
        assert ring.process.poll() is None
        whole = (place.mount / "proc/cpuinfo").read_bytes()
        file = os.open(place.mount / "proc/cpuinfo", os.O_RDONLY)
        try:
            assert len(os.read(file, 1 << 20)) == len(whole)
        finally:
            os.close(file)

    def test_reader_and_thread_meet_on_one_cpu(self, ring: Daemon) -> None:
        """Each ring's thread is bound to its CPU."""
        bound = []
        for thread in Path(f"/proc/{ring.process.pid}/task").iterdir():
            cpus = os.sched_getaffinity(int(thread.name))
            if len(cpus) == 1:
                bound += list(cpus)
        assert sorted(bound) == sorted(os.sched_getaffinity(0))


_READS = """
import json, os, sys, time
path, seconds = sys.argv[1], float(sys.argv[2])
print("ready", flush=True)
end = time.monotonic() + seconds
longest, errors = 0.0, {}
while time.monotonic() < end:
    start = time.monotonic()
    try:
        with open(path, "rb", buffering=0) as file:
            file.read(65536)
    except OSError as error:
        errors[error.errno] = errors.get(error.errno, 0) + 1
        time.sleep(0.01)
    longest = max(longest, time.monotonic() - start)
print(json.dumps([longest, errors]))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM], ids=lambda number: number.name)
class TestEnds:
    """A daemon with rings ends like another one: no reader waits for longer than the guard's patience."""

    pytestmark = needs_mount

    def test_no_reader_hangs(self, ring: Daemon, place: Place, number: signal.Signals) -> None:
        argv = [sys.executable, "-I", "-S", "-c", _READS, str(place.mount / "proc/meminfo"), "4"]
        readers = [subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) for _ in range(4)]
        try:
            for reader in readers:
                assert reader.stdout is not None
                assert reader.stdout.readline() == "ready\n"
            time.sleep(0.5)
            late = lateness()
            ring.process.send_signal(number)
            for reader in readers:
                longest, errors = json.loads(reader.communicate(timeout=SECONDS)[0])
                assert longest < patient(2.0) + late()
                # What is read is the mount itself, and no slot: there is nothing else to be seen in its place.
                assert set(map(int, errors)) <= {errno.ENOTCONN, errno.ECONNABORTED, errno.ECANCELED, errno.ENOENT}
        finally:
            for reader in readers:
                reader.kill()
                reader.communicate()
