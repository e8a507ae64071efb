"""The command on a real host: a daemon, its containers and an installation; one thing wrong at a time.

Each run of the command is limited to three seconds (tests/check/host.py).
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from procview.check.containers import read_view
from procview.mounts import MountEntry, detach, mount_table
from procview.slots.containers import Container, mounts_of, stack
from procview.slots.publish import withdraw
from tests.check.host import Done, Host, check, wait_for_withdrawal
from tests.daemon.process import eventually, needs_mount
from tests.timing import patient

pytestmark = needs_mount


def test_a_healthy_host_is_ok(host: Host) -> None:
    host.install("podman")
    host.start()
    host.attached(3)
    done = host.check()
    assert done.status == 0, done.output
    assert done.first.startswith("PROCVIEW OK - the daemon serves; 3 containers with views | running=3 attached=3 ")
    assert done.lines("OK", "3 containers: views in place and answered")
    assert "->" not in done.output


def test_a_host_without_containers_is_ok(host: Host) -> None:
    host.start()
    done = host.check()
    assert done.status == 0, done.output
    assert done.first.startswith("PROCVIEW OK - the daemon serves; no containers | running=0 attached=0 ")


def test_a_dead_daemon_is_critical_and_its_containers_are_named(host: Host) -> None:
    daemon = host.start()
    host.attached(2)
    daemon.process.kill()
    daemon.process.wait()
    wait_for_withdrawal(host)
    done = host.check()
    assert done.status == 2
    assert done.first.startswith("PROCVIEW CRITICAL - daemon: dead")
    assert "2 containers: the host's values: the daemon is dead" in done.first
    assert len(done.lines("WARNING", host.name, "the host's values")) == 2
    assert done.lines("-> systemctl start procview")


def test_a_daemon_that_was_stopped_is_critical(host: Host) -> None:
    host.start().stop()
    done = host.check()
    assert done.status == 2
    assert done.first.startswith("PROCVIEW CRITICAL - daemon: not running")


def test_views_that_a_dead_daemon_left_are_critical(host: Host) -> None:
    daemon = host.start()
    host.attached()
    host.hang(daemon)
    daemon.process.kill()
    daemon.process.wait()
    done = host.check()
    assert done.status == 2
    assert done.lines("CRITICAL", "slots: stale views, whose readers get errors: all ")
    assert done.lines("CRITICAL", host.name, "views are still up, reads fail: the daemon is dead")
    assert done.lines("-> procview withdraw")


def test_a_daemon_that_hangs_is_critical_from_the_first_moment_on(host: Host) -> None:
    daemon = host.start()
    host.attached()
    daemon.process.send_signal(signal.SIGSTOP)
    at_once = host.check()
    wait_for_withdrawal(host)
    daemon.ends()
    later = host.check()
    assert at_once.status == later.status == 2
    assert at_once.first.startswith(f"PROCVIEW CRITICAL - daemon: hanging: pid {daemon.process.pid} (stopped by a sig")
    assert at_once.lines("-> systemctl restart procview")
    # Its guard has killed it.
    assert later.first.startswith("PROCVIEW CRITICAL - daemon: dead")
    assert later.lines("WARNING", host.name, "the host's values: the daemon is dead")


def test_a_hanging_daemon_whose_views_nobody_took_away_is_told_with_those_who_wait(host: Host) -> None:
    daemon = host.start()
    host.attached()
    host.hang(daemon)
    done = host.check()
    assert done.status == 2
    assert "daemon: hanging" in done.first
    assert done.lines("CRITICAL", "slots: views are up although the daemon hangs, and readers wait: all ")
    assert done.lines("CRITICAL", host.name, "views are still up, reads hang: the daemon hangs")
    assert done.lines("-> procview withdraw --run-directory")
    subprocess.run([sys.executable, "-m", "procview", "withdraw", "--run-directory", str(host.place.run_directory)],
                   check=True, stdout=subprocess.DEVNULL, timeout=patient(10))  # fmt: skip
    done = host.check()
    assert done.lines("OK", "slots: ")
    assert done.lines("WARNING", host.name, "the host's values: the daemon hangs")


def test_readers_that_wait_for_a_hanging_daemon_are_counted(host: Host) -> None:
    daemon = host.start()
    host.hang(daemon)
    reader = subprocess.Popen(["cat", f"{host.place.mount}/proc/uptime"], stdout=subprocess.DEVNULL)
    try:
        wait = Path(f"/proc/{reader.pid}/wchan")
        eventually(lambda: "fuse" in wait.read_text() or "request_wait" in wait.read_text(), "its wait for an answer")
        seen: list[Done] = []

        def only_the_reader_waits() -> bool:
            """And no child of an earlier look, which was killed when it had no answer."""
            seen[:] = [host.check()]
            return bool(seen[0].lines("CRITICAL", "connection: wedged: 1 requests wait for the daemon"))

        eventually(only_the_reader_waits, "the reader alone")
        assert seen[0].lines("-> procview withdraw --run-directory", "ends this connection, and no other")
    finally:
        reader.kill()
        reader.wait()
        daemon.process.kill()


def test_a_connection_that_is_served_is_ok(host: Host) -> None:
    host.start()
    # The release of a file that the look itself had open may be on its way.
    idle = "connection: 0 requests wait for the daemon"
    eventually(lambda: host.check().lines("OK", idle), "an idle connection")


def test_one_detached_container_is_a_warning_that_names_it(host: Host) -> None:
    host.start()
    first, *_ = host.attached(2)
    host.detach([first])
    done = host.check()
    assert done.status == 1
    title = f"container {host.name} (pid {first.pid})"
    assert done.first.startswith(f"PROCVIEW WARNING - {title}: no views | running=2 attached=1 ")
    # Two have this name here, so that advice goes by the pid.
    assert done.lines(f"-> procview attach --pid {first.pid} --run-directory {host.place.run_directory} --config ")
    host.attach([first])
    assert host.check().status == 0


def test_a_stale_slot_is_critical(host: Host) -> None:
    daemon = host.start()
    (container,) = host.attached()
    daemon.stop()
    host.skeleton.remove()
    host.start()
    done = host.check()
    assert done.status == 2
    assert done.first.startswith(
        f"PROCVIEW CRITICAL - container {host.name} (pid {container.pid}): stale mounts, reads may fail: "
    )
    assert done.lines(f"-> procview detach {host.name} ", f"; then procview attach {host.name} ")
    host.detach([container])
    host.attach([container])
    assert host.check().status == 0


def test_a_missing_hook_is_critical_and_names_who_calls_it(host: Host) -> None:
    site = host.install("podman")
    host.start()
    assert host.check().status == 0
    os.unlink(site.hook)
    done = host.check()
    assert done.status == 2
    assert done.first.startswith(f"PROCVIEW CRITICAL - hook: {site.hook} is missing")
    assert done.lines("called by", "hooks.d/procview.json")
    assert done.lines("->", "procview install ", f" --prefix {host.prefix}")


def test_one_view_too_few_is_critical(host: Host) -> None:
    host.start()
    detach(host.skeleton.ctl("proc/uptime"))
    done = host.check()
    assert done.status == 2
    assert done.lines("CRITICAL", "slots: without a view, so that containers see the host's values: proc/uptime")


def test_a_view_that_did_not_come_over_a_slot_is_a_warning(host: Host) -> None:
    host.start()
    (container,) = host.attached()
    detach_inside(container.pid, "/proc/uptime")
    done = host.check()
    assert done.status == 1
    assert f"(pid {container.pid}): the host's values, as no view is over the slots: proc/uptime" in done.first
    host.attach([container])
    assert host.check().status == 0


def test_views_bound_without_slots_are_a_warning(host: Host) -> None:
    host.start()
    (container,) = host.containers()
    for name in host.skeleton.names():
        inside(container.pid, "mount", "--bind", f"{host.place.mount}/{name}", f"/{name}")
    done = host.check()
    assert done.status == 1
    assert "views bound without slots, reads fail once the daemon goes: all " in done.first
    assert done.lines("-> procview attach")


def test_something_else_over_a_file_is_a_warning_that_can_be_ignored(host: Host) -> None:
    host.start()
    (container,) = host.attached()
    inside(container.pid, "mount", "--bind", "/dev/null", "/proc/uptime")
    done = host.check()
    assert done.status == 1
    assert f"(pid {container.pid}): mounts of something else: proc/uptime" in done.first
    done = host.check("--ignore", f"{host.name[:-1]}?")
    assert done.status == 0
    assert "ignored=" in done.first
    assert "running=0 " in done.first


def test_links_in_a_container_lead_nowhere(host: Host) -> None:
    """Its /proc is replaced by a link to the host's own; what is read is its view or nothing."""
    host.start()
    (container,) = host.attached()
    view = stack(mounts_of(container), "/proc/meminfo")[-1]
    assert read_view(container.pid, view.mount_id) == ""
    with pytest.raises(ValueError, match="just changed"):
        read_view(container.pid, view.mount_id + 1)
    inside(container.pid, "sh", "-c", "mount -t tmpfs tmpfs /mnt && ln -s /proc /mnt/proc && mount --move /mnt /tmp")
    inside(container.pid, "mount", "-t", "tmpfs", "tmpfs", "/proc")
    inside(container.pid, "ln", "-s", "/etc/hostname", "/proc/meminfo")
    with pytest.raises((OSError, ValueError)):
        read_view(container.pid, view.mount_id)
    assert host.check().status == 0, "a container without a /proc has no place for views"


def test_a_sandbox_with_the_hosts_mounts_is_no_container(host: Host) -> None:
    host.start()
    process = subprocess.Popen(["unshare", "--kill-child", "-p", "-f", "sleep", "1000"])
    try:
        assert host.check().first.startswith("PROCVIEW OK - the daemon serves; no containers")
    finally:
        process.kill()
        process.wait()


def test_a_lost_src_is_critical(host: Host) -> None:
    host.start()
    detach(host.skeleton.src("proc"))
    done = host.check()
    assert done.status == 2
    assert done.lines("CRITICAL", f"slots: nothing is mounted at {host.skeleton.src('proc')}")


def test_withdrawn_views_are_critical_while_the_daemon_serves(host: Host) -> None:
    host.start()
    host.attached()
    withdraw(host.skeleton)
    done = host.check()
    assert done.status == 2
    assert done.lines("CRITICAL", "slots: without a view", "all ")
    assert done.lines("WARNING", host.name, "the host's values, as no view is over the slots: all ")


def test_it_changes_nothing(host: Host) -> None:
    host.install("podman")
    host.start()
    (container,) = host.attached()
    host.containers()
    before = mounts_below(host, container)
    host.check()
    assert mounts_below(host, container) == before


def mounts_below(host: Host, container: Container) -> tuple[list[MountEntry], str]:
    """Those of our own place (other tests may be running), and all of a container."""
    below = [entry for entry in mount_table() if entry.path.startswith(f"{host.place.directory}/")]
    return below, Path(f"/proc/{container.pid}/mountinfo").read_text()


def test_json_has_every_finding_with_what_to_do(host: Host) -> None:
    daemon = host.start()
    host.attached()
    daemon.process.kill()
    daemon.process.wait()
    wait_for_withdrawal(host)
    done = host.check("--json")
    said = json.loads(done.output)
    assert (done.status, said["exit_code"], said["status"]) == (2, 2, "CRITICAL")
    assert said["summary"].startswith("daemon: dead")
    assert said["containers"]["running"] == 1
    subjects = {finding["subject"] for finding in said["findings"]}
    assert {"daemon", "slots", "container", "hook", "kernel"} <= subjects
    assert all(finding["advice"] for finding in said["findings"] if finding["severity"] != "OK")
    assert [finding["name"] for finding in said["findings"] if finding["subject"] == "container"] == [host.name]


@pytest.mark.parametrize("state", ["serving", "hanging", "dead"])
def test_a_hundred_containers_take_no_longer(host: Host, state: str) -> None:
    daemon = host.start()
    host.attached(100)
    if state == "hanging":
        host.hang(daemon)
    elif state == "dead":
        daemon.process.kill()
        daemon.process.wait()
    done = host.check()
    assert "running=100 " in done.first
    assert done.status == (0 if state == "serving" else 2), done.output
    print(f"100 containers, {state}: {done.seconds:.2f} s")


def inside(pid: int, *command: str) -> None:
    subprocess.run(["nsenter", "-t", str(pid), "-m", "-p", *command], check=True, timeout=patient(10))


def detach_inside(pid: int, path: str) -> None:
    inside(pid, "umount", "-l", "-i", path)


def test_without_slots_views_are_where_somebody_bound_them(host: Host) -> None:
    host.place.config.write_text("slots = false\n")
    daemon = host.start()
    with_a_view, _ = host.containers(2)
    inside(with_a_view.pid, "mount", "--bind", f"{host.place.mount}/proc/meminfo", "/proc/meminfo")
    done = host.check()
    assert done.status == 0, done.output
    assert "running=2 attached=1 " in done.first
    daemon.stop()
    host.start()
    done = host.check()
    assert done.status == 2
    assert f"(pid {with_a_view.pid}): stale mounts, reads may fail: proc/meminfo" in done.first


# --- The command line ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [["--no-such-option"], ["argument"], ["--prefix", "/"]])
def test_a_wrong_command_line_is_unknown_and_not_critical(arguments: list[str]) -> None:
    done = check(*arguments)
    assert done.status == 3
    assert done.first.startswith("PROCVIEW UNKNOWN - usage: ")
    assert done.lines("-> see procview check --help")


def test_a_wrong_command_line_is_json_if_that_was_asked_for() -> None:
    assert json.loads(check("--json", "--no-such-option").output)["exit_code"] == 3


def test_a_wrong_configuration_is_unknown(tmp_path: Path) -> None:
    (tmp_path / "broken.toml").write_text("cpus = 7\n")
    done = check("--config", str(tmp_path / "broken.toml"))
    assert done.status == 3
    assert done.first.startswith(f"PROCVIEW UNKNOWN - settings: {tmp_path}/broken.toml:1: cpus = 7")


def test_anybody_else_than_root_is_told_so() -> None:
    done = check(user=65534, env=os.environ | {"HOME": "/"})
    assert done.status == 3
    assert done.first == "PROCVIEW UNKNOWN - check: only root can do this"


def test_help_says_the_exit_codes() -> None:
    done = check("--help")
    assert done.status == 0
    assert "0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN" in " ".join(done.output.split())
