"""A daemon that is shut in: it has a mount namespace of its own, and mounts in ours, where containers receive from."""

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from procview import mount_namespace
from procview.lock import holder
from procview.mounts import mount_table
from procview.slots.publish import published
from procview.slots.skeleton import Skeleton
from tests import lane, session
from tests.containers.served import Daemon, shut_in
from tests.daemon.process import eventually, needs_mount
from tests.timing import patient

pytestmark = needs_mount

OURS = Path("/proc/self/ns/mnt")


@pytest.fixture
def daemon(request: pytest.FixtureRequest) -> Iterator[Daemon]:
    with session.temporary_directory() as directory:
        daemon = Daemon.start(directory, tracer=shut_in(), lane=getattr(request, "param", None))
        yield daemon
        daemon.stop()
        assert not [entry for entry in mount_table() if entry.path.startswith(f"{directory}/")]


def skeleton(daemon: Daemon) -> Skeleton:
    return Skeleton(str(daemon.run_directory))


def views(daemon: Daemon) -> dict[str, str]:
    return published(skeleton(daemon))


def read(daemon: Daemon) -> str:
    return Path(skeleton(daemon).ctl("proc/meminfo")).read_text(encoding="ascii")


def mounts_inside(daemon: Daemon) -> list[str]:
    text = Path(f"/proc/{daemon.process.pid}/mountinfo").read_text(encoding="utf-8")
    return [line for line in text.splitlines() if f" {daemon.run_directory}/" in line]


def guard(pid: int) -> psutil.Process:
    children = psutil.Process(pid).children()
    return next(child for child in children if "procview.guard" in child.cmdline())


@pytest.mark.parametrize("daemon", [lane.DEV, lane.NONE], indirect=True)
def test_its_views_are_in_our_mounts_and_its_threads_are_not(daemon: Daemon) -> None:
    assert "proc/meminfo" in views(daemon)
    assert read(daemon).startswith("MemTotal:")
    threads = {path.readlink() for path in Path(f"/proc/{daemon.process.pid}/task").glob("*/ns/mnt")}
    assert len(threads) == 1
    assert OURS.readlink() not in threads
    guards = Path(f"/proc/{guard(daemon.process.pid).pid}/ns/mnt")
    eventually(lambda: guards.readlink() == OURS.readlink(), "the guard's going where views are")
    daemon.terminate()
    assert views(daemon) == {}


def test_the_guard_takes_its_views_away_when_it_is_killed_and_the_next_one_publishes_its_own(daemon: Daemon) -> None:
    before = views(daemon)
    daemon.kill()
    eventually(lambda: not views(daemon), "the withdrawal")
    assert read(daemon).startswith("MemTotal:")
    daemon.start_again()
    assert views(daemon).keys() == before.keys()
    assert mounts_inside(daemon) == []  # copies that would outlive those in our namespace


def test_a_successor_is_shut_in_as_well_and_takes_over(daemon: Daemon) -> None:
    before = views(daemon)
    daemon.process.send_signal(signal.SIGUSR2)
    daemon.process.wait(patient(30))
    # The successor has the lock only some time after the predecessor has let go.
    eventually(lambda: (owner := holder(f"{daemon.run_directory}/lock")) is not None and owner.pid, "its lock")
    successor = int((daemon.run_directory / "lock").read_text(encoding="ascii"))
    try:
        assert views(daemon).keys() == before.keys()
        assert set(views(daemon).values()).isdisjoint(before.values())
        assert Path(f"/proc/{successor}/ns/mnt").readlink() != OURS.readlink()
        assert read(daemon).startswith("MemTotal:")
        eventually(lambda: psutil.Process(successor).name() and daemon.is_mounted(), "its mount in its place")
    finally:
        os.kill(successor, signal.SIGTERM)
        eventually(lambda: not psutil.pid_exists(successor), "its end")
    assert views(daemon) == {}


def test_what_a_dead_one_left_mounted_is_removed(daemon: Daemon) -> None:
    watching = guard(daemon.process.pid)
    watching.suspend()  # killed first, it would be started again
    daemon.kill()
    watching.kill()
    watching.wait(patient(20))
    assert views(daemon)
    daemon.start_again()
    assert read(daemon).startswith("MemTotal:")
    assert "removed" in daemon.said()


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/proc/self/ns/uts", "not /proc/PID/ns/mnt of a process"),
        ("/proc/1/ns/mnt/..", "not /proc/PID/ns/mnt of a process"),
        ("/proc/4194305/ns/mnt", "cannot be entered: No such file or directory"),
    ],
)
def test_one_that_cannot_go_there_says_what_was_wanted(monkeypatch: pytest.MonkeyPatch, path: str, why: str) -> None:
    monkeypatch.setenv(mount_namespace.VARIABLE, path)
    with (
        session.temporary_directory() as directory,
        pytest.raises(RuntimeError, match=re.escape(f"{mount_namespace.VARIABLE}={path}: {why}")),
    ):
        Daemon.start(directory)


def test_its_own_namespace_is_where_it_is_already() -> None:
    mount_namespace.choose({mount_namespace.VARIABLE: "/proc/self/ns/mnt"})
    assert mount_namespace.chosen() is None
