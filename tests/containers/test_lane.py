"""The same container through two daemons, one with the fast lane, on each transport, and one without: no program can
tell them apart.

What is compared, and how, is in twins.py, which runs inside.
"""

import json
import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import lane as lane_modes
from tests import session
from tests.containers import twins
from tests.containers.cgroups import Limits
from tests.containers.conftest import MEMORY_BYTES, default_limits, two_cpus, usable
from tests.containers.engines import INSIDE, RUNC, UNSHARE, Container
from tests.containers.rootfs import PYTHON, Rootfs
from tests.containers.served import Daemon
from tests.daemon.process import eventually
from tests.timing import unhurried_settings

SECONDS = 100
"""A net, far longer than any of these programs takes."""

_SECOND_PLACE = "/run"
"""Where the other mount is in a container whose root is not the host's."""
_SOURCE = Path(twins.__file__).read_text(encoding="utf-8")
_ENGINES = (RUNC, UNSHARE)


@pytest.fixture(scope="module", params=[lane_modes.DEV, lane_modes.RING])
def lane(request: pytest.FixtureRequest, _privileges: None) -> Iterator[Daemon]:
    with lane_modes.offered_to(request.param):
        yield from _served(request.param)


@pytest.fixture(scope="module")
def plain(_privileges: None) -> Iterator[Daemon]:
    yield from _served(lane_modes.NONE)


def _served(lane: str) -> Iterator[Daemon]:
    with session.temporary_directory() as directory:
        daemon = Daemon.start(directory, unhurried_settings(), lane=lane)
        yield daemon
        complaints = [line for line in daemon.said().splitlines() if "Traceback" in line or "ERROR" in line]
        daemon.stop()
        assert not complaints, complaints


@dataclass(frozen=True)
class Pair:
    """A container, and where the two mounts are in it: the lane's first."""

    container: Container
    mounts: tuple[str, str]

    def compare(self, subject: str, user: int | None = None) -> int:
        """Have twins.py compare the mounts; how many things it has looked at."""
        argv = [PYTHON, "-I", "-S", "-c", _SOURCE, subject, *self.mounts]
        count, differences = json.loads(self.container.output(argv, user, timeout=SECONDS))
        assert not differences, "\n".join(differences)
        return int(count)


@pytest.fixture(scope="module", params=_ENGINES, ids=lambda engine: engine.name)
def pair(request: pytest.FixtureRequest, rootfs: Rootfs, lane: Daemon, plain: Daemon) -> Iterator[Pair]:
    limits = default_limits()
    usable(request.param)
    if request.param is RUNC:
        with RUNC.start(rootfs, limits, views=lane.mount, more=[(plain.mount, _SECOND_PLACE)]) as container:
            yield Pair(container, (INSIDE, _SECOND_PLACE))
    else:
        with UNSHARE.start(rootfs, limits, views=lane.mount) as container:
            yield Pair(container, (str(lane.mount), str(plain.mount)))


def test_names_attributes_and_links_are_the_same(pair: Pair) -> None:
    assert pair.compare("names") > 50


def test_texts_are_the_same_at_the_same_moment(pair: Pair) -> None:
    assert pair.compare("texts") > 20


@pytest.mark.parametrize("user", [None, 1000], ids=["root", "a user"])
def test_calls_fail_and_succeed_alike(pair: Pair, user: int | None) -> None:
    assert pair.compare("calls", user) > 1000


def test_odd_reads_give_the_same(pair: Pair) -> None:
    assert pair.compare("reads") > 15


def test_what_threads_and_processes_read_from_one_open_file_fits_together(pair: Pair) -> None:
    assert pair.compare("shared") == 4


def test_the_lane_answers_what_is_its_own(pair: Pair, lane: Daemon, plain: Daemon) -> None:
    """Or all of these tests would compare pyfuse3 with itself."""
    before = lane.counters()
    files = 10
    argv = ["sh", "-c", f"for i in $(seq {files}); do cat {pair.mounts[0]}/proc/meminfo; done"]
    pair.container.output(argv)
    # Open, read, read at the end, release, which nobody waits for.
    wanted = before["lane_answered"] + 4 * files
    eventually(lambda: lane.counters()["lane_answered"] >= wanted, "all of them")
    after = lane.counters()
    # One of each file would be as many as there are files. The guard's question may be among them, or two of them.
    assert after["lane_relayed"] - before["lane_relayed"] < files
    assert "lane_answered" not in plain.counters()


# --- open files and changes ------------------------------------------------------------------------------------------

_WAITS = """
import os, sys
fds = [os.open(path, os.O_RDONLY) for path in sys.argv[1:]]
first = [os.pread(fd, 1 << 20, 0) for fd in fds]
print("ready", flush=True)
sys.stdin.readline()
for fd, text in zip(fds, first):
    assert os.pread(fd, 1 << 20, 1) == text[1:], "a later part is of the rendering before"
    print(text.decode(), "and then", os.pread(fd, 1 << 20, 0).decode(), "end", flush=True)
"""


def test_an_open_file_shows_a_new_limit_when_it_is_read_from_its_start(pair: Pair) -> None:
    more_bytes = MEMORY_BYTES + (64 << 20)
    files = [f"{mount}/proc/meminfo" for mount in pair.mounts]
    reader = pair.container.popen(
        [PYTHON, "-I", "-S", "-c", _WAITS, *files], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with reader:
        try:
            assert reader.stdout is not None
            assert reader.stdout.readline() == "ready\n"
            pair.container.update(Limits(memory_bytes=more_bytes))
            said = reader.communicate("go on\n", timeout=SECONDS)[0]
        finally:
            reader.kill()
            pair.container.update(default_limits())
    assert reader.returncode == 0
    totals = [int(kb) * 1024 for kb in re.findall(r"MemTotal: +(\d+) kB", said)]
    assert totals == [MEMORY_BYTES, more_bytes] * 2


def test_new_cpus_are_there_for_both_at_once(rootfs: Rootfs, lane: Daemon, plain: Daemon) -> None:
    """Their files, that is: how the CPU time until then is shared out depends on when each daemon was last asked."""
    limits = Limits(memory_bytes=MEMORY_BYTES, cpuset=two_cpus(), cpus=2.0)
    with usable(UNSHARE).start(rootfs, limits, views=lane.mount) as container:
        pair = Pair(container, (str(lane.mount), str(plain.mount)))
        for cpus, online in ((1.0, "0\n"), (2.0, "0-1\n")):
            container.update(Limits(cpus=cpus))
            for mount in pair.mounts:
                assert container.read(f"{mount}/sys/devices/system/cpu/online") == online
            assert pair.compare("names") > 50


_HANDS_OVER = """
import array, os, socket, sys
with socket.socket(fileno=int(sys.argv[1])) as sock:
    for path in sys.argv[2:]:
        fd = os.open(path, os.O_RDONLY)
        socket.send_fds(sock, [path.encode()], [fd])
        os.close(fd)
    sock.recv(1)
"""


def test_files_that_outlive_their_container_are_the_same(rootfs: Rootfs, lane: Daemon, plain: Daemon) -> None:
    """Somebody outside has got them; the container's init is dead, and its cgroup is gone."""
    names = twins.files(str(lane.mount / "proc"))
    paths = [str(daemon.mount / "proc" / name) for name in names for daemon in (lane, plain)]
    paths += [str(daemon.mount / twins.CPU_DIR / "online") for daemon in (lane, plain)]
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    open_files: list[tuple[str, int]] = []
    try:
        with ours, usable(UNSHARE).start(rootfs, default_limits(), views=lane.mount) as container:
            argv = [PYTHON, "-I", "-S", "-c", _HANDS_OVER, str(theirs.fileno()), *paths]
            with theirs:
                process = container.popen(argv, pass_fds=[theirs.fileno()])
            with process:
                for _ in paths:
                    path, fds, _, _ = socket.recv_fds(ours, 4096, 1)
                    open_files.append((path.decode(), fds[0]))
                started = [_outcome(fd, 0) for _, fd in open_files]
                ours.send(b"x")
                process.wait(SECONDS)
        assert [path for path, _ in open_files] == paths
        assert not Path(f"/proc/{container.pid}").exists()
        later = [(_outcome(fd, 1), _outcome(fd, 0), _outcome(fd, 1 << 20)) for _, fd in open_files]
    finally:
        for _, fd in open_files:
            os.close(fd)
    for index in range(0, len(paths), 2):
        assert started[index] == started[index + 1], paths[index]
        assert later[index] == later[index + 1], paths[index]


def _outcome(fd: int, offset: int) -> bytes | str:
    """The shape of what a read gives, or an errno."""
    return twins.shape(twins.outcome(os.pread, fd, 1 << 20, offset))


def test_neither_daemon_keeps_anything_open(pair: Pair, lane: Daemon, plain: Daemon) -> None:
    pair.compare("texts")
    for daemon in (lane, plain):
        deadline = time.monotonic() + SECONDS
        while daemon.counters()["fs_open"]:
            assert time.monotonic() < deadline, daemon.counters()
            time.sleep(0.05)
