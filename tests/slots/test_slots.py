"""The slots, with real mounts: views appear in other mount namespaces, and go away from all of them at once."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from procview.mounts import MS_BIND, MS_SHARED, detach, detach_exactly, mount, mount_table, top_mount
from procview.slots.publish import publish, withdraw
from procview.slots.skeleton import Skeleton
from tests.daemon.process import Place, needs_mount, place
from tests.session import new_directory, remove_directory
from tests.timing import patient

__all__ = ["place"]
pytestmark = needs_mount

CPU = "sys/devices/system/cpu"
NAMES = ["proc/meminfo", "proc/uptime", "proc/no-such-file", CPU]


@pytest.fixture
def skeleton() -> Iterator[Skeleton]:
    directory = new_directory()
    made = Skeleton(str(directory / "slots"))
    made.make(NAMES)
    yield made
    withdraw(made)
    made.remove()
    remove_directory(directory)


def published(slot: str) -> bool:
    entry = top_mount(slot)
    return entry is not None and entry.ours


class Namespace:
    """A process in mount and pid namespaces of its own, with slots over its files, and the views over these if there
    are any: a slot that is bound later than its view was published has none.
    """

    def __init__(self, skeleton: Skeleton) -> None:
        binds = "".join(
            f"mount --bind {src} {target} && mount --make-slave {target} && "
            + (f"mount --bind {ctl} {target} && " if published(ctl) else "")
            for src, ctl, target in (
                (skeleton.src("proc/meminfo"), skeleton.ctl("proc/meminfo"), "/proc/meminfo"),
                (skeleton.src("proc/uptime"), skeleton.ctl("proc/uptime"), "/proc/uptime"),
                (skeleton.src(CPU), skeleton.ctl(CPU), "/sys/devices/system/cpu"),
            )
        )
        self.process = subprocess.Popen(
            ["unshare", "-m", "-p", "-f", "--mount-proc", "--propagation", "slave",
             "sh", "-c", f"{binds} echo ready && exec sleep 1000"], stdout=subprocess.PIPE
        )  # fmt: skip
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n"
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        self.pid = int(children.split()[0])

    def fs_type(self, path: str) -> str:
        """What is on top at ``path`` in there."""
        lines = Path(f"/proc/{self.pid}/mountinfo").read_text().splitlines()
        return next(line for line in reversed(lines) if line.split()[4] == path).partition(" - ")[2].split()[0]

    def read(self, path: str) -> bytes:
        return subprocess.check_output(["nsenter", "-t", str(self.pid), "-m", "-p", "cat", path], timeout=patient(10))

    def end(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def enter(skeleton: Skeleton) -> Iterator[Callable[[], Namespace]]:
    started: list[Namespace] = []

    def start() -> Namespace:
        started.append(Namespace(skeleton))
        return started[-1]

    yield start
    for namespace in started:
        namespace.end()


def test_views_come_over_every_container_and_go_away_again(
    skeleton: Skeleton, place: Place, enter: Callable[[], Namespace]
) -> None:
    before = enter()
    assert before.fs_type("/proc/uptime") == "proc"
    place.start()
    publish(skeleton, str(place.mount))
    after = enter()
    for container in (before, after):
        assert container.fs_type("/proc/uptime") == "fuse.procview"
        assert container.fs_type("/sys/devices/system/cpu") == "fuse.procview"
        assert float(container.read("/proc/uptime").split()[0]) < patient(60)
        assert container.read("/sys/devices/system/cpu/online")
    assert withdraw(skeleton) == 3
    for container in (before, after):
        assert container.fs_type("/proc/uptime") == "proc"
        assert container.read("/proc/uptime").split()[0] != b"0.00"
        assert container.read("/sys/devices/system/cpu/online") == Path("/sys/devices/system/cpu/online").read_bytes()
    assert withdraw(skeleton) == 0


def test_the_views_of_a_killed_daemon_are_withdrawn(
    skeleton: Skeleton, place: Place, enter: Callable[[], Namespace]
) -> None:
    daemon = place.start()
    publish(skeleton, str(place.mount))
    container = enter()
    daemon.process.kill()
    daemon.process.wait()
    withdraw(skeleton)
    assert b"MemTotal" in container.read("/proc/meminfo")


def test_a_hung_daemon_does_not_keep_its_views_up(
    skeleton: Skeleton, place: Place, enter: Callable[[], Namespace]
) -> None:
    daemon = place.start()
    publish(skeleton, str(place.mount))
    container = enter()
    daemon.process.send_signal(signal.SIGSTOP)
    try:
        withdraw(skeleton)
        assert b"MemTotal" in container.read("/proc/meminfo")
    finally:
        daemon.process.send_signal(signal.SIGCONT)


def test_publishing_again_replaces_and_never_stacks(
    skeleton: Skeleton, place: Place, enter: Callable[[], Namespace]
) -> None:
    place.start()
    container = enter()
    for _ in range(3):
        publish(skeleton, str(place.mount))
        ours = [entry.path for entry in mount_table() if entry.ours and entry.path.startswith(skeleton.base)]
        assert sorted(ours) == sorted([skeleton.ctl("proc/meminfo"), skeleton.ctl("proc/uptime"), skeleton.ctl(CPU)])
        lines = Path(f"/proc/{container.pid}/mountinfo").read_text().splitlines()
        assert sum(line.split()[4] == "/proc/uptime" and "fuse.procview" in line for line in lines) == 1


def test_a_view_bound_over_a_slot_by_hand_is_swapped_and_withdrawn_like_the_others(
    skeleton: Skeleton, place: Place, enter: Callable[[], Namespace]
) -> None:
    place.start()
    publish(skeleton, str(place.mount))
    assert top_mount(skeleton.src("proc/uptime")) is None
    container = enter()
    publish(skeleton, str(place.mount))
    lines = Path(f"/proc/{container.pid}/mountinfo").read_text().splitlines()
    assert sum(line.split()[4] == "/proc/uptime" and "fuse.procview" in line for line in lines) == 1
    withdraw(skeleton)
    assert container.fs_type("/proc/uptime") == "proc"


def test_making_it_again_changes_nothing(skeleton: Skeleton, enter: Callable[[], Namespace]) -> None:
    container = enter()
    before = mount_table()
    skeleton.make(NAMES)
    assert mount_table() == before
    assert container.fs_type("/proc/uptime") == "proc"


@pytest.mark.parametrize("side", ["ctl", "src"])
@pytest.mark.parametrize("tree", ["proc", CPU])
def test_half_a_skeleton_is_completed(skeleton: Skeleton, side: str, tree: str) -> None:
    detach(f"{skeleton.base}/{side}/{tree}")
    skeleton.make(NAMES)
    for path in ("proc", CPU):
        master, slave = top_mount(skeleton.ctl(path)), top_mount(skeleton.src(path))
        assert master is not None
        assert slave is not None
        assert master.shared
        assert slave.master == master.shared


def test_a_skeleton_without_its_list_of_names_is_completed(skeleton: Skeleton) -> None:
    (Path(skeleton.base) / "slots").unlink()
    (Path(skeleton.base) / "slots.new").write_text("proc/upt")
    skeleton.make(NAMES)
    assert skeleton.names() == ["proc/meminfo", "proc/uptime", CPU]


def test_nothing_of_it_reaches_the_hosts_own_sysfs(skeleton: Skeleton, place: Place) -> None:
    """As on a systemd host, where /sys is shared: a bind of it would be its peer."""
    place.start()
    shared = Path(skeleton.base).parent / "shared"
    shared.mkdir()
    mount("sysfs", str(shared), "sysfs", 0)
    mount("none", str(shared), None, MS_SHARED)
    try:
        detach(skeleton.src(CPU))
        detach(skeleton.ctl(CPU))
        mount(f"{shared}/devices/system/cpu", skeleton.ctl(CPU), None, MS_BIND)
        Skeleton(skeleton.base).make(NAMES)
        publish(skeleton, str(place.mount))
        assert top_mount(f"{shared}/devices/system/cpu") is None
    finally:
        withdraw(skeleton)
        while top_mount(f"{shared}/devices/system/cpu") is not None:
            detach(f"{shared}/devices/system/cpu")
        detach(str(shared))
        shared.rmdir()


def test_a_base_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "slots").symlink_to("/etc")
    with pytest.raises(OSError, match="is a link"):
        Skeleton(str(tmp_path / "slots")).make(NAMES)


def test_removing_leaves_nothing(tmp_path: Path) -> None:
    skeleton = Skeleton(str(tmp_path / "slots"))
    skeleton.make(NAMES)
    skeleton.remove()
    assert os.listdir(tmp_path) == ["slots"]
    assert os.listdir(tmp_path / "slots") == []
    assert not [entry for entry in mount_table() if entry.path.startswith(str(tmp_path))]


def test_two_that_withdraw_at_once_do_not_disturb_each_other(skeleton: Skeleton, place: Place) -> None:
    """A dead daemon's guard and the next daemon do, where the next one is quick."""
    daemon = place.start()
    for _ in range(5):
        publish(skeleton, str(place.mount))
        with ThreadPoolExecutor(4) as pool:
            counts = list(pool.map(withdraw, [skeleton] * 4))
        # Of two umount2(MNT_DETACH) of one mount at the same moment the kernel may tell both that it was theirs.
        assert sum(counts) >= len(skeleton.names()), "each view is taken away"
        assert max(counts) <= len(skeleton.names()), "and by nobody twice"
        assert not any(published(skeleton.ctl(name)) for name in skeleton.names())
    daemon.stop()


def test_what_has_come_in_the_place_of_a_mount_is_left_alone(tmp_path: Path) -> None:
    path = str(tmp_path)
    mount("first", path, "tmpfs", 0)
    try:
        first = top_mount(path)
        assert first is not None
        mount("second", path, "tmpfs", 0)
        assert not detach_exactly(first), "it is covered"
        second = top_mount(path)
        assert second is not None
        assert detach_exactly(second)
        assert not detach_exactly(second)
        assert top_mount(path) == first
        assert detach_exactly(first, force=True)
    finally:
        while top_mount(path) is not None:
            detach(path)


def test_a_folder_for_the_control_socket_that_is_a_link_is_refused(tmp_path: Path) -> None:
    skeleton = Skeleton(str(tmp_path))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "control").symlink_to("elsewhere")
    with pytest.raises(NotADirectoryError):
        skeleton.make_control()
    assert not list((tmp_path / "elsewhere").iterdir())


def test_the_place_of_the_control_socket_is_made_once_and_goes(tmp_path: Path) -> None:
    skeleton = Skeleton(str(tmp_path))
    for _ in range(2):
        skeleton.make_control()
    assert Path(skeleton.control_socket).readlink() == Path("control/control.sock")
    skeleton.remove_control()
    skeleton.remove_control()
    assert not list(tmp_path.iterdir())
