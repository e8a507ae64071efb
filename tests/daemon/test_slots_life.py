"""Views in containers over the daemon's life: it starts, stops, is killed, hangs; with and without its guard."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from procview.mounts import mount_table, top_mount
from procview.slots.publish import published
from procview.slots.skeleton import Skeleton
from tests.daemon.process import Place, eventually, needs_mount
from tests.timing import lateness, patient

pytestmark = needs_mount

SECOND = patient(1)
"""What a container may wait for the host's values, whatever has happened to the daemon, on a machine with processors to
spare; on a busy one what is waited for them comes on top.
"""
NAMES = [
    *(f"proc/{name}" for name in ("cpuinfo", "diskstats", "loadavg", "meminfo", "partitions", "stat", "uptime")),
    "sys/devices/system/cpu",
]


def skeleton_of(place: Place) -> Skeleton:
    return Skeleton(str(place.run_directory))


def is_published(place: Place) -> bool:
    return set(NAMES) <= published(skeleton_of(place)).keys()


def nothing_is_published(place: Place) -> bool:
    return not [path for path in place.ours() if path != str(place.mount)]


class Reader:
    """Reads /proc/uptime as containers do, through a slot, again and again; keeps how long each read took."""

    def __init__(self, place: Place) -> None:
        self._path = skeleton_of(place).ctl("proc/uptime")
        self._end = threading.Event()
        self.longest_seconds = 0.0
        self.failures: list[tuple[float, OSError]] = []
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        while not self._end.wait(0.005):
            start = time.monotonic()
            try:
                with open(self._path, "rb") as file:
                    assert file.read().count(b".") == 2
            except OSError as error:
                self.failures.append((start, error))
            self.longest_seconds = max(self.longest_seconds, time.monotonic() - start)

    def end(self) -> None:
        self._end.set()
        self._thread.join()


@pytest.fixture
def reader(place: Place) -> Iterator[Callable[[], Reader]]:
    readers: list[Reader] = []

    def start() -> Reader:
        readers.append(Reader(place))
        return readers[-1]

    yield start
    for one in readers:
        one.end()


def test_it_publishes_when_it_serves_and_withdraws_when_it_stops(place: Place) -> None:
    daemon = place.start()
    assert is_published(place)
    assert "pressure" not in str(published(skeleton_of(place))) or Path("/proc/pressure").is_dir()
    daemon.stop()
    assert nothing_is_published(place)
    assert place.run_directory.is_dir()


def test_a_planned_stop_is_noticed_by_no_reader(place: Place, reader: Callable[[], Reader]) -> None:
    daemon = place.start()
    reading = reader()
    daemon.stop()
    second = place.start()
    reading.end()
    assert not reading.failures
    second.stop()


def test_sigkill_gives_the_hosts_files_back_at_once(place: Place, reader: Callable[[], Reader]) -> None:
    daemon = place.start()
    reading = reader()
    late = lateness()
    daemon.process.kill()
    died = time.monotonic()
    daemon.process.wait()
    eventually(lambda: nothing_is_published(place), "the withdrawal")
    reading.end()
    bound = SECOND + late()
    eventually(lambda: not place.ours(), "the end of its mount")  # which would give errors to df
    assert all(when < died + bound for when, _ in reading.failures)
    assert reading.longest_seconds < bound
    daemon.says("the daemon has died: ")
    place.start()
    assert is_published(place)


def test_a_hang_ends_within_a_second(place: Place, reader: Callable[[], Reader]) -> None:
    daemon = place.start()
    reading = reader()
    late = lateness()
    daemon.process.send_signal(signal.SIGSTOP)
    stopped = time.monotonic()
    eventually(lambda: nothing_is_published(place), "the withdrawal")
    reading.end()
    bound = SECOND + late()
    assert reading.longest_seconds < bound
    assert all(when < stopped + bound for when, _ in reading.failures)
    # Without its connection it is of no use: a service manager starts it again.
    assert daemon.ends() == -signal.SIGKILL
    assert "the guard has ended" not in daemon.said
    place.start()
    assert is_published(place)


def test_a_daemon_that_gets_no_processor_does_not_hang(place: Place, reader: Callable[[], Reader]) -> None:
    daemon = place.start()
    guard = daemon.guard()
    assert guard is not None
    for task in os.listdir(f"/proc/{daemon.process.pid}/task"):
        os.sched_setscheduler(int(task), os.SCHED_IDLE, os.sched_param(0))
    busy = [subprocess.Popen(["sh", "-c", "while :; do :; done"]) for _ in range(3 * len(os.sched_getaffinity(0)))]
    try:
        reading = reader()
        time.sleep(patient(2.5))
    finally:
        for process in busy:
            process.kill()
            process.wait()
    reading.end()
    assert not reading.failures
    assert is_published(place)
    daemon.stop()


def test_how_long_makes_a_hang_is_a_setting(place: Place, reader: Callable[[], Reader]) -> None:
    place.config.write_text(f"hang_seconds = {patient(30)}\n")
    daemon = place.start()
    reading = reader()
    daemon.process.send_signal(signal.SIGSTOP)
    with pytest.raises(subprocess.TimeoutExpired):
        daemon.process.wait(patient(1.5))  # by default it is killed within one
    daemon.process.send_signal(signal.SIGCONT)
    reading.end()
    assert not reading.failures
    assert reading.longest_seconds > patient(1)
    assert is_published(place)
    daemon.stop()


def test_a_daemon_that_nobody_asks_is_left_alone(place: Place) -> None:
    """A hang without a reader harms nobody; one of SIGSTOP and SIGCONT within a debugger should not end it."""
    daemon = place.start()
    daemon.process.send_signal(signal.SIGSTOP)
    with pytest.raises(subprocess.TimeoutExpired):
        daemon.process.wait(patient(1.5))
    assert is_published(place)
    daemon.process.send_signal(signal.SIGCONT)
    assert (place.mount / "proc/uptime").read_bytes()
    daemon.stop()


def test_the_guard_is_started_again(place: Place) -> None:
    daemon = place.start()
    first = daemon.guard()
    assert first is not None
    first.kill()
    daemon.says("the guard has ended (status -9); starting it again")
    eventually(lambda: daemon.guard() not in (None, first), "another guard")
    daemon.process.kill()
    daemon.process.wait()
    eventually(lambda: nothing_is_published(place), "the withdrawal by the new guard")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP])
def test_signals_to_the_whole_service_do_not_end_the_guard(place: Place, number: signal.Signals) -> None:
    daemon = place.start()
    guard = daemon.guard()
    assert guard is not None
    eventually(lambda: ignored(guard.pid) >> (number - 1) & 1, "the guard's own start")
    guard.send_signal(number)
    daemon.process.kill()
    daemon.process.wait()
    eventually(lambda: nothing_is_published(place), "the withdrawal")


def ignored(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("SigIgn:")[1].split()[0], 16)


def test_the_guard_of_a_dead_daemon_leaves_the_views_of_the_next_one_alone(place: Place) -> None:
    first = place.start()
    guard = first.guard()
    assert guard is not None
    guard.suspend()
    first.process.kill()
    first.process.wait()
    place.start()
    guard.resume()
    guard.wait(patient(20))
    assert is_published(place)
    assert (place.mount / "proc/uptime").read_bytes()


def test_a_guard_that_is_slow_to_start_leaves_them_alone_too(place: Place) -> None:
    first = place.start(ready=False)
    eventually(lambda: first.guard() is not None, "the guard")
    guard = first.guard()
    assert guard is not None
    guard.suspend()
    first.says("serving ")
    first.process.kill()
    first.process.wait()
    place.start()
    guard.resume()
    guard.wait(patient(20))
    assert is_published(place)


def test_the_guard_is_small_and_sleeps(place: Place) -> None:
    daemon = place.start()
    guard = daemon.guard()
    assert guard is not None
    assert {"trio", "pyfuse3", "psutil", "click"}.isdisjoint(loaded_by_guard())
    eventually(lambda: guard.status() == psutil.STATUS_SLEEPING, "its sleep")
    daemon.stop()


def loaded_by_guard() -> set[str]:
    code = "import sys, procview.guard; print(*(name.partition('.')[0] for name in sys.modules))"
    return set(subprocess.check_output([sys.executable, "-c", code], text=True).split())


def test_without_a_right_to_mount_it_says_so(place: Place) -> None:
    place.run_directory.mkdir()
    (place.run_directory / "ctl").write_text("not a folder")
    daemon = place.start(ready=False)
    assert daemon.ends() == 1
    assert "run/ctl" in daemon.said


def test_a_run_directory_that_is_a_link_is_refused(place: Place) -> None:
    (place.directory / "elsewhere").mkdir()
    place.run_directory.symlink_to(place.directory / "elsewhere")
    daemon = place.start(ready=False)
    assert daemon.ends() == 1
    assert "is a link" in daemon.said


def withdraw(place: Place, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "procview", "withdraw", "--run-directory", str(place.run_directory)]
    command += ["--config", str(place.config), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=patient(20), check=False)


def test_withdraw_after_a_crash(place: Place) -> None:
    place.crash()
    done = withdraw(place)
    assert done.returncode == 0, done.stderr
    assert "views withdrawn" in done.stdout
    assert not place.ours()
    again = withdraw(place)
    assert (again.returncode, again.stdout) == (0, "0 views withdrawn\n")


def test_withdraw_of_a_hanging_daemon_frees_its_readers(place: Place) -> None:
    daemon = place.start()
    guard = daemon.guard()
    assert guard is not None
    guard.suspend()
    daemon.process.send_signal(signal.SIGSTOP)
    with subprocess.Popen(["cat", place.mount / "proc/uptime"], stderr=subprocess.DEVNULL) as reading:
        done = withdraw(place)
        assert done.returncode == 0, done.stderr
        assert f"the daemon (pid {daemon.process.pid}) does not answer" in done.stdout
        assert reading.wait(patient(5)) == 1
    assert not place.ours()
    guard.resume()


def test_withdraw_leaves_a_daemon_that_answers(place: Place) -> None:
    daemon = place.start()
    done = withdraw(place)
    assert done.returncode == 0, done.stderr
    assert f"the daemon (pid {daemon.process.pid}) goes on serving {place.mount}" in done.stdout
    assert place.ours() == [str(place.mount)]
    assert (place.mount / "proc/uptime").read_bytes()
    refused = withdraw(place, "--remove")
    assert refused.returncode == 1
    assert "stop it first" in refused.stderr
    daemon.stop()


def test_withdraw_removes_the_slots_when_told_to(place: Place) -> None:
    place.crash()
    done = withdraw(place, "--remove")
    assert done.returncode == 0, done.stderr
    assert not place.run_directory.exists()
    assert not [entry for entry in mount_table() if entry.path.startswith(str(place.directory))]
    assert withdraw(place, "--remove").returncode == 0


def test_withdraw_touches_no_foreign_mount(place: Place) -> None:
    place.crash()
    subprocess.run(["mount", "-t", "tmpfs", "other", skeleton_of(place).ctl("proc/uptime")], check=False)
    subprocess.run(["mount", "-t", "tmpfs", "other", place.mount], check=True)
    withdraw(place)
    entry = top_mount(str(place.mount))
    assert entry is not None
    assert entry.fs_type == "tmpfs"


def test_withdraw_needs_root(place: Place) -> None:
    place.start()
    place.directory.chmod(0o755)
    done = subprocess.run(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", sys.executable, "-m", "procview", "withdraw",
         "--run-directory", str(place.run_directory)], capture_output=True, text=True, timeout=patient(20), check=False
    )  # fmt: skip
    assert done.returncode == 1
    assert "only root can do that" in done.stderr
    assert is_published(place)


def test_a_hook_is_heard(place: Place) -> None:
    daemon = place.start()
    path = Path(skeleton_of(place).hook_socket)
    assert path.stat().st_mode & 0o777 == 0o600
    send = (
        "import socket, sys; socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(sys.argv[2].encode(), sys.argv[1])"
    )
    for note in ('{"id": "web\\n1", "pid": 4711}', "{", '{"id": 1}', "[]"):
        subprocess.run([sys.executable, "-c", send, str(path), note], check=True)
    daemon.says("container 'web\\n1' (pid 4711) has its files")
    eventually(lambda: daemon.said.count("not understood on") == 3, "three complaints")
    daemon.stop()
    assert not path.exists()


def test_what_a_reader_of_a_folder_sees_is_a_view_too(place: Place) -> None:
    place.start()
    skeleton = skeleton_of(place)
    assert sorted(os.listdir(skeleton.ctl("sys/devices/system/cpu")))
    assert "cpu0" in os.listdir(skeleton.ctl("sys/devices/system/cpu"))


class Watcher:
    """Opens a slot again and again, and keeps the devices of what it got: of a view, or of the host's procfs."""

    def __init__(self, place: Place) -> None:
        self._path = skeleton_of(place).ctl("proc/uptime")
        self._end = threading.Event()
        self.devices: list[int] = []
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def _look(self) -> None:
        while not self._end.is_set():
            with open(self._path, "rb") as file:
                device = os.fstat(file.fileno()).st_dev
                assert file.read().count(b".") == 2
            if device not in self.devices[-1:]:
                self.devices.append(device)

    def end(self) -> list[int]:
        self._end.set()
        self._thread.join()
        return self.devices


def moves_beneath() -> bool:
    return tuple(map(int, os.uname().release.split(".")[:2])) >= (6, 5)


def test_a_successor_takes_over_without_a_gap(place: Place) -> None:
    first = place.start()
    first.says("control socket: ")
    watcher = Watcher(place)
    first.process.send_signal(signal.SIGUSR2)
    assert first.ends() == 0, first.said
    told = f"pid {first.process.pid} is told to end: its views are replaced"
    eventually(lambda: told in first.said, told)
    eventually(lambda: first.said.count("serving ") == 2, "the successor")
    second = psutil.Process(int((place.run_directory / "lock").read_text()))
    try:
        devices = watcher.end()
        host = os.stat(skeleton_of(place).src("proc/uptime")).st_dev
        assert len(devices) == 2 if moves_beneath() else len(set(devices) - {host}) == 2
        assert host not in devices or not moves_beneath()
        assert is_published(place)
        assert (place.mount / "proc/uptime").read_bytes()
        eventually(lambda: first.said.count("control socket: ") == 2, "its control socket")
        assert sorted(path.name for path in place.run_directory.iterdir()) == [
            "containers", "control", "control.sock", "ctl", "fs", "history", "hook.sock", "lock", "slots", "src"
        ]  # fmt: skip
        assert len(place.ours()) == 1 + len(skeleton_of(place).names())
        # The guard of the new one watches it at its new place.
        second.kill()
        eventually(lambda: not place.ours(), "the withdrawal")
    finally:
        if second.is_running():
            second.kill()


def test_a_successor_that_fails_changes_nothing(place: Place) -> None:
    first = place.start()
    place.config.write_text("nonsense = 1\n")
    first.process.send_signal(signal.SIGUSR2)
    first.says("the successor has ended (status 1); going on")
    assert is_published(place)
    assert (place.mount / "proc/uptime").read_bytes()
    first.stop()


def test_replacing_nobody_is_serving(place: Place) -> None:
    daemon = place.start(options=["--replace"])
    assert is_published(place)
    daemon.stop()
