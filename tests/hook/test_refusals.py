"""What the hook must not touch: nothing outside of the container's own /proc and /sys, and nothing on the host."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from procview.mounts import MS_BIND, MS_PRIVATE, MS_SHARED, detach, mount
from procview.slots.skeleton import Skeleton
from tests.daemon.process import Place
from tests.hook.conftest import Prepare
from tests.hook.prepared import (
    BOUND,
    NAMES,
    PROCFS,
    SYSFS,
    HookProcess,
    assert_attached,
    host_table,
    in_namespace_of_init,
    state_of,
    write_config,
)


@pytest.fixture
def outside(place: Place) -> Iterator[Path]:
    """A tree with a procfs on the host, shared as systemd makes all of them: what a root could be led to."""
    path = place.directory / "outside"
    (path / "proc").mkdir(parents=True)
    mount(str(path), str(path), None, MS_BIND)
    mount("none", str(path), None, MS_SHARED)
    mount("proc", f"{path}/proc", "proc", 0)
    yield path
    detach(f"{path}/proc")
    detach(str(path))


@pytest.mark.parametrize("propagation", ["private", "slave", "shared", "unchanged"])
def test_nothing_outside_is_mounted_over_when_the_root_is_a_link_that_leads_there(
    propagation: str, outside: Path, prepare: Prepare, hook: HookProcess
) -> None:
    container = prepare(propagation=propagation)
    state = state_of(container)
    (container.bundle / "link").symlink_to(outside)
    write_config(container, "link")
    before = host_table()
    hook.run(state)
    assert host_table() == before
    # In its own namespace the container may mount over whatever it likes; it could have said so without a link.
    assert not any(container.at(name) for name in NAMES)


@pytest.mark.parametrize("target", ["/", "/usr", "/dev/null"])
def test_a_root_that_is_no_mount_of_its_own_is_refused(target: str, prepare: Prepare, hook: HookProcess) -> None:
    container = prepare()
    state = state_of(container)
    (container.bundle / "link").symlink_to(target)
    write_config(container, "link")
    before = container.below_root()
    hook.run(state)
    (line,) = hook.says()
    assert "is not a mount of its own in the container's namespace" in line or "Not a directory" in line
    assert container.below_root() == before


@pytest.mark.skipif(not in_namespace_of_init(), reason="the tests run in a mount namespace that is not init's")
def test_a_container_with_the_hosts_mounts_is_refused(place: Place, hook: HookProcess, outside: Path) -> None:
    """As a sandbox has them, or a virtual machine, whose process is in the host's namespace."""
    with subprocess.Popen(["sleep", "100"]) as process:
        try:
            (place.directory / "config.json").write_text("{}", encoding="utf-8")
            before = host_table()
            state = {"id": "c1", "pid": process.pid, "root": str(outside), "bundle": str(place.directory)}
            hook.run(state)
            assert hook.says() == ["container c1: its mounts are the host's own: this is not a container"]
            hook.run(b"", "--lxc", "c1", "lxc", "mount", env={"LXC_ROOTFS_MOUNT": str(outside)})
            assert hook.says() == ["container c1: its mounts are the host's own: this is not a container"]
            assert host_table() == before
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ([BOUND], "its /proc is not a procfs"),
        ([BOUND, 'rmdir "$ROOT/proc"'], "its /proc is not a procfs"),
        ([BOUND, 'rmdir "$ROOT/proc"; ln -s /proc "$ROOT/proc"'], "Too many levels of symbolic links"),
        ([BOUND, 'rmdir "$ROOT/proc"; : > "$ROOT/proc"'], "its /proc is not a procfs"),
        ([BOUND, 'mount --bind /proc/sys "$ROOT/proc"'], "its /proc is not a procfs"),
        ([BOUND, 'mount -t tmpfs tmpfs "$ROOT/proc"; ln -s /etc/passwd "$ROOT/proc/meminfo"'], "not a procfs"),
        ([BOUND, PROCFS, 'mount -t tmpfs tmpfs "$ROOT/proc"'], "its /proc is not a procfs"),
    ],
)
def test_a_proc_that_is_no_procfs_is_left_alone(
    steps: list[str], said: str, prepare: Prepare, hook: HookProcess
) -> None:
    container = prepare(*steps)
    state = state_of(container)
    before, on_host = container.below_root(), host_table()
    hook.run(state)
    (line,) = hook.says()
    assert said in line
    assert container.below_root() == before
    assert host_table() == on_host


def test_a_file_that_is_not_there_is_a_line_each_and_the_others_go_on(prepare: Prepare, hook: HookProcess) -> None:
    container = prepare(BOUND, 'mount -t proc -o subset=pid proc "$ROOT/proc"', SYSFS)
    hook.run(state_of(container))
    assert hook.says() == [f"container c1: {name}: No such file or directory" for name in NAMES[:-1]]
    assert [len(container.at(name)) for name in NAMES] == [0, 0, 0, 0, 1]


def test_a_file_below_something_foreign_is_not_mounted_over(prepare: Prepare, hook: HookProcess) -> None:
    fake = 'mount -t tmpfs tmpfs "$ROOT/sys/devices"; mkdir -p "$ROOT/sys/devices/system/cpu"'
    container = prepare(BOUND, PROCFS, SYSFS, fake)
    hook.run(state_of(container))
    assert hook.says() == [f"container c1: {NAMES[-1]}: what is there is not the kernel's file"]
    assert [len(container.at(name)) for name in NAMES] == [1, 1, 1, 1, 0]


@pytest.mark.parametrize("propagation", ["private", "slave", "shared"])
def test_nothing_leaks_to_the_host_whatever_the_propagation_of_the_root(
    propagation: str, place: Place, prepare: Prepare, hook: HookProcess, skeleton: Skeleton
) -> None:
    """Its root lies in a mount that is shared with the host; with rshared, so do its procfs and sysfs."""
    bundles = place.directory / "bundle0"
    bundles.mkdir()
    mount(str(bundles), str(bundles), None, MS_BIND)
    mount("none", str(bundles), None, MS_SHARED)
    place.start()
    container = prepare(propagation={"shared": "unchanged"}.get(propagation, propagation))
    state = state_of(container)
    before = host_table()
    assert any(f"{container.rootfs}/proc" in line for line in before) == (propagation == "shared")
    hook.run(state)
    assert hook.says() == []
    assert host_table() == before
    assert_attached(container, skeleton, views=True)


def test_the_hook_takes_no_copy_of_what_receives_nothing(prepare: Prepare, hook: HookProcess) -> None:
    """As crun's createContainer, where all mounts are private: views would stay for ever."""
    container = prepare(propagation="private")
    hook.run(state_of(container, pid=1), prefix=container.inside())
    (line,) = hook.says()
    assert "use the stage prestart or createRuntime" in line
    assert not any(container.at(name) for name in NAMES)


def test_without_slots_the_hook_says_that_procview_has_not_run(
    place: Place, prepare: Prepare, hook: HookProcess
) -> None:
    container = prepare()
    Skeleton(str(place.run_directory)).remove()
    hook.run(state_of(container))
    said = f"container c1: no slots below {place.run_directory}: procview has not run since this machine was booted"
    assert hook.says() == [said]


@pytest.mark.parametrize(
    "text",
    ["/etc/passwd", "proc/../etc/passwd", "proc", "proc/", "etc/passwd", "proc//stat", "proc/./stat", "proc/a\x1bb"],
)
def test_slots_with_impossible_names_are_refused(text: str, place: Place, prepare: Prepare, hook: HookProcess) -> None:
    container = prepare()
    (place.run_directory / "slots").write_text(f"proc/uptime\n{text}\n", encoding="utf-8")
    hook.run(state_of(container))
    (line,) = hook.says()
    assert f"{text!r} is not the name of a slot".replace("\x1b", "\\x1b") in line
    assert not any(container.at(name) for name in NAMES)


def test_a_list_of_slots_without_end_is_refused(place: Place, prepare: Prepare, hook: HookProcess) -> None:
    container = prepare()
    (place.run_directory / "slots").write_text("proc/uptime\n" * 10_000, encoding="utf-8")
    hook.run(state_of(container))
    (line,) = hook.says()
    assert "larger than" in line


def test_half_a_skeleton_is_told(place: Place, prepare: Prepare, hook: HookProcess) -> None:
    container = prepare()
    detach(f"{place.run_directory}/src/proc")
    hook.run(state_of(container))
    (line,) = hook.says()
    assert "are not in sight" in line
    assert "start the engine again" in line
    mount(f"{place.run_directory}/ctl/proc", f"{place.run_directory}/src/proc", None, MS_BIND)
    mount("none", f"{place.run_directory}/src/proc", None, MS_PRIVATE)
    hook.run(state_of(container))
    (line,) = hook.says()
    assert "nothing is sent to the mounts" in line
