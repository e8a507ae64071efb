"""Real callers that come again: what is remembered of one must never be believed of another, nor outlast a change.

What an engine says that has seen a caller before is held against what a new one says.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.containers.cgroups import Cgroup, layout
from tests.fast.test_cgroups import cgroup, host_total_mib, process, total_mib
from tests.session import new_name

pytest.importorskip("procview._fast.engine", reason="the engine is not built")
from procview._fast.engine import Engine

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make cgroups"),
    pytest.mark.skipif(layout() == "none", reason="no cgroup file system is mounted here"),
]
MOST_KEPT = 2048
TIMES = 4
"""A caller is kept from its second open on."""
CLONE_NEWPID = 0x20000000


@pytest.fixture(params=["anew", "watched"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """One that reads anew where a caller is, and one that is told by the kernel when that may have changed."""
    made = Engine()
    if request.param == "watched":
        watched(made)
    yield made
    made.close()


def watched(engine: Engine) -> None:
    try:
        engine.watch_changes()
    except OSError as error:
        pytest.skip(f"this kernel does not tell what is written to cgroups: {error.strerror}")


def seen(engine: Engine, tid: int) -> tuple[int, str | None]:
    view = engine.open(tid, "proc/meminfo")
    return total_mib(view), view.fallback


def seen_anew(tid: int) -> tuple[int, str | None]:
    engine = Engine()
    try:
        return seen(engine, tid)
    finally:
        engine.close()


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def move(tid: int, to: Cgroup) -> None:
    for file in to.entry_files():
        Path(file).write_text(str(tid))


@contextlib.contextmanager
def container(inside: Cgroup, *argv: str) -> Iterator[int]:
    """The init of a new pid namespace in the cgroup: its number on the host."""
    with process(inside, "unshare", "--pid", "--fork", "--kill-child", *argv) as outer:
        children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children")
        until(lambda: children.read_text())
        init = int(children.read_text())
        until(lambda: Path(f"/proc/{init}/comm").read_text().strip() != "unshare")
        yield init


@contextlib.contextmanager
def python(inside: Cgroup, program: str, *argv: str) -> Iterator[subprocess.Popen[str]]:
    """A program that has said that it is up: only then it is surely in the cgroup."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with process(inside, sys.executable, "-c", program, *argv, **pipes) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        with child.stdin:
            assert child.stdout.readline() == "up\n"
            yield child


def test_a_caller_that_is_moved_is_seen_where_it_is(engine: Engine) -> None:
    """Each open, in a container and on the host, init and others."""
    loop = ("sh", "-c", "sleep 100 & wait")
    with (
        cgroup(new_name(), 100) as first,
        cgroup(new_name(), 200) as second,
        process(first, "sleep", "100") as on_host,
        container(first, *loop) as init,
    ):
        until(lambda: Path(f"/proc/{init}/task/{init}/children").read_text())
        other = int(Path(f"/proc/{init}/task/{init}/children").read_text())
        for tid in (on_host.pid, other, init):
            for limit, place in ((100, first), (200, second)) * 5:
                move(tid, place)
                for _ in range(TIMES):
                    assert seen(engine, tid) == (limit, None) == seen_anew(tid)


def test_all_of_a_container_is_moved(engine: Engine) -> None:
    """What is remembered of a caller's cgroup goes with that of init."""
    name = new_name()
    with (
        cgroup(name, 100) as first,
        cgroup(new_name(), 200) as second,
        container(first, "sh", "-c", "sleep 100 & wait") as init,
    ):
        until(lambda: Path(f"/proc/{init}/task/{init}/children").read_text())
        other = int(Path(f"/proc/{init}/task/{init}/children").read_text())
        below = Cgroup.create(f"{name}/below")
        try:
            move(other, below)
            for _ in range(TIMES):
                assert seen(engine, other) == (100, None)
            move(init, second)
            for _ in range(TIMES):
                assert seen(engine, other) == (100, None) == seen_anew(other)
            move(other, second)
            for _ in range(TIMES):
                assert seen(engine, other) == (200, None) == seen_anew(other)
        finally:
            below.remove()


class CloneArguments(ctypes.Structure):
    """struct clone_args, linux/sched.h."""

    _fields_ = [
        *((name, ctypes.c_uint64) for name in ("flags", "pidfd", "child_tid", "parent_tid", "exit_signal")),
        *((name, ctypes.c_uint64) for name in ("stack", "stack_size", "tls", "set_tid", "set_tid_size")),
    ]


def child_with_number(wanted: int, inside: Cgroup, *, new_namespace: bool) -> int:
    """A child that sleeps, and has this pid on the host; 0 where the kernel has no clone3 with set_tid (Linux 5.5)."""
    numbers = (ctypes.c_int * 2)(*((1, wanted) if new_namespace else (wanted, 0)))
    arguments = CloneArguments(
        flags=CLONE_NEWPID if new_namespace else 0,
        exit_signal=signal.SIGCHLD,
        set_tid=ctypes.addressof(numbers),
        set_tid_size=2 if new_namespace else 1,
    )
    libc = ctypes.CDLL(None, use_errno=True)
    child = int(libc.syscall(435, ctypes.byref(arguments), ctypes.sizeof(arguments)))
    if child == 0:
        while True:
            signal.pause()
    if child < 0:
        assert ctypes.get_errno() in (errno.ENOSYS, errno.EINVAL, errno.EPERM, errno.EEXIST, errno.E2BIG)
        return 0
    move(child, inside)
    return child


def test_a_number_that_is_another_process_now(engine: Engine) -> None:
    """In another container, on the host, and in a container again."""
    with (
        cgroup(new_name(), 100) as first,
        cgroup(new_name(), 200) as second,
        process(first, "sleep", "100") as child,
    ):
        number = child.pid
        for _ in range(TIMES):
            assert seen(engine, number) == (100, None)
        child.kill()
        child.wait()
        assert seen(engine, number) == (host_total_mib(), "unknown-caller")
        for new_namespace, limit, place in ((True, 200, second), (False, 100, first), (True, 100, first)):
            again = child_with_number(number, place, new_namespace=new_namespace)
            if not again:
                pytest.skip("this kernel does not let a process choose its number, or somebody else has it now")
            try:
                assert again == number
                owner = os.stat(f"/proc/{again}/ns/pid").st_ino
                for _ in range(TIMES):
                    assert seen(engine, number) == (limit, None)
                    assert engine.open(number, "proc/stat").owner == owner
            finally:
                os.kill(again, signal.SIGKILL)
                os.waitpid(again, 0)


EXEC = """
import os, sys, threading
print("up", flush=True)
sys.stdin.readline()
if sys.argv[1] == "thread":
    threading.Thread(target=os.execvp, args=("sleep", ["sleep", "100"])).start()
    threading.Event().wait()
os.execvp("sleep", ["sleep", "100"])
"""


@pytest.mark.parametrize("who", ["leader", "thread"])
def test_a_caller_that_executes_another_program(engine: Engine, who: str) -> None:
    """Where a thread does, it takes over the number of the first one."""
    with (
        cgroup(new_name(), 100) as first,
        cgroup(new_name(), 200) as second,
        python(first, EXEC, who) as child,
    ):
        for _ in range(TIMES):
            assert seen(engine, child.pid) == (100, None)
        assert child.stdin is not None
        child.stdin.write("\n")
        child.stdin.flush()
        until(lambda: Path(f"/proc/{child.pid}/comm").read_text() == "sleep\n")
        assert seen(engine, child.pid) == (100, None)
        move(child.pid, second)
        assert seen(engine, child.pid) == (200, None)


UNSHARE = f"""
import ctypes, subprocess, sys
print("up", flush=True)
sys.stdin.readline()
assert ctypes.CDLL(None).unshare({CLONE_NEWPID}) == 0
print(subprocess.Popen(["sleep", "100"]).pid, flush=True)
sys.stdin.readline()
"""


def test_a_caller_that_unshares_stays_where_it_is(engine: Engine) -> None:
    """Its children live in the new pid namespace, itself does not."""
    with (
        cgroup(new_name(), 100) as inside,
        python(inside, UNSHARE) as child,
    ):
        host = os.stat("/proc/self/ns/pid").st_ino
        for _ in range(TIMES):
            assert engine.open(child.pid, "proc/stat").owner == host
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write("\n")
        child.stdin.flush()
        below = int(child.stdout.readline())
        for _ in range(TIMES):
            assert engine.open(child.pid, "proc/stat").owner == host
            assert engine.open(below, "proc/stat").owner == os.stat(f"/proc/{below}/ns/pid").st_ino != host
        os.kill(below, signal.SIGKILL)


THREADS = """
import sys, threading
count = int(sys.argv[1])
threading.stack_size(1 << 16)
for _ in range(count):
    threading.Thread(target=threading.Event().wait, daemon=True).start()
print("up", flush=True)
sys.stdin.readline()
"""


def test_more_threads_than_are_kept(engine: Engine) -> None:
    """Each is right, again and again; descriptors are bounded, and go with the engine."""
    before = len(os.listdir("/proc/self/fd"))
    with (
        cgroup(new_name(), 300) as inside,
        python(inside, THREADS, "2500") as child,
    ):
        tids = [int(tid) for tid in os.listdir(f"/proc/{child.pid}/task")]
        assert len(tids) > MOST_KEPT
        for _ in range(TIMES):
            for tid in tids:
                assert engine.open(tid, "proc/stat").fallback is None
        assert {seen(engine, tid) for tid in tids} == {(300, None)}
        assert engine.counters()["descriptors"] <= MOST_KEPT + 32
        child.kill()
        child.wait()
        assert {seen(engine, tid) for tid in tids} == {(host_total_mib(), "unknown-caller")}
    engine.close()
    assert len(os.listdir("/proc/self/fd")) <= before


@pytest.mark.skipif(layout() == "v2", reason="a thread has memory of its own cgroup on v1 only")
def test_threads_of_one_process_in_two_cgroups(engine: Engine) -> None:
    with (
        cgroup(new_name(), 100) as first,
        cgroup(new_name(), 200) as second,
        python(first, THREADS, "1") as child,
    ):
        thread = next(int(tid) for tid in os.listdir(f"/proc/{child.pid}/task") if int(tid) != child.pid)
        for place, limit in ((second, 200), (first, 100), (second, 200)):
            for file in place.entry_files():
                if (tasks := Path(file).parent / "tasks").exists():
                    tasks.write_text(str(thread))
            for _ in range(TIMES):
                assert seen(engine, child.pid) == (100, None)
                assert seen(engine, thread) == (limit, None)


def test_a_caller_that_has_ended_and_was_not_waited_for(engine: Engine) -> None:
    """As an engine says that never saw it alive; then it is nobody."""
    with cgroup(new_name(), 100) as inside, process(inside, "sleep", "100") as child:
        for _ in range(TIMES):
            assert seen(engine, child.pid) == (100, None)
        child.kill()
        until(lambda: " Z " in Path(f"/proc/{child.pid}/stat").read_text())
        assert seen(engine, child.pid) == seen_anew(child.pid)
        child.wait()
        assert seen(engine, child.pid) == (host_total_mib(), "unknown-caller")


def test_callers_that_have_gone_are_forgotten_and_others_are_not(engine: Engine) -> None:
    with cgroup(new_name(), 100) as inside, process(inside, "sleep", "100") as stays:
        assert seen(engine, stays.pid) == (100, None)
        assert not engine.callers_were_kept(), "once is not enough"
        for _ in range(TIMES):
            seen(engine, stays.pid)
        assert engine.callers_were_kept()
        assert not engine.callers_were_kept(), "said once"
        before = engine.counters()["descriptors"]
        for _ in range(5):
            with process(inside, "sleep", "100") as goes:
                for _ in range(TIMES):
                    seen(engine, goes.pid)
        assert engine.counters()["descriptors"] == before + 5
        assert engine.forget_gone_callers()
        assert engine.counters()["descriptors"] == before
        assert not engine.forget_gone_callers(), "nobody has come since"
        assert seen(engine, stays.pid) == (100, None)


def test_callers_that_come_and_go_under_several_threads(engine: Engine) -> None:
    """Each is in its own cgroup, or gone."""
    wrong: list[object] = []
    stop = threading.Event()
    with cgroup(new_name(), 100) as first, cgroup(new_name(), 200) as second:
        places = (first, second)
        alive: list[int] = [0, 0]

        def live_and_die(which: int) -> None:
            while not stop.is_set():
                with process(places[which], "sleep", "100") as child:
                    alive[which] = child.pid
                    stop.wait(0.02)
                    alive[which] = 0

        def read(which: int) -> None:
            while not stop.is_set():
                tid = alive[which]
                if tid:
                    answer = seen(engine, tid)
                    right = ((which + 1) * 100, None)
                    if answer != right and alive[which] == tid:
                        wrong.append((tid, answer))

        jobs = [(live_and_die, 0), (live_and_die, 1), (read, 0), (read, 1), (read, 0), (read, 1)]
        threads = [threading.Thread(target=job, args=(which,)) for job, which in jobs]
        for thread in threads:
            thread.start()
        time.sleep(3)
        stop.set()
        for thread in threads:
            thread.join()
    assert wrong == []
