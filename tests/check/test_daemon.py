"""What is said of a daemon that has a lock but no mount, or an odd one: real locks and mounts, made by the test."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from procview.check import daemon
from procview.check.daemon import State
from procview.check.findings import Severity
from procview.lock import held
from procview.mount_namespace import VARIABLE
from procview.mounts import detach, mount, mount_table
from tests.daemon.process import Place, eventually, needs_mount, place
from tests.session import new_directory, remove_directory

__all__ = ["place"]


@pytest.fixture
def run() -> Iterator[Path]:
    directory = new_directory()
    (directory / "fs").mkdir()
    try:
        yield directory
    finally:
        remove_directory(directory)


def look(run: Path) -> daemon.Service:
    return daemon.look(f"{run}/lock", f"{run}/fs", mount_table())


def test_without_a_lock_file_nothing_runs(run: Path) -> None:
    service = look(run)
    assert (service.state, service.finding.severity) == (State.DEAD, Severity.CRITICAL)
    assert service.finding.text == "not running"


def test_a_lock_file_that_nobody_holds_was_left_by_a_dead_daemon(run: Path) -> None:
    (run / "lock").write_text(f"{os.getpid()}\n")
    service = look(run)
    assert service.state is State.DEAD
    assert service.finding.text == "dead: it ended without cleaning up"


def test_a_young_process_without_a_mount_is_starting(run: Path) -> None:
    pid = os.fork()
    if pid == 0:
        os.read(os.pipe()[0], 1)
        os._exit(0)
    try:
        with held(f"{run}/lock"):
            (run / "lock").write_text(f"{pid}\n")
            service = look(run)
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
    assert (service.state, service.finding.severity) == (State.STARTING, Severity.WARNING)
    assert f"pid {pid} is starting" in service.finding.text


def test_an_old_process_without_a_mount_is_broken(run: Path) -> None:
    with held(f"{run}/lock"):
        (run / "lock").write_text("1\n")
        service = look(run)
    assert (service.state, service.finding.severity) == (State.BROKEN, Severity.CRITICAL)
    assert service.finding.text == f"pid 1 runs, but nothing is mounted at {run}/fs"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for a mount namespace")
@pytest.mark.parametrize("is_told", [False, True])
def test_one_that_mounts_where_nobody_sees_it_is_told_what_its_unit_lacks(run: Path, is_told: bool) -> None:
    told = [f"{VARIABLE}=/proc/1/ns/mnt"] if is_told else []
    with (
        held(f"{run}/lock"),
        subprocess.Popen(["unshare", "--mount", "env", *told, "sleep", "1000"]) as process,
    ):
        try:
            eventually(lambda: Path(f"/proc/{process.pid}/comm").read_text() == "sleep\n", "the program")
            (run / "lock").write_text(f"{process.pid}\n")
            finding = look(run).finding
        finally:
            process.kill()
    if is_told:
        assert "is starting" in finding.text
    else:
        assert finding.text == f"pid {process.pid} mounts in a mount namespace of its own, where no container sees it"
        assert f"Environment={VARIABLE}=/proc/1/ns/mnt" in (finding.advice or "")


@pytest.mark.parametrize("content", ["", "nonsense", "-1", "99999999999999999999", "1234567890"])
def test_a_holder_that_cannot_be_told_is_not_young(run: Path, content: str) -> None:
    with held(f"{run}/lock"):
        (run / "lock").write_text(content)
        service = look(run)
    assert service.finding.severity in (Severity.CRITICAL, Severity.WARNING)
    assert service.finding.advice


@needs_mount[0]
@needs_mount[1]
def test_something_else_over_the_mount_is_named(place: Place) -> None:
    place.start()
    mount("tmpfs", str(place.mount), "tmpfs", 0)
    try:
        service = daemon.look(f"{place.run_directory}/lock", str(place.mount), mount_table())
    finally:
        detach(str(place.mount))
    assert (service.state, service.device) == (State.BROKEN, None)
    assert f"but tmpfs of tmpfs is mounted over {place.mount}" in service.finding.text
    assert daemon.look(f"{place.run_directory}/lock", str(place.mount), mount_table()).serving
