"""A daemon that is killed, and the next one goes on where it was: what readers, open files and folders see of that."""

import os
import signal
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from procview.history import History
from procview.lock import holder
from procview.slots.publish import published
from tests import lane
from tests.daemon.process import descriptors, eventually, needs_mount
from tests.supervise.process import has_ended
from tests.supervise.readers import three_readers_notice_nothing
from tests.supervise.test_daemon import STEADY, Served, served

__all__ = ["served"]

pytestmark = [
    *needs_mount,
    pytest.mark.skipif(not lane.continues(), reason=lane.WHY_NOT_CONTINUED),
]


@pytest.fixture
def mount(served: Served) -> Path:
    return served.place.mount


def _kill(served: Served) -> int:
    """SIGKILL, and another one serves; its pid. Not before the daemon is ready, and has had a second standby forked:
    it would be started again later and later.
    """
    served.all_warm()
    before = served.will_serve()
    os.kill(before, signal.SIGKILL)
    return served.will_serve(than=before)


@pytest.fixture
def opened() -> Iterator[list[int]]:
    """Descriptors of the test's own, closed in the end."""
    descriptors: list[int] = []
    yield descriptors
    for fd in descriptors:
        os.close(fd)


@STEADY
def test_readers_notice_nothing_of_twenty_kills(served: Served, tmp_path: Path) -> None:
    with three_readers_notice_nothing(served.place, tmp_path, least_reads=101):
        for _ in range(20):
            _kill(served)
    assert served.said.count("with 2 descriptors kept for it") == 20
    history = History(str(served.place.run_directory))
    eventually(lambda: (read := history.read())["starts"] == 21 and read["takeovers"] == 20, "the last one's word")
    read = history.read()
    assert (read["takeovers"], read["withdrawals"], read["withdrawn_at_ns"]) == (20, 0, 0)


def test_what_was_read_of_a_file_stays_what_it_was(served: Served, mount: Path, opened: list[int]) -> None:
    whole = os.open(mount / "proc/uptime", os.O_RDONLY)
    part = os.open(mount / "proc/vmstat", os.O_RDONLY)
    opened += [whole, part]
    assert os.read(whole, 4096)
    first = os.read(part, 50)
    before = os.pread(whole, 4096, 1), os.pread(part, 1 << 20, 1)
    time.sleep(0.05)
    _kill(served)
    assert (os.pread(whole, 4096, 1), os.pread(part, 1 << 20, 1)) == before
    rest = b""
    while more := os.read(part, 700):
        rest += more
    assert first + rest == first[:1] + before[1]
    assert os.read(whole, 10) == b"", "it is at its end"
    assert os.pread(whole, 4096, 0)[1:] != before[0], "from the start a text is made anew"


def test_folders_stay_open_and_what_is_below_them_is_found(served: Served, mount: Path, opened: list[int]) -> None:
    cpus = os.open(mount / "sys/devices/system/cpu", os.O_RDONLY | os.O_DIRECTORY)
    one = os.open(mount / "sys/devices/system/cpu/cpu0/topology", os.O_RDONLY | os.O_DIRECTORY)
    opened += [cpus, one]
    names, below = os.listdir(cpus), os.listdir(one)
    core = os.open("core_id", os.O_RDONLY, dir_fd=one)
    opened.append(core)
    _kill(served)
    assert (os.listdir(cpus), os.listdir(one)) == (names, below)
    assert os.read(core, 100) == b"0\n"
    again = os.open("core_id", os.O_RDONLY, dir_fd=one)
    opened.append(again)
    assert os.read(again, 100) == b"0\n"
    assert os.stat("core_id", dir_fd=one).st_ino == os.fstat(core).st_ino


def test_files_keep_their_times_and_numbers(served: Served, mount: Path) -> None:
    files = [mount / "proc/meminfo", mount / "sys/devices/system/cpu/cpu0/online", mount / "proc"]
    files = [file for file in files if file.exists()]
    before = [(file.stat().st_ino, file.stat().st_mtime_ns) for file in files]
    _kill(served)
    Path("/proc/sys/vm/drop_caches").write_text("2")  # the kernel asks for names and attributes again
    assert [(file.stat().st_ino, file.stat().st_mtime_ns) for file in files] == before


def test_counters_go_on(served: Served, mount: Path) -> None:
    def numbers() -> list[int]:
        first = (mount / "proc/stat").read_text().splitlines()[0].split()[1:]
        del first[4]  # a host's iowait goes back now and then (proc(5))
        idle = float((mount / "proc/uptime").read_text().split()[1])
        events = [line.split()[1] for line in (mount / "proc/vmstat").read_text().splitlines() if line[:2] == "pg"]
        return [*map(int, first), int(idle * 100), *map(int, events)]

    before = numbers()
    for _ in range(3):
        _kill(served)
        after = numbers()
        assert all(new >= old for old, new in zip(before, after, strict=True))
        before = after


def test_closed_files_are_forgotten_and_open_ones_are_not(served: Served, mount: Path, opened: list[int]) -> None:
    opened += [os.open(mount / "proc/meminfo", os.O_RDONLY) for _ in range(50)]
    for fd in opened:
        os.read(fd, 10)
    _kill(served)
    # The kernel tells late of a file that the fixture itself closed, to see whether it is served.
    eventually(lambda: _counted(served, "fs_open") == 50, "just the test's own files are open")
    while opened:
        os.close(opened.pop())
    eventually(lambda: _counted(served, "fs_open") == 0, "no file is open")
    _kill(served)
    eventually(lambda: _counted(served, "fs_open") == 0, "nor is one after another death")
    assert _counted(served, "fs_text_bytes") == 0


def test_a_memory_of_another_version_is_left_alone(served: Served, mount: Path) -> None:
    """A new connection then; the host's values until it is there, and nobody waits."""
    served.warm()
    state = _kept(served, "memfd:procview-state")
    with state.open("r+b") as memory:
        memory.seek(8)
        memory.write(struct.pack("=I", 999))
    before = served.will_serve()
    os.kill(before, signal.SIGKILL)
    served.says("its state: it is of version 999, and this is ")
    served.says("serving ", 2)
    assert (mount / "proc/meminfo").read_text()
    _kill(served)
    assert served.said.count("cannot be gone on with") == 1, "the next one goes on with the new one"


def test_a_memory_full_of_nonsense_costs_what_was_in_it(served: Served, mount: Path, opened: list[int]) -> None:
    """Whatever is in it, the daemon serves."""
    opened.append(os.open(mount / "proc/meminfo", os.O_RDONLY))
    (mount / "proc/stat").read_text()
    served.warm()
    with _kept(served, "memfd:procview-state").open("r+b") as memory:
        for position in range(4096 + 196608 * 4, 4096 + 196608 * 4 + (64 << 8), 4):
            memory.seek(position)
            memory.write(os.urandom(3) + b"\0")
    os.kill(served.will_serve(), signal.SIGKILL)
    served.says("serving ", 2)
    assert (mount / "proc/meminfo").read_text().startswith("MemTotal:")


@pytest.mark.parametrize("pause_seconds", [0.0, 0.03, 0.1])
def test_told_to_end_in_the_middle_of_it_a_daemon_withdraws_what_it_has_taken_over(
    served: Served, pause_seconds: float
) -> None:
    served.warm()
    before = served.will_serve()
    os.kill(before, signal.SIGKILL)
    eventually(lambda: (owner := holder(served.skeleton.lock)) is not None and owner.pid != before, "the next one")
    time.sleep(pause_seconds)
    served.send(signal.SIGTERM)
    assert served.ends() == 0
    eventually(lambda: not served.place.ours(), "views are withdrawn")


def test_when_the_supervisor_is_killed_as_well_views_are_withdrawn(served: Served) -> None:
    standby = served.warm()
    daemon = served.will_serve()
    served.send(signal.SIGKILL)
    served.process.wait()
    eventually(lambda: has_ended(standby), "the standby's end")
    os.kill(daemon, signal.SIGKILL)
    eventually(lambda: not published(served.skeleton), "views are withdrawn")
    assert Path(served.skeleton.ctl("proc/uptime")).read_text()


def _kept(served: Served, name: str) -> Path:
    """What the supervisor keeps, as a file to write to."""
    for entry, target in descriptors(served.pid):
        if name in target:
            return entry
    raise AssertionError(f"{name} is not kept: {served.said}")


def _counted(served: Served, name: str) -> int:
    before = served.said.count("rss_bytes=")
    os.kill(served.daemon(), signal.SIGUSR1)
    served.says("rss_bytes=", before + 1)
    line = served.said.rpartition("rss_bytes=")[2].splitlines()[0]
    return int(dict(word.split("=") for word in line.split()[1:] if word.count("=") == 1)[name])
