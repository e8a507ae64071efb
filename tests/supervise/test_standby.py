"""The standby: it is there, waits, is used, and is replaced; and the supervisor that is exchanged for a newer one."""

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from procview import standby
from procview.supervisor.child import pid_of
from tests.daemon.process import eventually
from tests.supervise.process import KEEPER, ROOT, Supervised, has_ended
from tests.timing import patient

Keeper = Callable[..., Supervised]


def test_the_standby_becomes_the_daemon(keeper: Keeper) -> None:
    ours = keeper()
    ours.starts(1)
    waiting = ours.all_warm()[0].pid
    ours.kill_main()
    ours.starts(2)
    assert ours.main() == waiting
    assert ours.warm().pid != waiting, "and there is another one"


def test_a_standby_that_dies_is_replaced(keeper: Keeper) -> None:
    ours = keeper()
    ours.starts(1)
    first, forked = ours.all_warm()
    first.kill()
    ours.says("the standby has ended (SIGKILL); another one in 0 s")
    eventually(lambda: has_ended(forked), "the end of what the first had forked")
    second = ours.warm()
    assert second.pid not in (first.pid, forked.pid)
    second.kill()
    ours.says("another one in 0.1 s")
    ours.warm()
    assert len(ours.lines("starts")) == 1, "the daemon has not noticed"


def test_a_crowd_of_crashes_meets_a_warm_standby_each_time(keeper: Keeper) -> None:
    """Nothing is executed meanwhile, which would take its time: each one that goes was forked, and forks the next."""
    ours = keeper(steady_seconds=0.0, renewal_seconds=600.0)
    ours.starts(1)
    ours.all_warm()
    for count in range(2, 12):
        ours.warm()
        ours.kill_main()
        assert ours.starts(count)[-1][1:3] == [str(count), str(ours.pid)], "the supervisor's child, with what is kept"
    ours.says("(the standby), with 1 descriptors", 10)
    ours.all_warm()  # the last of them is forked
    main, *standbys = ours.children()
    assert {child.ppid() for child in (main, *standbys)} == {ours.pid}
    assert len({os.getsid(child.pid) for child in standbys}) == len(standbys)
    assert not any(child.status() == psutil.STATUS_ZOMBIE for child in (main, *standbys))
    ours.send(signal.SIGTERM)
    assert ours.ends() == 0
    eventually(lambda: all(map(has_ended, standbys)), "the end of those that wait")


def test_one_that_is_forked_makes_way_for_one_that_is_executed(keeper: Keeper) -> None:
    ours = keeper(steady_seconds=0.0, renewal_seconds=patient(3))
    ours.starts(1)
    _, forked = ours.all_warm()
    ours.kill_main()
    ours.starts(2)
    both = ours.all_warm()
    assert forked in both
    eventually(lambda: all(map(has_ended, both)), "their end")
    fresh = ours.warm().pid
    ours.kill_main()
    assert ours.starts(3)[2][:2] == [str(fresh), "3"]


def test_one_that_died_in_the_same_moment_is_done_without(keeper: Keeper) -> None:
    ours = keeper()
    ours.starts(1)
    waiting = ours.warm()
    os.kill(ours.pid, signal.SIGSTOP)
    waiting.kill()
    ours.kill_main()
    os.kill(ours.pid, signal.SIGCONT)
    assert ours.starts(2)[1][1] == "2"


def test_one_that_is_still_importing_is_used_when_it_has(keeper: Keeper) -> None:
    ours = keeper()
    ours.starts(1)
    eventually(lambda: len(ours.children()) >= 2, "a standby")
    ours.kill_main()
    assert ours.starts(2)[1][1] == "2"
    ours.warm()
    assert "(the standby), with 1 descriptors" in ours.said


def test_where_none_is_wanted_there_is_none(keeper: Keeper) -> None:
    ours = keeper(standby=False)
    ours.starts(1)
    ours.kill_main()
    ours.starts(2)
    assert len(ours.children()) == 1


@contextlib.contextmanager
def one_alone() -> Iterator[tuple[socket.socket, "subprocess.Popen[str]"]]:
    """A standby without a supervisor, and its socket: it says what it has got, and ends."""
    code = "from procview.standby import store_when_it_is_time as wait; store = wait(); print(store.inherited('a'))"
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, pass_fds=[its.fileno()], text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                env=os.environ | {standby.VARIABLE: str(its.fileno())}) as process:  # fmt: skip
        its.close()
        yield ours, process


def alone(message: bytes | None, *descriptors: int, warm: bool = True) -> tuple[int, str]:
    """What becomes of a standby that gets this message, when it is ``warm`` or before that; None: the end of its
    supervisor.
    """
    with one_alone() as (ours, process):
        if warm:
            assert ours.recv(100) == standby.WARM
        if message is not None:
            socket.send_fds(ours, [message], descriptors)
        if message is None or not warm:
            ours.close()
        said, _ = process.communicate(timeout=patient(20))
    return process.returncode, said


def test_it_ends_with_its_supervisor() -> None:
    assert alone(None) == (0, "")
    assert alone(None, warm=False) == (0, "")


def test_it_gets_descriptors_under_their_names() -> None:
    status, said = alone(b'{"names": ["a"]}', 0)
    assert (status, said.strip().isdecimal()) == (0, True)
    assert alone(b'{"names": []}') == (0, "None\n")


@pytest.mark.parametrize("goes", [True, False])
def test_it_forks_another_that_has_nothing_of_what_was_handed_over(goes: bool) -> None:
    """And both go on, each by its own socket."""
    other, others = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    reading, writing = os.pipe()
    with other, one_alone() as (ours, process):
        assert ours.recv(100) == standby.WARM
        if goes:
            socket.send_fds(ours, [b'{"names": ["a"], "another": true}'], [writing, others.fileno()])
        else:
            socket.send_fds(ours, [b'{"another": true}'], [others.fileno()])
        others.close()
        os.close(writing)
        other.settimeout(patient(20))
        warm, (pidfd,), _, _ = socket.recv_fds(other, 100, 1)
        assert (warm, pid_of(pidfd) in (0, process.pid)) == (standby.WARM, False)
        if not goes:
            ours.send(b'{"names": []}')
        assert process.wait(patient(20)) == 0
        with open(reading, "rb") as pipe:
            assert pipe.read() == b"", "nobody else has its other end"
        assert other.send(b'{"names": []}')
        said, _ = process.communicate(timeout=patient(20))
        os.close(pidfd)
    assert [line.isdecimal() for line in said.split()] == [goes, False]


def test_it_goes_though_nobody_has_read_that_it_is_warm() -> None:
    """Whoever told it has closed the socket with that in it, which the kernel calls a reset."""
    with one_alone() as (ours, process):
        assert select.select([ours], [], [], patient(20))[0], "it is warm"
        os.kill(process.pid, signal.SIGSTOP)
        ours.send(b'{"names": []}')
        ours.close()
        os.kill(process.pid, signal.SIGCONT)
        said, _ = process.communicate(timeout=patient(20))
    assert (process.returncode, said) == (0, "None\n")


def test_it_goes_though_it_was_told_to_before_it_was_warm() -> None:
    """And whoever told it has closed the socket since: there is nothing more to say."""
    assert alone(b'{"names": []}', warm=False) == (0, "None\n")


@pytest.mark.parametrize(
    "message",
    [
        b"{",
        b"[]",
        b"{}",
        b'{"another": 1}',
        b'{"another": true}',
        b'{"names": ["a"]}',
        b'{"names": 1}',
        b'{"names": [1]}',
        b'{"names": ["a", "b:"]}',
    ],
)
def test_a_message_that_is_odd_is_refused(message: bytes) -> None:
    status, said = alone(message, *([0, 0] if b":" in message else []))
    assert status == 1
    assert "the supervisor's message is not understood" in said


@pytest.mark.parametrize("number", ["", "x", "-1", "99999", "99999999999999999999", "0"])
def test_a_number_that_is_no_socket_is_refused(number: str) -> None:
    code = "from procview.standby import store_when_it_is_time as wait; wait()"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False,
                          stdin=subprocess.DEVNULL, env=os.environ | {standby.VARIABLE: number})  # fmt: skip
    assert f"PROCVIEW_STANDBY={number[:40]} is not the number of a socket" in done.stderr


def test_sighup_exchanges_supervisor_and_daemon_and_keeps_what_is_kept(keeper: Keeper) -> None:
    ours = keeper()
    first = ours.starts(1)[0]
    waiting = ours.all_warm()[0]
    for count in (2, 3):
        ours.send(signal.SIGHUP)
        last = ours.starts(count)[-1]
        assert last[1:] == [str(count), str(ours.pid), first[3]], "the same store, supervisor and address"
        ours.says("is ended: the next one takes over what is kept", count - 1)
    assert not waiting.is_running(), "it was of the old version"
    assert psutil.Process(ours.pid).cmdline()[1:] == ours.command[1:]
    ours.warm()
    ours.kill_main()
    assert ours.starts(4)[3][1] == "4"
    ours.send(signal.SIGTERM)
    assert ours.ends() == 0
    assert ours.lines("signals")[-1] == ["SIGTERM", str(ours.main())]


def test_sighup_without_anything_kept_has_the_daemon_start_its_successor(keeper: Keeper, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    ours = keeper()
    ours.starts(1)
    first = ours.main()
    ours.warm()
    ours.send(signal.SIGHUP)
    ours.starts(2)
    ours.says(f"the daemon is pid {ours.main()}, which has taken over")
    assert [line[0] for line in ours.lines("signals") if line[1] == str(first)][:2] == ["SIGHUP", "SIGUSR2"]


def test_a_version_that_does_not_work_changes_nothing(keeper: Keeper, tmp_path: Path) -> None:
    ours = keeper()
    ours.starts(1)
    waiting = ours.all_warm()[0]
    (tmp_path / "broken").touch()
    ours.send(signal.SIGHUP)
    ours.says("what is installed now does not work (status 1); nothing is exchanged")
    eventually(lambda: ours.lines("signals"), "the signal to read the configuration again")
    assert ours.lines("signals") == [["SIGHUP", str(ours.main())]]
    assert ours.all_warm()[0].pid == waiting.pid
    (tmp_path / "broken").unlink()
    ours.send(signal.SIGHUP)
    assert ours.starts(2)[1][1] == "2"


def test_a_version_whose_daemon_does_not_start_changes_nothing_either(keeper: Keeper, tmp_path: Path) -> None:
    script = tmp_path / "keeper.sh"
    script.write_text('directory=$1; shift; [ -e "$directory/unusable" ] && exit 3; exec "$@"\n')
    ours = keeper("/bin/sh", str(script), str(tmp_path), *KEEPER, str(tmp_path))
    ours.starts(1)
    ours.warm()
    (tmp_path / "unusable").touch()
    ours.send(signal.SIGHUP)
    ours.says("what is installed now does not start; the old daemon goes on")
    eventually(lambda: ours.lines("signals"), "the signal to read the configuration again")
    assert len(ours.lines("starts")) == 1
    (tmp_path / "unusable").unlink()
    ours.warm()
    ours.kill_main()
    assert ours.starts(2)[1][1] == "2"


def test_many_at_once_are_few_exchanges(keeper: Keeper) -> None:
    ours = keeper()
    ours.starts(1)
    for _ in range(20):
        ours.send(signal.SIGHUP)
    ours.starts(2)

    def over() -> bool:
        """No exchange has begun for a second: a daemon that is just starting would die of SIGTERM."""
        before = ours.lines("starts")
        time.sleep(1)
        return ours.lines("starts") == before and len(ours.waiting()) >= 1

    eventually(over, "the end of all exchanges")
    assert len(ours.lines("starts")) <= 4
    ours.send(signal.SIGTERM)
    assert ours.ends() == 0
