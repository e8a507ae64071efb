"""The hook beside a daemon that runs, does not run yet, hangs, dies, or comes and goes at every moment."""

import json
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import psutil

from procview.slots.publish import publish, withdraw
from procview.slots.skeleton import Skeleton
from tests.daemon.process import Place, eventually
from tests.hook.conftest import Prepare
from tests.hook.prepared import CPU, HookProcess, Prepared, assert_attached, host_table, state_of, write_config
from tests.timing import patient


def attached(container: Prepared, skeleton: Skeleton, *, views: bool) -> bool:
    try:
        assert_attached(container, skeleton, views=views)
    except AssertionError:
        return False
    return True


def first_uptime(container: Prepared) -> float:
    """The first number of its /proc/uptime."""
    argv = ["nsenter", "-t", str(container.pid), "-m", "-p", "cat", f"{container.rootfs}/proc/uptime"]
    return float(subprocess.check_output(argv, timeout=patient(20)).split()[0])


def test_the_views_of_a_daemon_that_runs_are_there_at_once(
    place: Place, prepare: Prepare, hook: HookProcess, skeleton: Skeleton
) -> None:
    place.start()
    container = prepare()
    before = host_table()
    hook.run(state_of(container))
    assert hook.says() == []
    assert_attached(container, skeleton, views=True)
    assert first_uptime(container) < patient(60)
    assert host_table() == before
    hook.run(state_of(container))
    assert hook.says() == []
    assert_attached(container, skeleton, views=True)


def test_views_arrive_when_the_daemon_starts_later_and_go_when_it_stops(
    place: Place, prepare: Prepare, hook: HookProcess, skeleton: Skeleton
) -> None:
    place.start().stop()  # so that all slots are there
    container = prepare()
    hook.run(state_of(container))
    assert_attached(container, skeleton)
    for _ in range(2):
        daemon = place.start()
        assert_attached(container, skeleton, views=True)
        assert first_uptime(container) < patient(60)
        daemon.stop()
        assert_attached(container, skeleton)
    assert hook.says() == []


def test_a_daemon_that_hangs_delays_nothing(
    place: Place, prepare: Prepare, hook: HookProcess, skeleton: Skeleton
) -> None:
    daemon = place.start()
    container = prepare()
    state = state_of(container)
    daemon.process.send_signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        hook.run(state)
        assert time.monotonic() - began < patient(1.5)  # the deadline is 2 s
        assert hook.says() == []
        hook.run(state)
        assert hook.says() == []
        assert_attached(container, skeleton, views=True)
        container.change_root()
        (answer,) = hook.by_hand("detach", container.pid)
        assert set(answer["files"].values()) == {"detached"}
        (answer,) = hook.by_hand("attach", container.pid)
        assert set(answer["files"].values()) == {"attached"}
    finally:
        daemon.process.send_signal(signal.SIGCONT)


def test_the_views_of_a_daemon_that_dies_go_from_where_the_hook_has_put_them(
    place: Place, prepare: Prepare, hook: HookProcess, skeleton: Skeleton
) -> None:
    daemon = place.start()
    container = prepare()
    hook.run(state_of(container))
    assert_attached(container, skeleton, views=True)
    daemon.process.kill()
    eventually(lambda: attached(container, skeleton, views=False), "the host's files")
    hook.run(state_of(container))
    assert hook.says() == []
    assert_attached(container, skeleton)


def test_views_that_come_and_go_meanwhile_are_right_in_the_end(
    place: Place, prepare: Prepare, hook: HookProcess, skeleton: Skeleton
) -> None:
    """Publishing and withdrawing go on without a pause while containers start; then the state must be exact."""
    place.start()
    names = skeleton.names()
    stop = threading.Event()
    turns = 0

    def come_and_go() -> None:
        nonlocal turns
        while not stop.is_set():
            publish(skeleton, str(place.mount))
            if turns % 2:
                withdraw(skeleton)
            turns += 1
            time.sleep(0.002 * (turns % 4))

    thread = threading.Thread(target=come_and_go)
    containers = [prepare() for _ in range(24)]
    states = [state_of(container) for container in containers]
    thread.start()
    try:
        for state in states:
            hook.run(state)
        eventually(lambda: turns > 24, "as many turns")
    finally:
        stop.set()
        thread.join()
    said = hook.says()
    given_up = {name for name in names for line in said if f": {name}: " in line}
    assert not given_up, said
    publish(skeleton, str(place.mount))
    for container in containers:
        assert_attached(container, skeleton, views=True)
    withdraw(skeleton)
    for container in containers:
        assert_attached(container, skeleton)


def test_a_copy_of_the_hosts_namespace_has_slots_that_are_covered_and_they_are_uncovered_there(
    place: Place, prepare: Prepare, hook: HookProcess, skeleton: Skeleton
) -> None:
    """As with podman without root, whose namespace is a copy for all of a session: nobody keeps it in order."""
    place.start().stop()
    container = prepare()
    daemon = place.start()
    covered = [entry for entry in container.table() if entry.ours and f"{place.run_directory}/src/" in entry.path]
    assert len(covered) == len(skeleton.names())
    hook.run(state_of(container, pid=1), prefix=container.inside())
    assert hook.says() == []
    assert_attached(container, skeleton, views=True)
    daemon.stop()
    assert_attached(container, skeleton)


class Nested(Prepared):
    """A container in a pid namespace whose init is one of our own, so that we may look at the namespace it is in.

    The hook is run there by an engine with private mounts of its own: its copy of the slots is of no use.
    """

    SCRIPT = """
        set -e
        mkdir -p "$BUNDLE/rootfs/proc"
        mkfifo "$BUNDLE/ready"
        unshare --mount --propagation slave sh -ec '
            mount --bind "$BUNDLE/rootfs" "$BUNDLE/rootfs"
            mount -t proc proc "$BUNDLE/rootfs/proc"
            echo > "$BUNDLE/ready"
            exec sleep 1000' &
        read _ < "$BUNDLE/ready"
        echo '{"id":"c1","pid":'$!',"bundle":"'$BUNDLE'"}' > "$BUNDLE/state"
        unshare --mount --propagation private "$@" < "$BUNDLE/state"
        echo ready
        wait
    """

    def __init__(self, bundle: Path, argv: list[str]) -> None:
        self.bundle, self.rootfs, self.users = bundle, bundle / "rootfs", False
        unshare = ["unshare", "--pid", "--fork", "--kill-child", "--mount", "--propagation", "slave", "--mount-proc"]
        self._process = subprocess.Popen(
            [*unshare, "sh", "-c", self.SCRIPT, "sh", *argv],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=os.environ | {"BUNDLE": str(bundle)},
        )  # fmt: skip
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"
        eventually(self._programs, "its program")
        (self.pid,) = self._programs()

    def _programs(self) -> list[int]:
        children = psutil.Process(self._process.pid).children(recursive=True)
        return [child.pid for child in children if child.name() == "sleep"]


def test_an_engine_with_private_mounts_of_its_own_gets_the_slots_of_the_hosts_init(
    place: Place, hook: HookProcess, skeleton: Skeleton
) -> None:
    daemon = place.start()
    bundle = place.directory / "nested"
    (bundle / "rootfs").mkdir(parents=True)
    linux = {"rootfsPropagation": "rslave"}
    (bundle / "config.json").write_text(json.dumps({"root": {"path": "rootfs"}, "linux": linux}), encoding="utf-8")
    container = Nested(bundle, hook.argv())
    try:
        assert hook.says() == []
        names = [name for name in skeleton.names() if name.startswith("proc/")]
        assert {tuple(container.kinds(name)) for name in names} == {("proc", "fuse.procview")}
        daemon.stop()
        assert {tuple(container.kinds(name)) for name in names} == {("proc",)}
    finally:
        container.end()


def test_the_slots_of_a_skeleton_that_was_made_anew_replace_the_old_ones(
    place: Place, prepare: Prepare, hook: HookProcess, skeleton: Skeleton
) -> None:
    container = prepare()
    hook.run(state_of(container))
    names = skeleton.names()
    skeleton.remove()
    skeleton.make(names)
    assert not attached(container, skeleton, views=False)
    hook.run(state_of(container))
    assert hook.says() == []
    assert_attached(container, skeleton)
    daemon = place.start()
    hook.run(state_of(container))
    assert_attached(container, skeleton, views=True)
    daemon.stop()
    assert_attached(container, skeleton)


def test_a_view_that_was_bound_by_hand_is_left_under_the_slot_while_it_lives_and_taken_away_once_it_is_dead(
    place: Place, prepare: Prepare, hook: HookProcess, skeleton: Skeleton
) -> None:
    daemon = place.start()
    container = prepare()
    for name in ("proc/uptime", CPU):
        container.do(f'mount --bind "{skeleton.ctl(name)}" "$ROOT/{name}"; mount --make-private "$ROOT/{name}"')
    hook.run(state_of(container))
    assert container.kinds("proc/uptime") == ["fuse.procview", "proc", "fuse.procview"]
    assert container.kinds(CPU) == ["fuse.procview", "sysfs", "fuse.procview"]
    container.do('umount "$ROOT/proc/uptime"; umount "$ROOT/proc/uptime"')
    assert container.kinds("proc/uptime") == ["fuse.procview"]
    daemon.stop()
    hook.run(state_of(container))
    assert hook.says() == []
    assert container.kinds("proc/uptime") == ["proc"]
    assert container.kinds(CPU) == ["fuse.procview", "sysfs"]


def test_what_an_engine_makes_private_afterwards_is_attached_again(
    place: Place, prepare: Prepare, hook: HookProcess, skeleton: Skeleton
) -> None:
    """As crun does after its hooks, unless its configuration says otherwise."""
    place.start().stop()
    container, brief = prepare(), prepare()
    for one in (container, brief):
        state = state_of(one)
        write_config(one, propagation="rprivate")
        hook.run(state)
        assert_attached(one, skeleton)
    brief.end()
    container.change_root("mount --make-rprivate /")
    eventually(lambda: attached(container, skeleton, views=False), "slots that receive something")
    daemon = place.start()
    assert_attached(container, skeleton, views=True)
    daemon.stop()
    assert_attached(container, skeleton)
    assert hook.says() == []
