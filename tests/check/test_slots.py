"""Slots that are not as they have to be, with real mounts and a daemon that serves."""

import os
from collections.abc import Callable, Iterator

import pytest

from procview.check import slots
from procview.check.commands import Commands
from procview.check.daemon import Service, State
from procview.check.findings import Finding, Severity
from procview.mounts import (
    MS_BIND,
    MS_PRIVATE,
    MS_SHARED,
    clone_tree,
    detach,
    mount,
    mount_table,
    move_mount,
    top_mount,
)
from procview.slots.skeleton import Skeleton
from tests.daemon.process import Place, needs_mount, place

__all__ = ["place"]
pytestmark = needs_mount

FINE = Finding("daemon", Severity.OK, "serves")
CPU = "sys/devices/system/cpu"


@pytest.fixture
def skeleton(place: Place) -> Iterator[Skeleton]:
    place.start()
    yield Skeleton(str(place.run_directory))
    for daemon in place.started:
        daemon.process.kill()


def look(skeleton: Skeleton, state: State = State.SERVING) -> list[Finding]:
    entry = top_mount(f"{skeleton.base}/fs")
    service = Service(state, FINE, entry.device if entry else None)
    return slots.findings(skeleton, service, mount_table(), Commands())


def test_as_the_daemon_makes_them_they_are_ok(skeleton: Skeleton) -> None:
    (finding,) = look(skeleton)
    assert finding.severity is Severity.OK
    assert finding.text == f"{len(skeleton.names())}, with a view of the daemon's over each"


def no_ctl(skeleton: Skeleton) -> None:
    detach(skeleton.ctl("proc"))


def no_src(skeleton: Skeleton) -> None:
    detach(skeleton.src(CPU))


def private_ctl(skeleton: Skeleton) -> None:
    mount("none", skeleton.ctl("proc"), None, MS_PRIVATE)


def src_of_its_own(skeleton: Skeleton) -> None:
    mount("none", skeleton.src("proc"), None, MS_PRIVATE)


def shared_src(skeleton: Skeleton) -> None:
    mount("none", skeleton.src("proc"), None, MS_SHARED)


def covered_src(skeleton: Skeleton) -> None:
    mount(f"{skeleton.base}/fs/proc/stat", skeleton.src("proc/stat"), None, MS_BIND)


def one_view_missing(skeleton: Skeleton) -> None:
    detach(skeleton.ctl(CPU))


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (no_ctl, "nothing is mounted at {base}/ctl/proc"),
        (no_src, "nothing is mounted at {base}/src/sys/devices/system/cpu"),
        (private_ctl, "{base}/ctl/proc is not shared"),
        (src_of_its_own, "{base}/src/proc is not a slave of {base}/ctl/proc"),
        (shared_src, "{base}/src/proc is not a slave of {base}/ctl/proc"),
        (covered_src, "covered in src, so that who binds them gets what no withdrawal reaches: proc/stat"),
        (one_view_missing, "without a view, so that containers see the host's values: sys/devices/system/cpu"),
    ],
)
def test_what_keeps_views_from_containers_is_critical(
    skeleton: Skeleton, harm: Callable[[Skeleton], None], words: str
) -> None:
    harm(skeleton)
    found = look(skeleton)
    assert {finding.severity for finding in found} == {Severity.CRITICAL}
    assert any(words.format(base=skeleton.base) in finding.text for finding in found), found


def test_views_over_one_another_are_a_warning(skeleton: Skeleton) -> None:
    tree = clone_tree(f"{skeleton.base}/fs/proc/stat")
    try:
        move_mount(tree, skeleton.ctl("proc/stat"))
    finally:
        os.close(tree)
    (finding,) = look(skeleton)
    assert finding.severity is Severity.WARNING
    assert finding.text == "several views over one another: proc/stat"


def test_views_of_another_daemon_are_stale(skeleton: Skeleton) -> None:
    service = Service(State.SERVING, FINE, "0:1")
    (finding,) = slots.findings(skeleton, service, mount_table(), Commands())
    assert finding.severity is Severity.CRITICAL
    assert finding.text.startswith("stale views, whose readers get errors: all ")


def test_slots_that_would_show_in_other_places_are_a_warning(skeleton: Skeleton) -> None:
    mount("none", skeleton.base, None, MS_SHARED)
    (finding,) = look(skeleton)
    assert finding.severity is Severity.WARNING
    assert finding.text.startswith(f"{skeleton.base} is no private mount")


@pytest.mark.parametrize(("state", "severity"), [(State.SERVING, Severity.CRITICAL), (State.DEAD, Severity.WARNING)])
def test_no_slots_at_all(place: Place, state: State, severity: Severity) -> None:
    (finding,) = look(Skeleton(str(place.run_directory)), state)
    assert finding.severity is severity
    assert finding.text.startswith("there are none: no ")
