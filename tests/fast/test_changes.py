"""What the kernel says of writes to cgroups: nothing that was read before one may be believed after it.

The callers live in pid namespaces of their own, as containers' do.
"""

from __future__ import annotations

import contextlib
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
from tests.fast.test_callers import TIMES, child_with_number, container, move, seen, seen_anew, until, watched
from tests.fast.test_cgroups import cgroup, host_total_mib
from tests.hosts.build import build
from tests.hosts.known import WEB
from tests.hosts.model import Host, Layout
from tests.session import environment_with_modules, new_name
from tests.timing import patient

pytest.importorskip("procview._fast.engine", reason="the engine is not built")
from procview._fast.engine import Engine

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make cgroups"),
    pytest.mark.skipif(layout() == "none", reason="no cgroup file system is mounted here"),
]
LOOP = ("sh", "-c", "sleep 100 & wait")
QUEUE = Path("/proc/sys/fs/fanotify/max_queued_events")


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    made = Engine()
    if getattr(request, "param", "watched") == "watched":
        watched(made)
    yield made
    made.close()


@contextlib.contextmanager
def two(inside: Cgroup) -> Iterator[tuple[int, int]]:
    """The init of a container, and another process of it."""
    with container(inside, *LOOP) as init:
        children = Path(f"/proc/{init}/task/{init}/children")
        until(lambda: children.read_text())
        yield init, int(children.read_text())


def reads_so_far() -> int:
    """System calls of this process that have read something."""
    lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("syscr"))


def known(engine: Engine, *tids: int) -> None:
    """Until nothing is read to know where they are: with one that is young, its mounts are looked at now and then."""
    deadline = time.monotonic() + patient(10)
    for tid in tids:
        before = engine.counters()["unchanged_callers"]
        while engine.counters()["unchanged_callers"] == before:
            assert time.monotonic() < deadline
            engine.open(tid, "proc/stat")


def test_nothing_is_read_while_nothing_changes(engine: Engine) -> None:
    with cgroup(new_name(), 100) as inside, two(inside) as tids:
        known(engine, *tids)
        count = 2000
        before = reads_so_far(), engine.counters()["unchanged_callers"]
        for _ in range(count // 2):
            for tid in tids:
                engine.open(tid, "proc/stat")
        unchanged = engine.counters()["unchanged_callers"] - before[1]
        # Other tests' cgroups may be written to meanwhile, and mounts of a young container are looked at.
        assert unchanged > count // 2
        assert reads_so_far() - before[0] < 20 * (count - unchanged) + 10


@pytest.mark.parametrize("who", [0, 1], ids=["init", "another"])
def test_a_move_is_seen_at_once(engine: Engine, who: int) -> None:
    with (
        cgroup(new_name(), 100) as first,
        cgroup(new_name(), 200) as second,
        two(first) as tids,
    ):
        for limit, place in ((200, second), (100, first)) * 5:
            # Who is not in the cgroup of its init is read anew each time.
            known(engine, *(tids if place == second else tids[:1]))
            move(tids[who], place)
            assert seen(engine, tids[who]) == (limit, None) == seen_anew(tids[who])
            for _ in range(TIMES):
                assert [seen(engine, tid) for tid in tids] == [seen_anew(tid) for tid in tids]


MOUNT = """
set -e
kind=$1 options=$2 tid=$3 where=$4 point=$5
mount -t "$kind" -o "$options" none "$point"
echo "$tid" > "$point$where/cgroup.procs"
"""


def test_a_move_through_another_mount_is_seen_at_once(engine: Engine) -> None:
    """One in another mount namespace, as a privileged container may have."""
    v2 = layout() == "v2"
    kind, options = ("cgroup2", "rw") if v2 else ("cgroup", "memory")
    mount = Path("/sys/fs/cgroup" if v2 else "/sys/fs/cgroup/memory")
    with (
        cgroup(new_name(), 100) as first,
        cgroup(new_name(), 200) as second,
        two(first) as (init, other),
    ):
        known(engine, init, other)
        where = f"/{second.directories['memory'].relative_to(mount)}"
        command = ["unshare", "--mount", "sh", "-c", MOUNT, "sh", kind, options, str(other), where, "/mnt"]
        subprocess.run(command, check=True)
        assert seen(engine, other) == (200, None) == seen_anew(other)


@pytest.mark.skipif(layout() == "v2", reason="a cgroup can be renamed on v1 only")
def test_a_cgroup_that_is_renamed_is_seen_at_once(engine: Engine) -> None:
    with (
        cgroup(new_name(), 100) as first,
        cgroup(new_name(), 200) as second,
        two(first) as tids,
    ):
        known(engine, *tids)
        memory, there = (made.directories["memory"] for made in (first, second))
        aside = memory.with_name(f"{memory.name}-aside")
        memory.rename(aside)
        try:
            # Another cgroup has the name under which theirs was known.
            there.rename(memory)
            assert [seen(engine, tid) for tid in tids] == [(100, None)] * 2 == [seen_anew(tid) for tid in tids]
            memory.rename(there)
        finally:
            aside.rename(memory)
        assert [seen(engine, tid) for tid in tids] == [(100, None)] * 2


def test_a_number_that_is_in_another_container_now(engine: Engine) -> None:
    with cgroup(new_name(), 100) as first, cgroup(new_name(), 200) as second:
        with two(first) as (init, _):
            number = init
            known(engine, number)
        until(lambda: not Path(f"/proc/{number}").exists())
        assert seen(engine, number) == (host_total_mib(), "unknown-caller")
        for limit, place in ((200, second), (100, first), (200, second)):
            again = child_with_number(number, place, new_namespace=True)
            if not again:
                pytest.skip("this kernel does not let a process choose its number, or somebody else has it now")
            try:
                owner = os.stat(f"/proc/{again}/ns/pid").st_ino
                assert seen(engine, number) == (limit, None)
                known(engine, number)
                assert seen(engine, number) == (limit, None)
                assert engine.open(number, "proc/stat").owner == owner
            finally:
                os.kill(again, signal.SIGKILL)
                os.waitpid(again, 0)


@pytest.mark.usefixtures("engine")
def test_more_changes_than_the_kernel_tells_one_by_one() -> None:
    """A queue that has run over says so, once: that is a change, too."""
    before = QUEUE.read_text(encoding="ascii")
    try:
        QUEUE.write_text("2", encoding="ascii")
        narrow = Engine()
        narrow.watch_changes()
    finally:
        QUEUE.write_text(before, encoding="ascii")
    try:
        with (
            cgroup(new_name(), 100) as first,
            cgroup(new_name(), 200) as second,
            two(first) as (init, other),
        ):
            for limit, place in ((200, second), (100, first)) * 3:
                known(narrow, init)
                for _ in range(3):
                    with cgroup(new_name(), 50):
                        pass
                move(other, place)
                assert seen(narrow, other) == (limit, None) == seen_anew(other)
    finally:
        narrow.close()


@contextlib.contextmanager
def reading(step: Callable[[int], None], threads: int = 3) -> Iterator[None]:
    """So many threads do ``step``, each with its own number, again and again until the context is left."""
    stop = threading.Event()

    def read(which: int) -> None:
        while not stop.is_set():
            step(which)

    running = [threading.Thread(target=read, args=(which,)) for which in range(threads)]
    for thread in running:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in running:
            thread.join()


@pytest.mark.parametrize("engine", ["anew", "watched"], indirect=True)
def test_who_has_moved_somebody_sees_it_while_several_threads_read(engine: Engine) -> None:
    """Whatever they find in the queue at that moment, or have read before."""
    opened = [0, 0, 0]
    with (
        cgroup(new_name(), 100) as first,
        cgroup(new_name(), 200) as second,
        two(first) as tids,
    ):

        def step(which: int) -> None:
            for tid in tids:
                engine.open(tid, "proc/stat")
                opened[which] += 1

        with reading(step):
            deadline = time.monotonic() + 5
            moves = 0
            while time.monotonic() < deadline:
                for limit, place in ((200, second), (100, first)):
                    for tid in tids:
                        move(tid, place)
                        assert seen(engine, tid) == (limit, None)
                        moves += 1
        assert moves >= 4
        assert min(opened) >= 4


def test_callers_that_have_gone_leave_no_descriptor(engine: Engine) -> None:
    descriptors = len(os.listdir("/proc/self/fd"))
    with cgroup(new_name(), 100) as inside:
        for _ in range(3):
            with two(inside) as tids:
                known(engine, *tids)
        for tid in tids:
            until(lambda tid=tid: not Path(f"/proc/{tid}").exists())  # type: ignore[misc]
        engine.forget_gone_callers()
    engine.close()
    assert len(os.listdir("/proc/self/fd")) <= descriptors


def test_where_it_cannot_be_watched_is_said(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="watched already"):
        engine.watch_changes()
    recorded = Engine(**build(tmp_path, Layout.V2, Host(), WEB).roots)
    with pytest.raises(OSError, match=os.strerror(errno.ENODEV)):
        recorded.watch_changes()
    recorded.close()


WATCH = """
import os, sys
from procview._fast.engine import Engine
engine = Engine()
if sys.argv[1] == "nobody":
    os.setresuid(65534, 65534, 65534)
try:
    engine.watch_changes()
except OSError as error:
    print(os.strerror(error.errno))
"""


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize(("who", "why"), [("nobody", errno.EPERM), ("covered", errno.ENOENT)])
def test_who_may_not_or_cannot_reach_a_hierarchy_watches_none(who: str, why: int) -> None:
    cover = "mount -t tmpfs none /sys/fs/cgroup && " if who == "covered" else ""
    program = f'{cover}exec "$@"'
    # Not for the programs before it: a sanitizer would look at them as well.
    preloaded = [f"LD_PRELOAD={library}"] if (library := environment_with_modules().get("LD_PRELOAD")) else []
    command = ["unshare", "--mount", "sh", "-c", program, "sh", "env", *preloaded, sys.executable, "-c", WATCH, who]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    assert (result.stdout, result.stderr) == (f"{os.strerror(why)}\n", "")
