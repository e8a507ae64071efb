"""--attach and --detach: running containers, whatever is mounted there already."""

import subprocess
from typing import Any

import pytest

from procview.slots.publish import withdraw
from procview.slots.skeleton import Skeleton
from tests.daemon.process import Place
from tests.hook.conftest import Prepare
from tests.hook.prepared import BOUND, CPU, NAMES, PROCFS, HookProcess, Prepared, assert_attached, host_table


@pytest.fixture
def running(prepare: Prepare) -> Prepared:
    container = prepare()
    container.change_root()
    return container


def outcomes(answer: dict[str, Any]) -> set[str]:
    assert answer["error"] is None, answer
    return set(answer["files"].values())


def test_attaching_and_detaching_can_be_repeated(running: Prepared, hook: HookProcess, skeleton: Skeleton) -> None:
    before, on_host = running.table(), host_table()
    for expected in ("attached", "already attached"):
        (answer,) = hook.by_hand("attach", running.pid)
        assert answer == {"pid": running.pid, "error": None, "files": dict.fromkeys(NAMES, expected)}
        assert_attached(running, skeleton)
    for expected in ("detached", "not attached"):
        (answer,) = hook.by_hand("detach", running.pid)
        assert answer == {"pid": running.pid, "error": None, "files": dict.fromkeys(NAMES, expected)}
        assert running.table() == before
    assert host_table() == on_host
    assert hook.says() == []


@pytest.mark.parametrize("propagation", ["private", "slave", "shared"])
def test_views_come_and_go_in_a_container_that_was_attached_late(
    propagation: str, place: Place, prepare: Prepare, hook: HookProcess, skeleton: Skeleton
) -> None:
    container = prepare(propagation="private")
    container.change_root()
    container.do(f"mount --make-r{propagation} /")
    daemon = place.start()
    hook.by_hand("attach", container.pid)
    assert_attached(container, skeleton, views=True)
    daemon.stop()
    assert_attached(container, skeleton)
    place.start()
    assert_attached(container, skeleton, views=True)
    (answer,) = hook.by_hand("detach", container.pid)
    assert outcomes(answer) == {"detached"}
    assert not any(container.at(name) for name in skeleton.names())


def test_a_container_with_users_of_its_own_is_attached(
    place: Place, prepare: Prepare, hook: HookProcess, skeleton: Skeleton
) -> None:
    container = prepare(users=True, propagation="private")
    container.change_root()
    daemon = place.start()
    assert outcomes(hook.by_hand("attach", container.pid)[0]) == {"attached"}
    assert_attached(container, skeleton, views=True)
    daemon.stop()
    assert_attached(container, skeleton)
    assert outcomes(hook.by_hand("detach", container.pid)[0]) == {"detached"}


def test_several_containers_are_answered_in_order_and_one_does_not_stop_the_others(
    prepare: Prepare, hook: HookProcess, skeleton: Skeleton
) -> None:
    first, ended, bare, last = (prepare() for _ in range(4))
    for container in (first, bare, last):
        container.change_root()
    bare.do("umount /proc")
    ended.end()
    answers = hook.by_hand("attach", first.pid, ended.pid, bare.pid, last.pid, status=1)
    assert [answer["error"] for answer in answers] == [
        None, f"its process {ended.pid} is gone", "its /proc is not a procfs", None
    ]  # fmt: skip
    for container in (first, last):
        assert_attached(container, skeleton)
    assert hook.says() == []


def test_a_container_without_sys_is_no_failure(prepare: Prepare, hook: HookProcess) -> None:
    container = prepare(BOUND, PROCFS)
    container.change_root()
    (answer,) = hook.by_hand("attach", container.pid)
    assert answer["files"] == dict.fromkeys(NAMES, "attached") | {CPU: "not attached"}


def test_a_container_whose_sys_is_made_of_folders_of_a_sysfs_is_attached(
    place: Place, running: Prepared, hook: HookProcess, skeleton: Skeleton
) -> None:
    """As systemd-nspawn makes it."""
    running.do(
        "mkdir -p /run; mount -t tmpfs tmpfs /run; mkdir /run/sys; mount --bind /sys /run/sys;"
        "mount -t tmpfs tmpfs /sys; mkdir /sys/devices; mount --bind /run/sys/devices /sys/devices; umount /run/sys"
    )
    place.start()
    assert outcomes(hook.by_hand("attach", running.pid)[0]) == {"attached"}
    assert_attached(running, skeleton, views=True)
    assert outcomes(hook.by_hand("attach", running.pid)[0]) == {"already attached"}
    assert outcomes(hook.by_hand("detach", running.pid)[0]) == {"detached"}
    assert running.kinds(CPU) == []


@pytest.mark.parametrize("script", ["mkdir /sys/devices; ln -s / /sys/devices/system", "ln -s / /sys/devices"])
def test_a_link_below_sys_leads_nowhere(script: str, running: Prepared, hook: HookProcess) -> None:
    running.do(f"mount -t tmpfs tmpfs /sys; {script}")
    on_host = host_table()
    (answer,) = hook.by_hand("attach", running.pid, status=1)
    assert answer["files"] == dict.fromkeys(NAMES, "attached") | {CPU: "failed: Too many levels of symbolic links"}
    assert host_table() == on_host


def test_a_process_of_the_host_is_refused(hook: HookProcess) -> None:
    with subprocess.Popen(["sleep", "100"]) as process:
        try:
            before = host_table()
            for mode in ("attach", "detach"):
                for pid in (process.pid, 1):
                    (answer,) = hook.by_hand(mode, pid, status=1)
                    assert answer["error"] is not None
                    assert not answer["files"]
            assert host_table() == before
        finally:
            process.kill()


def test_something_foreign_is_covered_and_comes_back(
    place: Place, running: Prepared, hook: HookProcess, skeleton: Skeleton
) -> None:
    """As lxcfs is."""
    place.start()
    running.do("mount --bind /proc/version /proc/uptime; mount -t tmpfs tmpfs /sys/devices/system/cpu")
    assert outcomes(hook.by_hand("attach", running.pid)[0]) == {"attached"}
    assert running.kinds("proc/uptime") == ["proc", "proc", "fuse.procview"]
    assert running.kinds(CPU) == ["tmpfs", "sysfs", "fuse.procview"]
    assert outcomes(hook.by_hand("attach", running.pid)[0]) == {"already attached"}
    (answer,) = hook.by_hand("detach", running.pid)
    assert outcomes(answer) == {"detached"}
    assert [entry.root for entry in running.at("proc/uptime")] == ["/version"]
    assert running.kinds(CPU) == ["tmpfs"]
    (answer,) = hook.by_hand("detach", running.pid)
    assert outcomes(answer) == {"not attached"}
    assert skeleton.names()


def test_something_foreign_on_top_is_left_alone_and_told(running: Prepared, hook: HookProcess) -> None:
    hook.by_hand("attach", running.pid)
    running.do("mount --bind /proc/version /proc/uptime")
    (answer,) = hook.by_hand("detach", running.pid, status=1)
    assert answer["files"] == dict.fromkeys(NAMES, "detached") | {
        "proc/uptime": "failed: a foreign mount (proc) is over it"
    }
    assert [entry.root for entry in running.at("proc/uptime")] == ["/uptime", "/version"]


def test_views_are_found_and_taken_away_when_the_slots_are_gone(
    place: Place, running: Prepared, hook: HookProcess, skeleton: Skeleton
) -> None:
    daemon = place.start()
    hook.by_hand("attach", running.pid)
    running.do("mount --make-rprivate /")
    daemon.stop()
    withdraw(skeleton)
    skeleton.remove()
    assert running.kinds("proc/uptime") == ["proc", "fuse.procview"]
    (answer,) = hook.by_hand("detach", running.pid)
    assert outcomes(answer) == {"detached"}
    assert "fuse.procview" not in {entry.fs_type for entry in running.table()}
    (answer,) = hook.by_hand("attach", running.pid, status=1)
    assert "procview has not run" in answer["error"]


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("umount /proc; mount -t tmpfs tmpfs /proc; : > /proc/meminfo", "its /proc is not a procfs"),
        ("umount /proc; rmdir /proc; ln -s old /proc", "Too many levels of symbolic links"),
        ("mount -t tmpfs tmpfs /proc; ln -s / /proc/meminfo", "its /proc is not a procfs"),
        ("mount --bind /proc/sys /proc", "its /proc is not a procfs"),
    ],
)
def test_a_container_that_sets_a_trap_is_refused(script: str, said: str, running: Prepared, hook: HookProcess) -> None:
    running.do(f"mkdir -p /run; mount --bind /usr /run 2>/dev/null || true; {script}")
    before, on_host = running.table(), host_table()
    (answer,) = hook.by_hand("attach", running.pid, status=1)
    assert said in answer["error"]
    assert running.table() == before
    assert host_table() == on_host
