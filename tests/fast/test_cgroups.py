"""Real cgroups and processes that go away, come back under the same name, or move, under readers."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.containers.cgroups import Cgroup, Limits, layout
from tests.session import environment_with_modules, new_name

pytest.importorskip("procview._fast.engine", reason="the engine is not built")
from procview._fast.engine import Engine, View

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make cgroups"),
    pytest.mark.skipif(layout() == "none", reason="no cgroup file system is mounted here"),
]
MIB = 1 << 20


@contextlib.contextmanager
def cgroup(name: str, memory_mib: int) -> Iterator[Cgroup]:
    made = Cgroup.create(name)
    try:
        made.apply(Limits(memory_bytes=memory_mib * MIB))
        yield made
    finally:
        made.remove()


@contextlib.contextmanager
def process(inside: Cgroup, *argv: str, **options: object) -> Iterator[subprocess.Popen[str]]:
    """A child in the cgroup from its first instruction on; killed afterwards."""
    enter = "; ".join(f"echo $$ > {file}" for file in inside.entry_files())
    child = subprocess.Popen(["sh", "-c", f'{enter}; exec "$@"', "sh", *argv], text=True, **options)  # type: ignore[call-overload]
    try:
        deadline = time.monotonic() + 10
        # not "no longer sh": exec(2) closes the pipe that Popen waits for before it changes the name
        comm = os.path.basename(argv[0])[:15]
        while Path(f"/proc/{child.pid}/comm").read_text().strip() != comm and time.monotonic() < deadline:
            time.sleep(0.005)
        yield child
    finally:
        child.kill()
        child.wait()
        if child.stdout:
            child.stdout.close()


def first_child(pid: int) -> int:
    """Its number, as soon as there is one."""
    deadline = time.monotonic() + 10
    children = ""
    while not children and time.monotonic() < deadline:
        time.sleep(0.01)
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return int(children.split()[0])


def total_mib(view: View) -> int:
    return int(view.render().split()[1]) >> 10


def busy_ticks(view: View) -> int:
    return sum(int(word) for word in view.render().split(b"\n")[0].split()[1:4])


def host_total_mib() -> int:
    return int(Path("/proc/meminfo").read_text().split()[1]) >> 10


@pytest.fixture
def engine() -> Iterator[Engine]:
    made = Engine()
    yield made
    made.close()


def test_a_cgroup_removed_and_made_anew_under_readers(engine: Engine) -> None:
    """Kept descriptors answer ENODEV. While four threads read, each text has the old limit, the new one, or is the
    host's own and counted as such; the first render after the new one is there has it.
    """
    name = new_name()
    texts: set[tuple[int, str | None]] = set()
    stop, opened = threading.Event(), threading.Barrier(5)
    views: list[View] = []

    def read() -> None:
        view = engine.open(pid, "proc/meminfo")
        opened.wait()
        while not stop.is_set():
            texts.add((total_mib(view), view.fallback))

    with cgroup(name, 100) as old, process(old, "sleep", "100") as child:
        pid = child.pid
        views = [engine.open(pid, f"proc/{file}") for file in ("meminfo", "stat", "swaps")]
        for view in views:
            view.render()
        threads = [threading.Thread(target=read) for _ in range(4)]
        for thread in threads:
            thread.start()
        opened.wait()
        time.sleep(0.1)
    for limit in range(101, 121):
        with cgroup(name, limit):
            assert total_mib(views[0]) == limit
            time.sleep(0.005)
    stop.set()
    for thread in threads:
        thread.join()
    limits = {*range(100, 121)}
    # between mkdir and the write of its limit a new cgroup has none: that is the host's total, by right
    assert {text for text in texts if text[0] not in limits} <= {
        (host_total_mib(), "unscopable"),
        (host_total_mib(), None),
    }
    assert texts & {(limit, None) for limit in limits}
    assert total_mib(views[0]) == host_total_mib()
    assert views[0].fallback == "unscopable"


BURN = """
import os, time
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
end = time.process_time() + 0.5
while time.process_time() < end:
    pass
print("burnt", flush=True)
time.sleep(100)
"""


def test_cpu_time_goes_on_in_a_cgroup_made_anew(engine: Engine) -> None:
    """Its counters begin at 0 again: what is shown neither goes back nor stands still until they have caught up."""
    name = new_name()
    with cgroup(name, 100) as first, process(first, sys.executable, "-c", BURN, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "burnt\n"
        view = engine.open(child.pid, "proc/stat")
        before = busy_ticks(view)
        assert before >= 40
    with cgroup(name, 100) as second:
        between = busy_ticks(view)
        assert between >= before
        with process(second, sys.executable, "-c", BURN, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == "burnt\n"
            assert busy_ticks(view) >= between + 40


LEADERLESS = """
import ctypes, os, threading, time
threading.Thread(target=time.sleep, args=(100,)).start()
libc = ctypes.CDLL(None)
libc.syscall(60 if os.uname().machine == "x86_64" else 93, 0)
"""


def test_init_whose_first_thread_has_ended(engine: Engine) -> None:
    """The kernel then shows "/" for its v1 cgroups; its other threads are in the container as before."""
    with (
        cgroup(new_name(), 100) as inside,
        process(inside, "unshare", "--pid", "--fork", "--kill-child", sys.executable, "-c", LEADERLESS) as outer,
    ):
        deadline = time.monotonic() + 10
        init, state = 0, ""
        while state != "Z" and time.monotonic() < deadline:
            time.sleep(0.02)
            with contextlib.suppress(OSError, ValueError):
                init = int(Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text())
                state = Path(f"/proc/{init}/stat").read_text().rsplit(")", 1)[1].split()[0]
        assert state == "Z"
        thread = next(int(tid) for tid in os.listdir(f"/proc/{init}/task") if int(tid) != init)
        assert total_mib(engine.open(thread, "proc/meminfo")) == 100


def test_init_moves_to_another_cgroup(engine: Engine) -> None:
    """The next open sees the new one; a file that was open keeps its identity and does not break."""
    with (
        cgroup(new_name(), 100) as first,
        cgroup(new_name(), 200) as second,
        process(first, "unshare", "--pid", "--fork", "--kill-child", "sleep", "100") as outer,
    ):
        init = first_child(outer.pid)
        assert total_mib(engine.open(init, "proc/meminfo")) == 100
        for file in second.entry_files():
            Path(file).write_text(str(init))
        view = engine.open(init, "proc/meminfo")
        assert total_mib(view) == 200
        second.apply(Limits(memory_bytes=300 * MIB))
        assert total_mib(view) == 300
        before = engine.counters()["containers"]
        outer.kill()
        outer.wait()
        deadline = time.monotonic() + 10
        while engine.open(init, "proc/meminfo").fallback is None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert engine.open(init, "proc/meminfo").fallback == "unknown-caller"
        assert engine.counters()["containers"] <= before
    assert total_mib(view) == host_total_mib()
    assert view.fallback == "unscopable"


def test_init_ends_while_it_is_looked_for(engine: Engine) -> None:
    """From its end until it is reaped v1 shows it at the root; an open file stays with what it was opened for."""
    with cgroup(new_name(), 100) as only:
        for _ in range(20):
            with process(only, "sh", "-c", "exec unshare --pid sh -c 'sleep 100; :'") as outer:
                init = first_child(outer.pid)
                view = engine.open(init, "proc/meminfo")
                assert total_mib(view) == 100
                os.kill(init, signal.SIGKILL)
                deadline = time.monotonic() + 10
                while engine.open(init, "proc/meminfo").fallback is None and time.monotonic() < deadline:
                    pass
                assert (total_mib(view), view.fallback) == (100, None)


EXHAUST = """
import os, resource, sys, threading
from procview._fast.engine import Engine
pid, total = int(sys.argv[1]), int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_NOFILE, (96, 96))
engine = Engine()
stop = threading.Event()
wrong, right = set(), 0
def hog():
    while not stop.is_set():
        held = []
        try:
            while True:
                held.append(os.dup(0))
        except OSError:
            pass
        for fd in held:
            os.close(fd)
def read():
    global right
    for _ in range(3000):
        try:
            view = engine.open(pid, "proc/meminfo")
            text = view.render()
        except OSError:
            continue
        if int(text.split()[1]) >> 10 == total:
            right += 1
        elif view.fallback is None:
            wrong.add(text.split()[1])
hogs = [threading.Thread(target=hog) for _ in range(2)]
readers = [threading.Thread(target=read) for _ in range(4)]
for thread in hogs + readers:
    thread.start()
for thread in readers:
    thread.join()
stop.set()
for thread in hogs:
    thread.join()
assert not wrong, wrong
assert int(engine.open(pid, "proc/meminfo").render().split()[1]) >> 10 == total
print("right" if right else "never right")
"""


def test_out_of_descriptors_is_not_taken_for_absent() -> None:
    """Somebody else in the process takes every descriptor: an error or the host's file, counted, but no limit is left
    out.
    """
    with cgroup(new_name(), 100) as inside, process(inside, "sleep", "100") as child:
        done = subprocess.run(
            [sys.executable, "-c", EXHAUST, str(child.pid), "100"],
            env=environment_with_modules(),
            timeout=60,
            capture_output=True,
            text=True,
        )
        assert (done.stdout, done.stderr) == ("right\n", "")


def test_a_changed_quota_is_in_the_very_next_render(engine: Engine) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("this machine has one CPU: no quota changes what is seen")
    with cgroup(new_name(), 100) as inside, process(inside, "sleep", "100") as child:
        view = engine.open(child.pid, "proc/stat")
        for cpus in (1.0, 2.0, 0.5, 1.5) * 25:
            inside.apply(Limits(cpus=cpus))
            assert view.render().count(b"cpu") == 1 + (1 if cpus <= 1 else 2)


def test_seventy_readers_on_the_host_keep_their_entries() -> None:
    """Each is a container by its own cgroup. The table is swept at 64; their init is the host's, which lives on."""
    with contextlib.ExitStack() as stack:
        pids = [
            stack.enter_context(process(stack.enter_context(cgroup(new_name(), 64)), "sleep", "1000")).pid
            for _ in range(70)
        ]
        engine = Engine()
        views = [engine.open(pid, "proc/meminfo").render() for pid in pids]
        assert {int(view.split()[1]) for view in views} == {64 << 10}
        assert engine.counters()["containers"] == len(pids)
        engine.close()
