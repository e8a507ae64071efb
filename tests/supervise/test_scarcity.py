"""A machine that has no memory left, and one that has no room left where the daemon has its files."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from procview.mounts import detach, mount_table
from tests import lane, session
from tests.containers.cgroups import Cgroup, Limits
from tests.daemon.process import Place, eventually, needs_mount
from tests.supervise.readers import three_readers_notice_nothing
from tests.supervise.test_daemon import STEADY, Served, served, supervised

__all__ = ["served"]

pytestmark = needs_mount

_MIB = 1 << 20
_HOG = "import sys; sys.stdin.readline(); hog = b'x' * (300 << 20); sys.stdin.readline()"
"""Takes more than there is, once it is told to."""


@pytest.fixture
def cgroup() -> Iterator[Cgroup]:
    group = Cgroup.create(session.new_name())
    try:
        yield group
    finally:
        for pid in group.processes():
            os.kill(pid, signal.SIGKILL)
        group.remove()


def _kills(group: Cgroup) -> int:
    """By the OOM killer, for want of this cgroup's memory."""
    folder = group.directories["memory"]
    text = (folder / ("memory.events" if group.is_v2 else "memory.oom_control")).read_text(encoding="ascii").split()
    return int(text[text.index("oom_kill") + 1])


@STEADY
@pytest.mark.skipif(not lane.continues(), reason=lane.WHY_NOT_CONTINUED)
def test_when_the_oom_killer_takes_the_daemon_no_reader_notices(
    served: Served, place: Place, cgroup: Cgroup, tmp_path: Path
) -> None:
    served.warm()
    before = served.will_serve()
    cgroup.apply(Limits(memory_bytes=64 * _MIB))
    hog = subprocess.Popen([sys.executable, "-I", "-S", "-c", _HOG], stdin=subprocess.PIPE)
    assert hog.stdin is not None
    try:
        with three_readers_notice_nothing(place, tmp_path):
            for pid in (before, hog.pid):
                (cgroup.directories["memory"] / "cgroup.procs").write_text(str(pid), encoding="ascii")
            # Of the two it is the one to go first.
            Path(f"/proc/{before}/oom_score_adj").write_text("1000", encoding="ascii")
            hog.stdin.write(b"\n")
            hog.stdin.flush()
            served.will_serve(than=before)
    finally:
        hog.kill()
        hog.wait()
        hog.stdin.close()
    assert _kills(cgroup) > 0
    assert f"the daemon (pid {before}) has ended (SIGKILL)" in served.said, served.said


@pytest.fixture
def small(place: Place) -> Iterator[Place]:
    """A place whose run directory is a file system of 256 KiB."""
    place.run_directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "procview-test", place.run_directory], check=True)
    try:
        yield place
    finally:
        place.clean_up()
        for entry in reversed(mount_table()):
            if Path(entry.path).is_relative_to(place.directory):
                detach(entry.path)


def _fill(folder: Path) -> Path:
    """Not a byte is left."""
    file = folder / "filled"
    room = os.statvfs(folder)
    file.write_bytes(bytes(room.f_bavail * room.f_frsize))
    assert os.statvfs(folder).f_bavail == 0
    return file


def test_without_room_for_its_files_a_daemon_says_so_and_leaves_nothing(small: Place) -> None:
    filled = _fill(small.run_directory)
    refused = small.start(ready=False)
    assert refused.ends() == 1
    assert f"No space left on device: '{small.run_directory}" in refused.said, refused.said
    assert not small.ours()
    assert "Traceback" not in refused.said
    filled.unlink()
    daemon = small.start()
    daemon.stop()


@pytest.mark.skipif(not lane.continues(), reason=lane.WHY_NOT_CONTINUED)
def test_what_fills_the_run_directory_later_hurts_neither_the_daemon_nor_the_next_one(
    small: Place, tmp_path: Path
) -> None:
    with (
        supervised(small, ["--steady-seconds", "0"], log_directory=tmp_path) as served,
        three_readers_notice_nothing(small, tmp_path),
    ):
        _fill(small.run_directory)
        for _ in range(2):
            served.all_warm()
            before = served.will_serve()
            os.kill(before, signal.SIGKILL)
            served.will_serve(than=before)
        served.all_warm()
        served.send(signal.SIGHUP)
        eventually(lambda: served.said.count("serving ") >= 4, f"an exchange: {served.said}")
