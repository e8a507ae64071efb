"""The supervisor: what it keeps, whom it starts again and when, whom it believes, and how it ends."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from procview.supervisor.options import DELAYS_SECONDS
from tests.daemon.process import descriptors, eventually
from tests.supervise.process import ROOT, Supervised, has_ended
from tests.timing import patient

Keeper = Callable[..., Supervised]

WATCHDOG_SECONDS = patient(2)
"""Three times as long as what feeds it sleeps: no busy machine shall take its place."""


@pytest.mark.parametrize("standby", [True, False])
def test_what_a_killed_daemon_kept_is_found_by_the_next_one(keeper: Keeper, standby: bool) -> None:
    ours = keeper(standby=standby, steady_seconds=0.0)
    for number in range(1, 5):
        *_, (_, found, parent, _) = ours.starts(number)
        assert (int(found), int(parent)) == (number, ours.pid)
        if standby:
            ours.warm()
        ours.kill_main()
    ours.starts(5)
    how = "the standby" if standby else "started"
    ours.says(f"({how}), with 1 descriptors kept for it", 4)
    assert ours.said.count(f"({how}), with 1 descriptors kept for it") == 4


def test_it_is_started_at_once_and_then_later_and_later(keeper: Keeper, tmp_path: Path) -> None:
    (tmp_path / "crash").touch()
    ours = keeper()
    begun, starts = time.monotonic(), 0
    while True:
        now = len(ours.lines("starts"))
        if time.monotonic() > begun + 3:  # it was not read in time
            break
        starts = now
        time.sleep(0.05)
    # At once, and after 0, 0.1, 0.2, 0.4 and 0.8 s, each with the start of an interpreter; 1.6 s are too much.
    assert starts <= 6, ours.said
    starts = len(ours.starts(max(3, starts)))
    (tmp_path / "crash").unlink()
    ours.starts(starts + 1)
    assert "started again at once" in ours.said
    assert f"started again in {DELAYS_SECONDS[1]:g} s" in ours.said


@pytest.mark.slow
def test_a_hundred_crashes_in_ten_seconds_do_not_burn_the_processor(keeper: Keeper) -> None:
    """Each that starts is killed at once: there are fewer than a dozen to be killed, and then it serves."""
    ours = keeper()
    killed = 0
    until = time.monotonic() + 10
    while time.monotonic() < until:
        for line in ours.lines("starts")[killed:]:
            os.kill(int(line[0]), signal.SIGKILL)
            killed += 1
        time.sleep(0.1)
    assert 4 <= killed <= len(DELAYS_SECONDS) + 1
    own = sum(psutil.Process(ours.pid).cpu_times()[:4])
    assert own < patient(3), "with its children's"
    ours.starts(killed + 1)
    assert ours.lines("starts")[-1][1] == str(killed + 1), "and nothing that was kept is lost"


def test_what_no_daemon_can_use_is_not_kept_for_ever(keeper: Keeper, tmp_path: Path) -> None:
    ours = keeper(useless_seconds=0.5, standby=False)
    ours.starts(1)
    (tmp_path / "crash").touch()
    ours.kill_main()
    ours.says("no daemon has served for 0.5 s: 1 descriptors are no longer kept")
    (tmp_path / "crash").unlink()
    eventually(lambda: len(ours.lines("starts")[-1]) > 1 and ours.lines("starts")[-1][0] != ours.lines("starts")[0][0],
               "one that serves")  # fmt: skip
    assert ours.lines("starts")[-1][1] == "1"


def test_one_that_has_served_long_enough_is_started_at_once_again(keeper: Keeper) -> None:
    ours = keeper(steady_seconds=0.1, standby=False)
    for number in range(1, 6):
        ours.starts(number)
        time.sleep(2)
        ours.kill_main()
    ours.starts(6)
    assert ours.said.count("started again at once") == 5


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 0), (signal.SIGTERM, 7)])
def test_a_signal_to_end_is_handed_on_and_its_status_is_ours(
    keeper: Keeper, tmp_path: Path, number: signal.Signals, status: int
) -> None:
    (tmp_path / "status").write_text(str(status))
    ours = keeper()
    ours.starts(1)
    ours.warm()
    children = ours.children()
    ours.send(number)
    assert ours.ends() == status
    assert [line[0] for line in ours.lines("signals")] == [number.name]
    assert not any(child.is_running() for child in children)
    assert not list(Path("/run").glob("procview-*"))


def test_a_daemon_that_does_not_end_is_killed(keeper: Keeper, tmp_path: Path) -> None:
    (tmp_path / "stubborn").touch()
    ours = keeper(stop_seconds=0.3)
    ours.starts(1)
    ours.send(signal.SIGTERM)
    assert ours.ends() == 128 + signal.SIGKILL
    assert "does not end: killed" in ours.said


def test_told_to_end_while_it_waits_to_start_the_daemon_it_ends(keeper: Keeper, tmp_path: Path) -> None:
    (tmp_path / "crash").touch()
    ours = keeper()
    ours.says(f"started again in {DELAYS_SECONDS[-2]:g} s")
    ours.send(signal.SIGTERM)
    assert ours.ends() == 0


def test_signals_that_mean_something_to_the_daemon_are_handed_on(keeper: Keeper) -> None:
    ours = keeper()
    ours.starts(1)
    ours.send(signal.SIGUSR1)
    eventually(lambda: ours.lines("signals"), "the signal")
    assert ours.lines("signals") == [["SIGUSR1", str(ours.main())]]


def test_a_successor_is_followed(keeper: Keeper) -> None:
    """It is the daemon's child, not ours, until that one ends."""
    ours = keeper(standby=False)
    ours.starts(1)
    first = ours.main()
    ours.send(signal.SIGUSR2)
    ours.starts(2)
    second = ours.main()
    ours.says(f"the daemon is pid {second}, which has taken over")
    os.kill(first, signal.SIGKILL)
    eventually(lambda: psutil.Process(second).ppid() == ours.pid, "the successor as our child")
    assert len(ours.lines("starts")) == 2, "the end of the old one is no crash"
    os.kill(second, signal.SIGKILL)
    ours.starts(3)
    ours.send(signal.SIGTERM)
    assert ours.ends() == 0


def test_a_successor_that_dies_before_its_parent_is_missed(keeper: Keeper) -> None:
    ours = keeper(standby=False)
    ours.starts(1)
    ours.send(signal.SIGUSR2)
    ours.starts(2)
    ours.says("which has taken over")
    ours.kill_main()
    ours.starts(3)
    assert "its status is not ours to know" in ours.said


def test_one_that_does_not_feed_its_watchdog_is_killed(keeper: Keeper, tmp_path: Path) -> None:
    ours = keeper(watchdog_seconds=WATCHDOG_SECONDS)
    ours.starts(1)
    time.sleep(WATCHDOG_SECONDS * 1.5)
    assert len(ours.lines("starts")) == 1, ours.said
    (tmp_path / "starve").touch()
    ours.says(f"has not fed its watchdog for {WATCHDOG_SECONDS:g} s: killed")
    ours.starts(2)


def test_one_that_is_stopped_is_killed_too(keeper: Keeper) -> None:
    ours = keeper(watchdog_seconds=WATCHDOG_SECONDS)
    ours.starts(1)
    os.kill(ours.main(), signal.SIGSTOP)
    ours.starts(2)


def test_one_that_is_never_ready_is_killed(keeper: Keeper, tmp_path: Path) -> None:
    (tmp_path / "mute").touch()
    ours = keeper(start_seconds=patient(1.0))
    ours.says("is not ready after")
    (tmp_path / "mute").unlink()
    ours.starts(2)


def address(ours: Supervised) -> str:
    return ours.starts(1)[0][3]


STRANGER = """
import os, socket, sys
end = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
for text in (f"MAINPID={os.getpid()}", "STOPPING=1", "FDSTOREREMOVE=1\\nFDNAME=state"):
    end.sendto(text.encode(), sys.argv[1])
fd = os.memfd_create("stranger")
end.sendmsg([b"FDSTORE=1\\nFDNAME=state"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fd.to_bytes(4, sys.byteorder))],
            0, sys.argv[1])
"""


def test_a_stranger_is_not_believed(keeper: Keeper) -> None:
    ours = keeper(standby=False)
    where = address(ours)
    eventually(lambda: any("memfd:state" in name for _, name in descriptors(ours.pid)), "what is kept")
    before = psutil.Process(ours.pid).num_fds()
    subprocess.run([sys.executable, "-c", STRANGER, where], check=True)
    ours.says("which is no daemon of ours: left out", 4)
    eventually(lambda: psutil.Process(ours.pid).num_fds() == before, "nothing of the stranger's is open")
    ours.kill_main()
    assert ours.starts(2)[1][1] == "2", "what was kept is there, and nothing else"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_another_user_does_not_even_reach_it(keeper: Keeper) -> None:
    ours = keeper(standby=False)
    refused = subprocess.run(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", sys.executable, "-c", STRANGER, address(ours)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "PermissionError" in refused.stderr


HOSTILE = """
import os, socket, sys, time
from pathlib import Path
end = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
where = os.environ["NOTIFY_SOCKET"]
def send(text, count=0):
    fds = [os.memfd_create(str(i)) for i in range(count)]
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, b"".join(fd.to_bytes(4, sys.byteorder) for fd in fds))]
    end.sendmsg([text], rights if fds else [], 0, where)
    for fd in fds:
        os.close(fd)
values = os.environ.get("LISTEN_FDS"), os.environ.get("LISTEN_FDNAMES")
Path(sys.argv[1], "starts").open("a").write(f"{os.getpid()} {values[0]} {values[1]}\\n")
if "LISTEN_FDS" not in os.environ:
    for n in range(40):
        send(b"FDSTORE=1\\nFDNAME=n%d" % n, 250)
    for name in (b"", b"a:b", b"a\\tb", b"\\xff", b"x" * 256, b"a\\0b"):
        send(b"FDSTOREREMOVE=1\\nFDNAME=n0")
        send(b"FDSTORE=1\\nFDNAME=" + name, 1)
    send(b"FDSTORE=1\\nFDNAME=two\\nlines=1", 1)
    send(b"FDSTORE=1", 1)
    send(b"\\xff=\\xff\\n=\\n\\n\\n" + b"A=" + b"x" * 60000)
    send(b"X" * 150000)
    for pid in ("0", "-1", "1", "99999999999999999999", "", "self", "\u0663", str(os.getppid())):
        send(b"MAINPID=" + pid.encode())
    send(b"STATUS=" + b"\\xf0\\x9f" * 100)
send(b"READY=1")
time.sleep(1000)
"""


def test_a_hostile_child_gets_what_is_bounded(keeper: Keeper, tmp_path: Path) -> None:
    ours = keeper(sys.executable, "-c", HOSTILE, str(tmp_path), standby=False)
    ours.starts(1)
    ours.says("MAINPID=", 8)
    fds = psutil.Process(ours.pid).num_fds()
    assert fds < 64 + 20, ours.said
    assert ours.said.count("\n") < 40, "lines of one kind are bounded"
    ours.kill_main()
    _, count, names = ours.starts(2)[1]
    # Those named n0 were removed, which left room for the good ones of what came then.
    assert set(names.split(":")) == {"two", "stored"}
    assert int(count) == 2
    ours.send(signal.SIGTERM)
    assert ours.ends() == 128 + signal.SIGTERM


def test_without_fdpoll_0_what_has_an_end_is_closed_with_it(keeper: Keeper, tmp_path: Path) -> None:
    code = """
import os, sys, time
from pathlib import Path
from procview.notify import Notifier
notifier = Notifier.from_environment()
pipes = []
for name, more in (("polled", ()), ("kept", ("FDPOLL=0",))):
    ours, its = os.pipe()
    notifier.send("FDSTORE=1", f"FDNAME={name}", *more, descriptors=[ours])
    pipes.append(os.readlink(f"/proc/self/fd/{ours}"))
    os.close(its)
notifier.send("READY=1")
words = os.getpid(), os.environ.get("LISTEN_FDNAMES"), *pipes
Path(sys.argv[1], "starts").open("a").write(" ".join(map(str, words)) + "\\n")
time.sleep(1000)
"""
    ours = keeper(sys.executable, "-c", code, str(tmp_path), standby=False)
    polled, kept = ours.starts(1)[0][2:]

    def closed() -> bool:
        held = [name for _, name in descriptors(ours.pid)]
        return kept in held and polled not in held

    eventually(closed, "the end of what is polled")
    ours.kill_main()
    assert ours.starts(2)[1][1] == "kept"


def test_its_death_leaves_a_daemon_that_goes_on(keeper: Keeper) -> None:
    ours = keeper(watchdog_seconds=WATCHDOG_SECONDS)
    ours.starts(1)
    main, standby = psutil.Process(ours.main()), ours.warm()
    ours.send(signal.SIGKILL)
    ours.process.wait()
    eventually(lambda: has_ended(standby), "the standby's end")
    ours.says("NOTIFY_SOCKET does not take messages")
    assert main.is_running()
    assert main.status() != psutil.STATUS_ZOMBIE
    time.sleep(WATCHDOG_SECONDS)
    assert ours.said.count("NOTIFY_SOCKET") == 1, "it says so once"
    assert not list(Path("/run").glob("procview-*"))


def test_idle_means_idle(keeper: Keeper) -> None:
    ours = keeper(watchdog_seconds=0)
    ours.starts(1)
    processes = [ours.pid, *(one.pid for one in ours.all_warm())]

    def switches() -> list[int]:
        return [sum(psutil.Process(pid).num_ctx_switches()) for pid in processes]

    def rested() -> bool:
        before = switches()
        time.sleep(0.3)
        sleep = all(psutil.Process(pid).status() == psutil.STATUS_SLEEPING for pid in processes)
        return sleep and switches() == before

    eventually(rested, "rest")
    before = switches()
    time.sleep(patient(2))
    assert switches() == before


def test_it_is_small() -> None:
    code = """
import sys
from procview.supervisor import run
from procview.cli import main
try: main(["supervise", "--trial", "--run-directory", "/nonexistent"])
except SystemExit as end: assert not end.code
print(*sorted({name.partition(".")[0] for name in sys.modules} | {n for n in sys.modules if "_fast" in n}))
"""
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert not {"trio", "pyfuse3", "psutil", "asyncio", "procview._fast"} & set(loaded.split())


def test_under_a_service_manager_it_tells_what_the_daemon_tells(keeper: Keeper, tmp_path: Path) -> None:
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(str(tmp_path / "manager"))
    manager.settimeout(patient(20))
    environment = {
        "NOTIFY_SOCKET": str(tmp_path / "manager"),
        "WATCHDOG_USEC": f"{WATCHDOG_SECONDS * 1e6:.0f}",
        "LISTEN_FDS": "1",
    }
    ours = keeper(environment=environment)
    heard: list[str] = []

    def until(*wanted: str) -> None:
        while not set(wanted) <= set(heard):
            heard.extend(manager.recv(4096).decode().splitlines())

    with manager:
        until("READY=1", "STATUS=number 1", "WATCHDOG=1")
        assert ours.starts(1)[0][3] != str(tmp_path / "manager")
        ours.send(signal.SIGHUP)
        heard.clear()
        until("RELOADING=1", "READY=1", "STATUS=number 2")
        ours.send(signal.SIGTERM)
        until("STOPPING=1")
    assert ours.ends() == 0
