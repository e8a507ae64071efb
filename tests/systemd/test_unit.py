"""The unit that is shipped, run by systemd under another name and in another place: all that docs/operations.md says.

One daemon for the module: each test begins with one that serves and leaves one that does.
"""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from procview import engines
from procview.lock import holder
from procview.mounts import mount_table, parse_mountinfo
from procview.shipped import packaging_file
from procview.slots.publish import published
from procview.slots.skeleton import Skeleton
from tests import lane, session, shipped_unit
from tests.control.client import ask
from tests.daemon.process import eventually
from tests.systemd.units import Service, shown, systemctl
from tests.timing import FACTOR, paced_settings, patient

_UNITS = Path("/run/systemd/system")
WATCHDOG_SECONDS = 10.0 if FACTOR == 1 else patient(3)
"""Less than ten times as long, where all is ten times as slow: a test waits for it."""
"""As in the unit."""


@dataclass
class Unit:
    name: str
    directory: Path

    @property
    def skeleton(self) -> Skeleton:
        return Skeleton(str(self.directory / "run"))

    @property
    def pid(self) -> int:
        """Of the daemon."""
        return int(shown(self.name, "MainPID"))

    def guard(self) -> psutil.Process:
        children = psutil.Process(self.pid).children()
        return next(child for child in children if "procview.guard" in child.cmdline())

    def restarts(self) -> int:
        return int(shown(self.name, "NRestarts"))

    def publishes(self) -> bool:
        return "proc/meminfo" in published(self.skeleton)

    def serves(self, than: int = 0) -> bool:
        """Whether a daemon does, another one than the process ``than``."""
        if shown(self.name, "ActiveState") != "active" or self.pid in (0, than) or not self.publishes():
            return False
        return Path(self.skeleton.ctl("proc/meminfo")).read_text(encoding="ascii").startswith("MemTotal:")

    def read(self, name: str) -> str:
        """What somebody reads who has a slot."""
        return Path(self.skeleton.ctl(name)).read_text(encoding="ascii")


def _within_reach(directory: Path) -> Iterator[str]:
    """What an installed procview has elsewhere, and the tests in folders for temporary files: program and file."""
    for path in {directory, Path(__file__).parents[2], Path(sys.prefix), Path(sys.base_prefix)}:
        if str(path).startswith(("/tmp/", "/var/tmp/")):
            yield f"BindReadOnlyPaths={path}:{path}:norbind\n"


@pytest.fixture(scope="module")
def unit() -> Iterator[Unit]:
    with session.temporary_directory() as directory:
        unit = Unit(f"{session.new_name()}.service", directory)
        (directory / "run").mkdir()  # what is bound here for the tests can be read only, also by who is to make it
        (directory / "config.toml").write_text(paced_settings(), encoding="ascii")
        options = ("--run-directory", f"{directory}/run", "--config", f"{directory}/config.toml")
        site = engines.Site(
            run_directory=f"{directory}/run", program=(sys.executable, "-m", "procview"), options=options
        )
        (file,) = engines.find("systemd").files
        text = file.render(Path(packaging_file("systemd/procview.service")).read_text(encoding="utf-8"), site)
        for name, seconds, here in (
            ("TimeoutStartSec", 30, patient(30)),
            ("TimeoutStopSec", 10, patient(10)),
            ("WatchdogSec", 10, WATCHDOG_SECONDS),
        ):
            assert f"{name}={seconds}\n" in text
            text = text.replace(f"{name}={seconds}\n", f"{name}={here:g}\n")
        # What is only the tests' own is bound, so that the rest stays hidden.
        assert "\nPrivateTmp=no\n" in text
        text = text.replace("\nPrivateTmp=no\n", "\nPrivateTmp=yes\n" + "".join(_within_reach(directory)))
        path = _UNITS / unit.name
        path.write_text(text, encoding="utf-8")
        try:
            systemctl("daemon-reload")
            systemctl("start", unit.name)
            yield unit
        finally:
            systemctl("stop", unit.name, check=False)
            path.unlink()
            systemctl("daemon-reload")
            systemctl("reset-failed", unit.name, check=False)
            unit.skeleton.remove()
        assert not [entry for entry in mount_table() if Path(entry.path).is_relative_to(directory)]


def test_start_waits_until_it_serves(unit: Unit) -> None:
    assert unit.serves()
    assert shown(unit.name, "Type") == "notify"
    assert shown(unit.name, "SubState") == "running"
    assert unit.restarts() == 0


def test_it_may_open_as_many_files_as_the_unit_says(unit: Unit) -> None:
    limits = Path(f"/proc/{unit.pid}/limits").read_text(encoding="ascii")
    assert "Max open files            524288               524288" in limits


def test_daemon_and_guard_have_what_the_unit_leaves_them_and_the_guard_the_mounts_of_the_host(unit: Unit) -> None:
    status = Path(f"/proc/{unit.pid}/status").read_text(encoding="utf-8")
    expected = shipped_unit.mask(shipped_unit.capabilities())
    assert shipped_unit.held(unit.pid) == shipped_unit.held(unit.guard().pid) == expected
    assert "NoNewPrivs:\t1\n" in status
    assert "Seccomp:\t2\n" in status
    host = Path("/proc/self/ns/mnt").readlink()
    guards = Path(f"/proc/{unit.guard().pid}/ns/mnt")
    eventually(lambda: guards.readlink() == host, "the guard's going where views are")

    def apart() -> bool:
        try:
            threads = [path.readlink() for path in Path(f"/proc/{unit.pid}/task").glob("*/ns/mnt")]
        except FileNotFoundError:  # one has ended
            return False
        return bool(threads) and host not in threads

    eventually(apart, "all threads in mounts of the daemon's own, but while they mount")
    assert Path(f"/proc/{unit.pid}/ns/net").readlink() != Path("/proc/self/ns/net").readlink()


@pytest.mark.parametrize("users", ["no", "yes"], ids=["the host's users", "users of its own"])
def test_what_the_unit_leaves_it_is_enough_to_tell_who_reads(unit: Unit, users: str) -> None:
    service = Service.start(unit.directory / "run/fs", ["MemoryMax=100M", f"PrivateUsers={users}"])
    try:
        assert service.read("proc/meminfo").split()[1] == str(100 << 10)
    finally:
        service.stop()


@pytest.mark.parametrize("users", [[], ["--user", "--map-root-user"]], ids=["host_users", "own_users"])
def test_it_attaches_a_container_and_detaches_it(unit: Unit, users: list[str]) -> None:
    argv = ["unshare", *users, "--pid", "--mount-proc", "--fork", "--kill-child", "sleep", "infinity"]
    with subprocess.Popen(argv) as outer:
        try:
            parent = psutil.Process(outer.pid)
            eventually(parent.children, "the container's init")
            (init,) = parent.children()
            eventually(lambda: init.name() == "sleep", "its own /proc")
            control = unit.directory / "run/control.sock"
            eventually(control.exists, "the control socket")  # it comes after READY=1
            attached = ask(control, f"/v1/containers/{init.pid}/attach", "POST")
            inside = kinds_of_meminfo(init.pid)
            detached = ask(control, f"/v1/containers/{init.pid}/detach", "POST")
            after = kinds_of_meminfo(init.pid)
        finally:
            outer.kill()
    assert (attached.status, attached.json["init_pid"]) == (200, init.pid), attached.json
    assert attached.json["files"]["proc/meminfo"] == "attached"
    assert inside == ["proc", "fuse.procview"]
    assert (detached.status, after) == (200, []), detached.json


def kinds_of_meminfo(pid: int) -> list[str]:
    """What is mounted over /proc/meminfo where this process is, the slot first."""
    lines = Path(f"/proc/{pid}/mountinfo").read_text(encoding="utf-8")
    return [entry.fs_type for entry in parse_mountinfo(lines) if entry.path == "/proc/meminfo"]


def test_reload_reads_the_configuration_again(unit: Unit) -> None:
    pid = unit.pid
    config = unit.directory / "config.toml"
    host = Path("/proc/meminfo").read_text(encoding="ascii").split("SwapTotal:")[1].split()[0]
    if host == "0":
        pytest.skip("this machine has no swap, so that nothing shows the difference")
    config.write_text("swap = false\n" + paced_settings(), encoding="ascii")
    systemctl("reload", unit.name)
    eventually(lambda: unit.read("proc/meminfo").split("SwapTotal:")[1].split()[0] == "0", "no swap")
    config.write_text(paced_settings(), encoding="ascii")
    systemctl("reload", unit.name)
    eventually(lambda: unit.read("proc/meminfo").split("SwapTotal:")[1].split()[0] != "0", "swap")
    assert unit.pid == pid
    assert unit.restarts() == 0


def test_a_successor_takes_over_and_is_the_main_process(unit: Unit) -> None:
    old = unit.pid
    systemctl("kill", "--kill-whom=main", "-s", "USR2", unit.name)
    eventually(lambda: not psutil.pid_exists(old), "the end of the old one")
    assert unit.publishes(), "all the time"
    eventually(lambda: unit.serves(than=old), "its successor as the main process")
    assert unit.restarts() == 0


def test_a_daemon_that_is_killed_is_started_again(unit: Unit) -> None:
    old, before = unit.pid, unit.restarts()
    systemctl("kill", "--kill-whom=main", "-s", "KILL", unit.name)
    eventually(lambda: unit.serves(than=old), "the next one")
    assert unit.restarts() == before + 1


def test_when_the_guard_is_killed_as_well_nobody_is_left_with_errors(unit: Unit) -> None:
    """ExecStopPost withdraws what nobody else is there for; it runs before the next daemon starts."""
    old, before = unit.pid, unit.restarts()
    systemctl("kill", "--kill-whom=all", "-s", "KILL", unit.name)
    eventually(lambda: unit.serves(than=old), "the next one")
    assert unit.restarts() == before + 1
    fs = [entry for entry in mount_table() if entry.path == unit.skeleton.ctl("proc/meminfo") and entry.ours]
    assert len(fs) == 1, "nothing of the dead one is below"


@contextmanager
def _begun_to_read(unit: Unit) -> Iterator[int]:
    """A file that is read in part, of a daemon that keeps what the next one goes on with. It is to read on from there.

    How long a start takes here, nobody shall withdraw.
    """
    if not lane.continues():
        pytest.skip(lane.WHY_NOT_CONTINUED)
    config = unit.directory / "config.toml"
    config.write_text("takeover_seconds = 600\n" + paced_settings(), encoding="ascii")
    systemctl("restart", unit.name)
    assert shown(unit.name, "NFileDescriptorStore") == "2"
    read = os.open(unit.skeleton.ctl("proc/vmstat"), os.O_RDONLY)
    try:
        begin = os.read(read, 100)
        kept = os.pread(read, 1 << 20, 1)
        assert kept.startswith(begin[1:])
        yield read
        assert os.pread(read, 1 << 20, 1) == kept
        assert shown(unit.name, "NFileDescriptorStore") == "2"
    finally:
        os.close(read)
        config.write_text(paced_settings(), encoding="ascii")
        systemctl("restart", unit.name)


def test_the_next_one_goes_on_and_no_reader_notices(unit: Unit) -> None:
    with _begun_to_read(unit) as read:
        old, before, views = unit.pid, unit.restarts(), published(unit.skeleton)
        systemctl("kill", "--kill-whom=main", "-s", "KILL", unit.name)
        assert unit.read("proc/uptime")  # it is the next one that answers
        assert os.pread(read, 100, 1)
        eventually(lambda: unit.serves(than=old), "the next one")
        assert (unit.restarts(), published(unit.skeleton)) == (before + 1, views)


@contextmanager
def _reading(unit: Unit) -> Iterator[set[int]]:
    """A reader that may not fail; the devices that it reads from."""
    devices: set[int] = set()
    end = threading.Event()

    def look() -> None:
        while not end.is_set():
            with open(unit.skeleton.ctl("proc/uptime"), "rb") as file:
                assert file.read().count(b".") == 2
                devices.add(os.fstat(file.fileno()).st_dev)

    with ThreadPoolExecutor(1) as pool:
        looking = pool.submit(look)
        try:
            eventually(lambda: devices, "a first read")
            yield devices
        finally:
            end.set()
        looking.result()


def test_a_restart_is_noticed_by_no_reader(unit: Unit) -> None:
    """ExecStop sees that it is one."""
    with _begun_to_read(unit) as read:
        mount = os.fstat(read).st_dev
        with _reading(unit) as devices:
            old = unit.pid
            systemctl("restart", unit.name)
            assert unit.serves(than=old)
        assert devices == {mount}, "neither the host's file nor another mount's"


def test_a_stop_after_an_exchange_is_noticed_by_no_reader(unit: Unit) -> None:
    """The successor is the main process and not systemd's child, and such a one systemd would kill at once."""
    old = unit.pid
    systemctl("kill", "--kill-whom=main", "-s", "USR2", unit.name)
    eventually(lambda: unit.serves(than=old), "its successor as the main process")
    # It is that as soon as its predecessor begins to end, which is the one that has the lock until it has.
    eventually(lambda: (owner := holder(unit.skeleton.lock)) is not None and owner.pid == unit.pid, "its lock")
    with _reading(unit) as devices:
        systemctl("stop", unit.name)
        assert published(unit.skeleton) == {}
    assert len(devices) == 2, "its own, then the host's"
    systemctl("start", unit.name)
    assert unit.serves()


@pytest.mark.slow
def test_the_watchdog_ends_one_that_hangs_though_nobody_reads(unit: Unit) -> None:
    old, before = unit.pid, unit.restarts()
    systemctl("kill", "--kill-whom=main", "-s", "STOP", unit.name)
    assert unit.publishes()
    psutil.Process(old).wait(WATCHDOG_SECONDS + patient(10))
    eventually(lambda: unit.serves(than=old), "the next one")
    assert unit.restarts() == before + 1


def test_stop_gives_the_hosts_files_back_and_leaves_the_slots(unit: Unit) -> None:
    guard = unit.guard()
    systemctl("stop", unit.name)
    assert published(unit.skeleton) == {}
    assert unit.read("proc/meminfo").split()[1] == Path("/proc/meminfo").read_text(encoding="ascii").split()[1]
    guard.wait(patient(5))
    systemctl("start", unit.name)
    assert unit.serves()


def test_a_bad_configuration_fails_and_a_good_one_starts(unit: Unit) -> None:
    config = unit.directory / "config.toml"
    systemctl("stop", unit.name)
    config.write_text("nonsense = 1\n", encoding="ascii")
    with pytest.raises(AssertionError, match=r"Job for .* failed"):
        systemctl("start", unit.name)
    eventually(lambda: unit.restarts() > 0, "another try")
    assert published(unit.skeleton) == {}
    systemctl("stop", unit.name)  # a try of its own may have read the bad file just now
    config.write_text(paced_settings(), encoding="ascii")
    systemctl("reset-failed", unit.name, check=False)
    systemctl("start", unit.name)
    assert unit.serves()
