"""The daemon's life: start, refusals, what a crash left, the end; each with real processes and real mounts."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from procview.mounts import top_mount
from tests.daemon.process import Place, eventually, is_mounted, needs_mount
from tests.timing import patient

pytestmark = needs_mount


SLOTS = ["containers", "control", "control.sock", "ctl", "history", "slots", "src"]


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_sigterm_leaves_nothing_but_the_slots(place: Place) -> None:
    daemon = place.start()
    children = psutil.Process(daemon.process.pid).children(recursive=True)
    assert (place.mount / "proc/uptime").read_bytes()
    daemon.stop()
    assert not place.ours()
    assert names(place.directory) == ["log0", "procview.toml", "run"]
    assert names(place.run_directory) == SLOTS
    assert not any(child.is_running() for child in children)
    said = [line for line in daemon.said.splitlines() if "control socket: " not in line]  # which comes when it comes
    assert len(said) == 3, daemon.said


def test_without_slots_nothing_is_left(place: Place) -> None:
    place.config.write_text("slots = false\n")
    daemon = place.start()
    assert place.ours() == [str(place.mount)]
    assert not psutil.Process(daemon.process.pid).children(recursive=True)
    daemon.stop()
    # The folder "run", the mount point and the lock were made by the daemon.
    assert names(place.directory) == ["log0", "procview.toml"]


def test_a_mount_point_that_was_there_stays(place: Place) -> None:
    place.mount.mkdir(parents=True)
    place.start().stop()
    assert list(place.mount.iterdir()) == []
    assert names(place.run_directory) == sorted(["fs", *SLOTS])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_right_at_the_start_leaves_nothing_either(place: Place, number: signal.Signals) -> None:
    daemon = place.start(ready=False)
    eventually(lambda: is_mounted(place.mount), "the mount")
    daemon.process.send_signal(number)
    assert daemon.ends() == 0, daemon.said
    assert names(place.run_directory) == SLOTS
    assert not place.ours()


def test_a_second_instance_is_refused_with_the_pid_of_the_first(place: Place) -> None:
    first = place.start()
    second = place.start(ready=False)
    assert second.ends() == 1
    assert f"another procview (pid {first.process.pid}) serves here" in second.said
    assert (place.mount / "proc/uptime").read_bytes()
    first.stop()


def test_the_same_mount_under_another_name_is_refused_too(place: Place) -> None:
    place.start()
    alias = Place(place.directory / "alias")
    alias.directory.symlink_to(place.directory)
    second = alias.start(ready=False)
    place.started.append(second)
    assert second.ends() == 1
    assert "another procview (pid " in second.said


def slot_count(place: Place) -> int:
    return len((place.run_directory / "slots").read_text(encoding="utf-8").split())


def test_what_a_crash_left_is_cleared(place: Place) -> None:
    place.crash()
    assert is_mounted(place.mount)
    with pytest.raises(OSError):
        (place.mount / "proc/uptime").read_bytes()
    second = place.start()
    assert "removed the mount of a procview that had died" in second.said
    assert f"removed {slot_count(place)} views of a procview that had died" in second.said
    assert (place.mount / "proc/uptime").read_bytes()
    second.stop()
    assert not place.ours()


def test_two_crashes_are_cleared(place: Place) -> None:
    for _ in range(2):
        place.crash()
        (place.run_directory / "lock").unlink()
    place.start().stop()
    assert not place.ours()


def test_a_foreign_mount_is_refused_and_left_alone(place: Place) -> None:
    place.mount.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "procview", place.mount], check=True)
    (place.mount / "precious").touch()
    daemon = place.start(ready=False)
    assert daemon.ends() == 1
    assert "tmpfs of 'procview' is mounted there, which is not procview's" in daemon.said
    assert (place.mount / "precious").exists()
    assert names(place.run_directory) == sorted(["fs", *SLOTS])


def test_a_live_instance_without_its_lock_is_refused(place: Place) -> None:
    place.start()
    (place.run_directory / "lock").unlink()
    second = place.start(ready=False)
    assert second.ends() == 1
    assert "is served by another procview" in second.said
    assert (place.mount / "proc/uptime").read_bytes()


def test_a_mount_over_ours_is_left_alone(place: Place) -> None:
    daemon = place.start()
    subprocess.run(["mount", "-t", "tmpfs", "other", place.mount], check=True)
    daemon.process.send_signal(signal.SIGTERM)
    daemon.ends()
    assert "is mounted over it; left alone" in daemon.said
    entry = top_mount(str(place.mount))
    assert entry is not None
    assert entry.fs_type == "tmpfs"


def test_being_unmounted_by_somebody_else_is_an_error(place: Place) -> None:
    place.config.write_text("slots = false\n")
    daemon = place.start()
    subprocess.run(["umount", place.mount], check=True)
    assert daemon.ends() == 1
    assert "somebody else unmounted it" in daemon.said
    assert not place.run_directory.exists()


def test_containers_keep_their_views_when_somebody_unmounts_the_file_system(place: Place) -> None:
    daemon = place.start()
    subprocess.run(["umount", place.mount], check=True)
    assert len(place.ours()) == slot_count(place)
    assert (place.run_directory / "ctl/proc/uptime").read_bytes()
    daemon.stop()
    assert not place.ours()


def test_a_mount_point_that_cannot_be(place: Place) -> None:
    place.run_directory.mkdir()
    place.mount.touch()
    daemon = place.start(ready=False)
    assert daemon.ends() == 1
    assert f"{place.mount}: is not a directory" in daemon.said
    assert names(place.run_directory) == sorted(["fs", *SLOTS])


def test_it_may_open_as_many_files_as_the_hard_limit_says(place: Place) -> None:
    daemon = place.start()
    soft, hard = psutil.Process(daemon.process.pid).rlimit(psutil.RLIMIT_NOFILE)
    assert soft == hard


def test_idle_means_idle(place: Place) -> None:
    daemon = place.start()
    daemon.says("control socket: ")  # the last thing that comes by itself
    (place.mount / "proc/meminfo").read_bytes()
    status = Path(f"/proc/{daemon.process.pid}/status")

    def switches() -> str:
        return "".join(line for line in status.read_text().splitlines() if "ctxt_switches" in line)

    def settled() -> bool:
        before = switches()
        time.sleep(0.2)
        threads = Path(f"/proc/{daemon.process.pid}/task").glob("*/status")
        sleep = all("\nState:\tS" in thread.read_text() for thread in threads)
        return sleep and switches() == before

    eventually(settled, "the end of the last request")
    before = switches()
    with pytest.raises(subprocess.TimeoutExpired):
        daemon.process.wait(patient(3))
    assert switches() == before


GROUPS = Path("/proc/sys/fs/fanotify/max_user_groups")


def test_where_the_kernel_does_not_tell_of_changes_it_is_said_and_all_is_read(place: Place) -> None:
    before = GROUPS.read_text(encoding="ascii")
    try:
        GROUPS.write_text("0", encoding="ascii")
        daemon = place.start()
    finally:
        GROUPS.write_text(before, encoding="ascii")
    assert "cannot be told of changes: [Errno 24] Too many open files [changes-unwatched]" in daemon.said
    assert (place.mount / "proc/uptime").read_bytes()
    daemon.stop()


def test_sigusr1_logs_counters(place: Place) -> None:
    daemon = place.start()
    (place.mount / "proc/meminfo").read_bytes()
    daemon.process.send_signal(signal.SIGUSR1)
    daemon.says("rss_bytes=")
    assert "fs_open=" in daemon.said
    assert "engine_reads=" in daemon.said
    daemon.stop()


def test_under_the_journal_lines_have_priorities(place: Place) -> None:
    # systemd sets JOURNAL_STREAM to device and inode of the stream that stderr is; here a file plays that part.
    log = place.directory / f"log{len(place.started)}"
    log.touch()
    stat = log.stat()
    daemon = place.start(JOURNAL_STREAM=f"{stat.st_dev}:{stat.st_ino}")
    assert daemon.said.startswith("<6>serving ")
    other = place.start(ready=False, JOURNAL_STREAM="1:1")
    other.ends()
    assert other.said.startswith("procview: ")
    assert os.path.exists(log)


@pytest.mark.parametrize(("hang_seconds", "count"), [(1e-6, 1), (30, 0)])
def test_how_long_a_read_waits_follows_from_the_setting(place: Place, hang_seconds: float, count: int) -> None:
    """The disks of a container come from its /dev, in a thread, which takes longer than two microseconds."""
    place.config.write_text(f"slots = false\nhang_seconds = {hang_seconds:f}\n")
    daemon = place.start()
    path = place.mount / "proc/diskstats"
    subprocess.run(["unshare", "--pid", "--fork", "cat", path], check=True, stdout=subprocess.DEVNULL)
    daemon.process.send_signal(signal.SIGUSR1)
    daemon.says("[vitals]")
    waited_in_vain = re.search(r"fs_fallback_deadline=([0-9]+)", daemon.said)
    assert int(waited_in_vain[1] if waited_in_vain else 0) == count
