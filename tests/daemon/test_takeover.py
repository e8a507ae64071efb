"""A dead daemon whose connection somebody holds: another one answers on it in time, or nobody is left waiting."""

import ctypes
import errno
import os
import select
import signal
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from procview.slots.publish import published
from procview.slots.skeleton import Skeleton
from tests.daemon.process import Daemon, Place, descriptors, eventually, needs_mount
from tests.timing import patient

pytestmark = needs_mount

_SYS_PIDFD_GETFD = 438
_FORGET, _STATFS, _BATCH_FORGET = 2, 17, 42
_IN, _OUT = struct.Struct("=IIQQIIIHH"), struct.Struct("=IiQ")
_LARGEST_REQUEST_BYTES = 2 << 20


@pytest.fixture
def held() -> Iterator[Callable[[Daemon], list[int]]]:
    """Holds the connection of a daemon, as a supervisor would to which it was given."""
    with ExitStack() as stack:

        def hold(daemon: Daemon) -> list[int]:
            pidfd = os.pidfd_open(daemon.process.pid)
            stack.callback(os.close, pidfd)
            found = []
            for entry, target in descriptors(daemon.process.pid):
                if target == "/dev/fuse":
                    fd = ctypes.CDLL(None).syscall(_SYS_PIDFD_GETFD, pidfd, int(entry.name), 0)
                    assert fd >= 0
                    stack.callback(os.close, fd)
                    found.append(fd)
            assert found
            return found

        yield hold


@pytest.mark.parametrize("seconds", [1.2, 3.0])
def test_without_another_daemon_nobody_waits_longer_than_the_setting_says(
    place: Place, held: Callable[[Daemon], list[int]], seconds: float
) -> None:
    place.config.write_text(f"takeover_seconds = {seconds}\n")
    daemon = place.start()
    held(daemon)
    died = time.monotonic()
    daemon.process.kill()
    with subprocess.Popen(["cat", Skeleton(str(place.run_directory)).ctl("proc/uptime")],
                          stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as reader:  # fmt: skip
        assert reader.wait(patient(20)) == 1
        waited = time.monotonic() - died
    assert seconds * 0.9 < waited < seconds + patient(1)
    eventually(lambda: not place.ours(), "the end of its mount")
    assert f"the daemon has died, and no other has answered for {seconds:g} s: " in daemon.said
    place.start()


class Answering(threading.Thread):
    """Another daemon: it answers statfs(2), and nothing else."""

    def __init__(self, device: int) -> None:
        super().__init__()
        self._device = device
        self._end = threading.Event()
        os.set_blocking(device, False)

    def run(self) -> None:
        poll = select.poll()
        poll.register(self._device, select.POLLIN)
        while not self._end.is_set():
            if not poll.poll(50):
                continue
            try:
                request = os.read(self._device, _LARGEST_REQUEST_BYTES)
            except BlockingIOError:
                continue
            _, opcode, unique, *_ = _IN.unpack_from(request)
            if opcode in (_FORGET, _BATCH_FORGET):
                continue
            error, body = (0, bytes(80)) if opcode == _STATFS else (-errno.EIO, b"")
            os.write(self._device, _OUT.pack(_OUT.size + len(body), error, unique) + body)

    def end(self) -> None:
        self._end.set()
        self.join()


def test_where_another_daemon_answers_the_views_stay(place: Place, held: Callable[[Daemon], list[int]]) -> None:
    place.config.write_text(f"takeover_seconds = {patient(5)}\n")
    daemon = place.start()
    guard = daemon.guard()
    assert guard is not None
    device, *_ = held(daemon)
    daemon.process.kill()
    daemon.process.wait()
    time.sleep(0.3)
    assert guard.is_running(), "it waits"
    other = Answering(device)
    other.start()
    try:
        words = "the daemon has died, and another one answers in its place: its views stay"
        eventually(lambda: words in daemon.said, words)
        guard.wait(patient(5))
        skeleton = Skeleton(str(place.run_directory))
        assert set(published(skeleton)) == set(skeleton.names())
    finally:
        other.end()


def test_the_setting_needs_a_restart(place: Place) -> None:
    daemon = place.start()
    place.config.write_text("takeover_seconds = 7\n")
    daemon.process.send_signal(signal.SIGHUP)
    daemon.says("the setting takeover_seconds needs a restart")
    daemon.stop()
