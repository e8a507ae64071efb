"""The tree for those who look for lxcfs' files: whoever binds one has a slot in the end, however the daemon ends.

Real daemons, real mounts, and mount namespaces that bind as lxcfs' own hook does: ``mount -n --bind``.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from procview.mounts import MS_BIND, detach, mount, mount_fuse, mount_table, parse_mountinfo, top_mount
from procview.slots import bound, compat
from procview.slots.attach import attach
from procview.slots.containers import State, running
from procview.slots.publish import publish, published, withdraw
from procview.slots.skeleton import Skeleton
from tests.daemon.process import Daemon, Place, eventually, needs_mount, place
from tests.daemon.test_slots_life import SECOND, moves_beneath
from tests.session import new_directory, remove_directory
from tests.slots.looks import states
from tests.supervise.process import has_ended
from tests.timing import paced_settings, patient

__all__ = ["place"]
pytestmark = needs_mount

UPTIME = "proc/uptime"
MEMINFO = "proc/meminfo"
CPU = "sys/devices/system/cpu"
BOUND = (UPTIME, MEMINFO, CPU)


def directory_of(place: Place) -> Path:
    return place.directory / "lxcfs"


def skeleton_of(place: Place) -> Skeleton:
    return Skeleton(str(place.run_directory))


def configure(place: Place, text: str) -> None:
    place.config.write_text(f"{paced_settings()}{text}", encoding="utf-8")


def with_tree(directory: Path) -> str:
    return f'compat = "lxcfs"\ncompat_directory = "{directory}"\n'


def procview(place: Place, *words: str) -> subprocess.CompletedProcess[str]:
    options = ["--run-directory", str(place.run_directory), "--config", str(place.config)]
    return subprocess.run([sys.executable, "-m", "procview", *words, *options], capture_output=True, text=True,
                          check=False, timeout=patient(60))  # fmt: skip


class Namespace:
    """A process in mount and pid namespaces of its own, with files of the tree bound over its own."""

    def __init__(self, tree: Path, *, mapped: bool) -> None:
        binds = "".join(f"mount -n --bind {tree}/{name} /{name} && " for name in BOUND)
        users = ["-U", "-r"] if mapped else []
        self._users = ["-U", "--preserve-credentials"] if mapped else []
        self.process = subprocess.Popen(
            ["unshare", *users, "-m", "-p", "-f", "--kill-child", "--mount-proc", "--propagation", "slave",
             "sh", "-c", f"{binds} echo ready && exec sleep 1000"], stdout=subprocess.PIPE
        )  # fmt: skip
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n"
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        self.pid = int(children.split()[0])

    def stack(self, name: str) -> list[str]:
        """The kinds of what is mounted over a file, each over the one before."""
        table = list(parse_mountinfo(Path(f"/proc/{self.pid}/mountinfo").read_text()))
        at = {entry.parent_id: entry for entry in table if entry.path == f"/{name}"}
        ids = {entry.mount_id for entry in at.values()}
        here = next(entry for entry in at.values() if entry.parent_id not in ids)
        kinds = [here.fs_type]
        while here.mount_id in at:
            here = at[here.mount_id]
            kinds.append(here.fs_type)
        return kinds

    def run(self, *words: str) -> str:
        entered = ["nsenter", "-t", str(self.pid), "-m", "-p", *self._users]
        return subprocess.check_output([*entered, *words], text=True, timeout=patient(20))

    def shows_its_own(self) -> bool:
        """Whether all that is bound shows views: it is young, and the host is not."""
        age = float(self.run("cat", f"/{UPTIME}").split()[0])
        return age < host_age() - 60 and bool(self.run("cat", f"/{CPU}/online", f"/{MEMINFO}"))

    def shows_the_hosts(self) -> bool:
        age = float(self.run("cat", f"/{UPTIME}").split()[0])
        online = self.run("cat", f"/{CPU}/online")
        return abs(age - host_age()) < patient(20) and online == Path(f"/{CPU}/online").read_text()

    def end(self) -> None:
        self.process.kill()  # and by --kill-child its init
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


def host_age() -> float:
    return float(Path(f"/{UPTIME}").read_text().split()[0])


@pytest.fixture
def bind(place: Place) -> Iterator[Callable[..., Namespace]]:
    started: list[Namespace] = []

    def start(*, mapped: bool = False) -> Namespace:
        started.append(Namespace(directory_of(place), mapped=mapped))
        return started[-1]

    yield start
    for namespace in started:
        namespace.end()


@pytest.fixture(autouse=True)
def _host_is_old() -> None:
    if host_age() < 120:
        pytest.skip("the machine has just been booted: its uptime is no other than a container's")


@pytest.fixture
def started(place: Place) -> Daemon:
    configure(place, with_tree(directory_of(place)))
    return place.start()


def is_withdrawn(place: Place) -> bool:
    """Whether views are gone, and what had to be done for those who have bound one is done."""
    return not [path for path in place.ours() if path != str(place.directory / "bound")]


# --- the tree --------------------------------------------------------------------------------------------------------


def test_it_has_the_layout_of_lxcfs_and_nothing_but_slots(place: Place, started: Daemon) -> None:
    tree, skeleton = directory_of(place), skeleton_of(place)
    here = sorted(path.name for path in (tree / "proc").iterdir())
    assert here == sorted(name.removeprefix("proc/") for name in skeleton.names() if name.startswith("proc/"))
    assert {"cpuinfo", "diskstats", "loadavg", "meminfo", "stat", "uptime"} <= set(here)
    assert sorted(path.name for path in tree.iterdir()) == ["proc", "sys"]
    assert float((tree / UPTIME).read_text().split()[0]) > 0
    # By this file lxcfs' hook knows that the folder is to be bound as a whole.
    assert (tree / CPU / "uevent").is_file()
    assert (tree / CPU / "uevent").read_bytes() == Path(f"/{CPU}/uevent").read_bytes()
    assert compat.disorder(skeleton, mount_table()) == []
    started.stop()
    assert (tree / CPU / "uevent").is_file()
    assert compat.disorder(skeleton, mount_table()) == []
    assert (tree / UPTIME).read_text().split()[0] == Path(f"/{UPTIME}").read_text().split()[0] or host_age() > 0


def test_nothing_can_be_written_there(place: Place, started: Daemon) -> None:
    tree = directory_of(place)
    for path in (tree, tree / "proc", tree / "sys/devices"):
        with pytest.raises(OSError, match="Read-only file system"):
            (path / "file").touch()
    for mounted in mount_table():
        if Path(mounted.path).is_relative_to(tree):
            assert not mounted.shared, mounted
    started.stop()


def test_bound_without_what_is_below_it_is_empty(place: Place, started: Daemon) -> None:
    """As lxcfs' hook does for containers in a container: better no file than an empty one."""
    inside = place.directory / "inside"
    inside.mkdir()
    mount(str(directory_of(place)), str(inside), None, MS_BIND)
    try:
        assert [path for path in inside.rglob("*") if not path.is_dir()] == []
        assert not (inside / CPU).exists()
    finally:
        detach(str(inside))
    started.stop()


def test_what_is_missing_of_it_is_made(place: Place, started: Daemon) -> None:
    tree, skeleton = directory_of(place), skeleton_of(place)
    while top_mount(f"{tree}/{UPTIME}") is not None:
        detach(f"{tree}/{UPTIME}")
    assert compat.disorder(skeleton, mount_table()) == [UPTIME]
    found = json.loads(procview(place, "check", "--json").stdout)["findings"]
    assert [one for one in found if f"{tree} does not show what the slots show: {UPTIME}" in one["text"]]
    compat.make(skeleton, str(tree))
    assert compat.disorder(skeleton, mount_table()) == []
    while top_mount(str(tree)) is not None:
        detach(str(tree))
    assert compat.disorder(skeleton, mount_table()) == skeleton.names()
    compat.make(skeleton, str(tree))
    assert compat.disorder(skeleton, mount_table()) == []
    table = mount_table()
    # Of a share in the view in ctl, who binds it would have a share as well.
    assert not [entry for entry in table if Path(entry.path).is_relative_to(tree) and entry.shared]
    compat.make(skeleton, str(tree))
    assert mount_table() == table, "and making it once more changes nothing"
    started.stop()


@pytest.mark.parametrize("found", [False, True])
def test_removing_leaves_nothing_but_a_folder_that_was_there(place: Place, found: bool) -> None:
    tree = directory_of(place)
    if found:
        tree.mkdir()
    configure(place, with_tree(tree))
    daemon = place.start()
    refused = procview(place, "withdraw", "--remove")
    assert refused.returncode == 1
    assert "stop it first" in refused.stderr
    daemon.stop()
    assert (tree / UPTIME).read_text()
    removed = procview(place, "withdraw", "--remove")
    assert removed.returncode == 0, removed.stderr
    assert not place.run_directory.exists()
    assert tree.exists() == found
    assert not [entry for entry in mount_table() if Path(entry.path).is_relative_to(place.directory)]


def test_it_moves_and_goes_with_the_setting(place: Place, started: Daemon, bind: Callable[..., Namespace]) -> None:
    tree, skeleton = directory_of(place), skeleton_of(place)
    container = bind()
    started.stop()
    assert f"{place.directory}: is within " in _refused(place, place.directory)
    assert (tree / UPTIME).read_text(), "as long as there is no other"
    configure(place, with_tree(place.directory / "other"))
    second = place.start()
    assert not tree.exists()
    assert compat.disorder(skeleton, mount_table()) == []
    assert (place.directory / "other" / UPTIME).read_text()
    configure(place, "")
    second.process.send_signal(signal.SIGHUP)
    second.says("the setting compat needs a restart")
    second.says("the setting compat_directory needs a restart")
    second.stop()
    third = place.start()
    assert not (place.directory / "other").exists()
    assert compat.recorded(skeleton) is None
    assert container.shows_its_own(), "what was bound is a slot as any other"
    third.process.kill()
    third.process.wait()
    eventually(lambda: is_withdrawn(place), "the withdrawal")
    assert container.shows_the_hosts()


# --- what is there already -------------------------------------------------------------------------------------------


def _refused(place: Place, directory: Path) -> str:
    configure(place, with_tree(directory))
    daemon = place.start(ready=False)
    assert daemon.ends() == 1
    return daemon.said


def test_a_mounted_lxcfs_is_refused_and_not_asked_anything(place: Place) -> None:
    tree = directory_of(place)
    tree.mkdir()
    device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)  # which nobody serves: whoever asks it would wait
    try:
        mount_fuse(device, str(tree), "lxcfs", "fuse.lxcfs")
        said = _refused(place, tree)
        assert f"{tree}: lxcfs is mounted there; stop it first (systemctl disable --now lxcfs)" in said
    finally:
        os.close(device)
        detach(str(tree))


def test_anything_else_that_is_mounted_there_is_refused(place: Place) -> None:
    tree = directory_of(place)
    tree.mkdir()
    mount("something", str(tree), "tmpfs", 0)
    try:
        assert f"{tree}: tmpfs of 'something' is mounted there; unmount it" in _refused(place, tree)
    finally:
        detach(str(tree))


def test_what_was_mounted_over_it_is_refused_and_left(place: Place, started: Daemon) -> None:
    tree = directory_of(place)
    mount("something", str(tree), "tmpfs", 0)
    try:
        started.stop()
        assert f"{tree}: tmpfs of 'something' is mounted there; unmount it" in _refused(place, tree)
        removed = procview(place, "withdraw", "--remove")
        assert removed.returncode == 1
        assert f"{tree}: something else is mounted over it" in removed.stderr
    finally:
        detach(str(tree))
    assert procview(place, "withdraw", "--remove").returncode == 0


def test_a_folder_with_something_in_it_is_refused(place: Place) -> None:
    tree = directory_of(place)
    tree.mkdir()
    (tree / "file").write_text("precious")
    assert f"{tree}: is no empty folder" in _refused(place, tree)
    assert (tree / "file").read_text() == "precious"
    assert f"{tree}/file: is no empty folder" in _refused(place, tree / "file")


def test_a_link_and_places_around_the_slots_are_refused(place: Place) -> None:
    link = place.directory / "link"
    link.symlink_to("/etc")
    assert f"{link}: is a link" in _refused(place, link)
    for directory in (place.run_directory, place.run_directory / "lxcfs", place.directory):
        assert f"{directory}: is within " in _refused(place, directory)


# --- those who bind its files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mapped", [False, True])
def test_who_has_bound_its_files_has_the_hosts_and_its_own_again(
    place: Place, started: Daemon, bind: Callable[..., Namespace], mapped: bool
) -> None:
    early = bind(mapped=mapped)
    assert early.stack(UPTIME) == ["fuse.procview"]
    assert early.shows_its_own()
    started.process.kill()
    started.process.wait()
    eventually(lambda: is_withdrawn(place), "the withdrawal")
    eventually(lambda: early.stack(UPTIME) == ["fuse.procview", "proc"], "its slot")
    eventually(lambda: early.stack(CPU) == ["fuse.procview", "sysfs"], "its slot")
    assert early.shows_the_hosts()
    between = bind(mapped=mapped)
    assert between.stack(UPTIME) == ["proc"]
    for _ in range(2):
        daemon = place.start()
        assert early.stack(UPTIME) == ["fuse.procview", "proc", "fuse.procview"]
        assert between.stack(UPTIME) == ["proc", "fuse.procview"]
        assert early.shows_its_own()
        assert between.shows_its_own()
        daemon.stop()
        assert early.stack(UPTIME) == ["fuse.procview", "proc"]
        assert early.shows_the_hosts()
        assert between.shows_the_hosts()
    assert os.listdir(skeleton_of(place).kept) == []


def test_they_are_attached(place: Place, started: Daemon, bind: Callable[..., Namespace]) -> None:
    namespaces = [bind(), bind(mapped=True)]
    inits = {namespace.pid for namespace in namespaces}

    def seen() -> list[State]:
        found = [one for one in running() if one.pid in inits]
        assert len(found) == 2
        return [states(one, skeleton_of(place))[name] for one in found for name in BOUND]

    assert set(seen()) == {State.ATTACHED}
    started.stop()
    assert set(seen()) == {State.HOST}
    place.start().process.kill()
    eventually(lambda: is_withdrawn(place), "the withdrawal")
    place.start()
    assert set(seen()) == {State.ATTACHED}


def test_attaching_puts_slots_over_what_lxcfs_had_bound(place: Place, bind: Callable[..., Namespace]) -> None:
    """It had been stopped, and what it had bound gives errors."""
    tree = directory_of(place)
    (tree / CPU).mkdir(parents=True)
    (tree / "proc").mkdir()
    device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    mount_fuse(device, str(tree / CPU), "lxcfs", "fuse.lxcfs")
    for name in (UPTIME, MEMINFO):
        (tree / name).write_text("lxcfs\n")
    container = bind()
    os.close(device)
    detach(str(tree / CPU))
    assert container.stack(CPU) == ["fuse.lxcfs"]
    tree.rename(place.directory / "gone")
    configure(place, with_tree(tree))
    place.start()
    (init,) = [one for one in running() if one.pid == container.pid]
    (result,) = attach(skeleton_of(place), [init])
    assert not result.failed, result
    assert container.stack(CPU) == ["fuse.lxcfs", "sysfs", "fuse.procview"]
    assert container.shows_its_own()
    assert {states(init, skeleton_of(place))[name] for name in BOUND} == {State.ATTACHED}


class Reader:
    """Reads a bound uptime again and again: what failed, and which devices it was from."""

    def __init__(self, path: Path) -> None:
        self.failures: list[tuple[float, OSError]] = []
        self.devices: list[int] = []
        self._path = path
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        while not self._end.wait(0.001):
            start = time.monotonic()
            try:
                with open(self._path, "rb") as file:
                    device = os.fstat(file.fileno()).st_dev
                    assert file.read().count(b".") == 2
            except OSError as error:
                self.failures.append((start, error))
            else:
                if device not in self.devices[-1:]:
                    self.devices.append(device)

    def end(self) -> None:
        self._end.set()
        self._thread.join()


@pytest.fixture
def reader(place: Place, started: Daemon) -> Iterator[Reader]:
    """Of a file that was bound while the daemon served."""
    assert started.process.poll() is None
    file = place.directory / "bound"
    file.touch()
    mount(str(directory_of(place) / UPTIME), str(file), None, MS_BIND)
    reading = Reader(file)
    try:
        yield reading
    finally:
        reading.end()
        while top_mount(str(file)) is not None:
            detach(str(file))


def test_a_planned_stop_is_noticed_by_no_reader(place: Place, started: Daemon, reader: Reader) -> None:
    eventually(lambda: reader.devices, "a first read")
    started.stop()
    eventually(lambda: len(reader.devices) == 2, "the host's values")
    place.start()
    eventually(lambda: len(reader.devices) == 3, "the next one's values")
    reader.end()
    # Its view goes while the connection is still served: what has it open reads on, and what comes later has the slot.
    assert not reader.failures


def test_sigkill_gives_the_hosts_file_back_at_once(place: Place, started: Daemon, reader: Reader) -> None:
    eventually(lambda: reader.devices, "a first read")
    started.process.kill()
    died = time.monotonic()
    started.process.wait()
    eventually(lambda: len(reader.devices) == 2, "the host's values")
    reader.end()
    eventually(lambda: is_withdrawn(place), "the withdrawal")
    assert all(when < died + SECOND for when, _ in reader.failures)
    assert reader.devices[1] == os.stat(skeleton_of(place).src(UPTIME)).st_dev


def test_a_hang_ends_within_a_second(place: Place, started: Daemon, reader: Reader) -> None:
    eventually(lambda: reader.devices, "a first read")
    started.process.send_signal(signal.SIGSTOP)
    hung = time.monotonic()
    eventually(lambda: len(reader.devices) == 2, "the host's values")
    reader.end()
    eventually(lambda: is_withdrawn(place), "the withdrawal")
    assert all(when < hung + SECOND for when, _ in reader.failures)
    assert started.ends() == -signal.SIGKILL


def test_a_successor_takes_over_without_a_gap(place: Place, started: Daemon, reader: Reader) -> None:
    eventually(lambda: reader.devices, "a first read")
    started.process.send_signal(signal.SIGUSR2)
    assert started.ends() == 0, started.said
    eventually(lambda: started.said.count("serving ") == 2, "the successor")
    second = psutil.Process(int((place.run_directory / "lock").read_text()))
    try:
        host = os.stat(skeleton_of(place).src(UPTIME)).st_dev
        eventually(lambda: len(set(reader.devices) - {host}) == 2, "the successor's values")
        reader.end()
        assert not reader.failures
        if moves_beneath():
            assert len(reader.devices) == 2, reader.devices
        assert compat.disorder(skeleton_of(place), mount_table()) == []
    finally:
        second.kill()
    eventually(lambda: is_withdrawn(place), "the withdrawal")


@pytest.mark.parametrize("beneath", [False, True])
def test_views_that_are_published_anew_come_over_what_was_bound(
    place: Place, started: Daemon, bind: Callable[..., Namespace], monkeypatch: pytest.MonkeyPatch, beneath: bool
) -> None:
    """Also where Linux cannot mount one beneath another (before 6.5)."""
    if not beneath:
        monkeypatch.setattr(bound, "moved_beneath", lambda _tree, _path: False)
    container = bind()
    for _ in range(2):
        publish(skeleton_of(place), str(place.mount))
        assert container.stack(UPTIME) == ["fuse.procview", "proc", "fuse.procview"]
        assert container.shows_its_own()
        assert compat.disorder(skeleton_of(place), mount_table()) == []
    started.stop()
    assert container.stack(UPTIME) == ["fuse.procview", "proc"]
    assert container.shows_the_hosts()


def test_what_a_container_mounts_shows_nowhere_else(
    place: Place, started: Daemon, bind: Callable[..., Namespace]
) -> None:
    """Whatever it does to the propagation of its own mounts, before and after it has got its slot."""
    hostile, other = bind(), bind()
    cover = f"mount --make-shared /{UPTIME} && mount --bind /{MEMINFO} /{UPTIME}"
    hostile.run("sh", "-c", cover)
    assert other.shows_its_own()
    assert compat.disorder(skeleton_of(place), mount_table()) == []
    hostile.run("umount", f"/{UPTIME}")
    started.stop()
    place.start()
    assert other.shows_its_own()
    assert hostile.shows_its_own()
    hostile.run("sh", "-c", cover)
    assert other.shows_its_own()
    assert compat.disorder(skeleton_of(place), mount_table()) == []


# --- in the middle ---------------------------------------------------------------------------------------------------


def test_two_that_withdraw_at_once_do_not_disturb_each_other(
    place: Place, started: Daemon, bind: Callable[..., Namespace]
) -> None:
    skeleton = skeleton_of(place)
    container = bind()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(withdraw, [skeleton] * 4))
    assert container.shows_the_hosts()
    assert os.listdir(skeleton.kept) == []
    started.stop()
    place.start()
    assert container.shows_its_own()


@pytest.mark.parametrize("what", ["die", "fail"])
def test_what_was_taken_away_without_giving_slots_is_made_good(
    place: Place, bind: Callable[..., Namespace], what: str
) -> None:
    faults = place.directory / "faults"
    faults.mkdir()
    configure(place, with_tree(directory_of(place)))
    daemon = place.start(PROCVIEW_FAULTS=str(faults))
    container = bind()
    guard = daemon.guard()
    assert guard is not None
    (faults / "release").write_text(what)
    daemon.process.kill()
    daemon.process.wait()
    eventually(lambda: has_ended(guard), "the guard's end")
    assert not (faults / "release").exists(), "it went through there"
    assert not published(skeleton_of(place))
    assert procview(place, "withdraw").returncode == 0
    assert container.shows_the_hosts()
    assert os.listdir(skeleton_of(place).kept) == []
    place.start()
    assert container.shows_its_own()


def test_a_view_that_was_kept_and_not_taken_away_is_dropped(
    place: Place, started: Daemon, bind: Callable[..., Namespace]
) -> None:
    """As by one that was killed between the two: its slot may not come over views that are still up."""
    skeleton = skeleton_of(place)
    container = bind()
    keeping = f"""
from procview.mounts import mounts_at
from procview.slots.bound import keep
from procview.slots.skeleton import Skeleton
skeleton = Skeleton({str(place.run_directory)!r})
(view,) = [entry for entry in mounts_at(skeleton.ctl({UPTIME!r})) if entry.ours]
assert keep(skeleton, view) is not None
"""
    subprocess.run([sys.executable, "-c", keeping], check=True)
    assert len(os.listdir(skeleton.kept)) == 1
    bound.finish(skeleton)
    assert os.listdir(skeleton.kept) == []
    assert container.shows_its_own()
    assert compat.disorder(skeleton, mount_table()) == []
    started.stop()
    assert container.shows_the_hosts()


def test_removing_takes_no_slot_from_who_has_bound_a_view(tmp_path: Path) -> None:
    """Also where somebody was killed between giving it and clearing up after it."""
    directory = new_directory()
    skeleton = Skeleton(str(directory / "run"))
    try:
        skeleton.make([UPTIME])
        bound.expect(skeleton)
        (Path(skeleton.kept) / "1000000000-1").touch()
        view = f"{skeleton.kept}/1000000000-1"
        mount(str(Path(f"/{MEMINFO}")), view, None, MS_BIND)
        mount("none", view, None, 1 << 20)  # shared
        (tmp_path / "file").touch()
        mount(view, str(tmp_path / "file"), None, MS_BIND)
        mount(skeleton.src(UPTIME), view, None, MS_BIND)
        assert (tmp_path / "file").read_text().count(".") == 2
        bound.forget(skeleton)
        assert not os.path.exists(skeleton.kept)
        assert (tmp_path / "file").read_text().count(".") == 2
    finally:
        while top_mount(str(tmp_path / "file")) is not None:
            detach(str(tmp_path / "file"))
        skeleton.remove()
        remove_directory(directory)
