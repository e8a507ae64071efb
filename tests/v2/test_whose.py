"""Whose numbers a reader sees, where cgroups and namespaces are not one container each."""

import os
from pathlib import Path

import pytest

from tests.v2.conftest import NewGroup, StartInside
from tests.v2.groups import Group
from tests.v2.inside import MIB, NEW_CONTAINER, Inside, eventually

ONE, OTHER, THIRD = 100 * MIB, 120 * MIB, 140 * MIB

_ROOT_OF_ITS_OWN = (
    *NEW_CONTAINER,
    "--cgroup",
    "sh",
    "-c",
    'umount --lazy /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec "$@"',
    "sh",
)
"""A cgroup namespace, and its part of the tree mounted, in place of the host's, as engines do it."""


def _total(inside: Inside) -> int:
    return inside.meminfo()["MemTotal"] << 10


def _into(inside: Inside) -> tuple[str, ...]:
    """The prefix that enters its pid namespace."""
    return ("nsenter", "--target", str(inside.pid), "--pid")


def _move(inside: Inside, group: Group) -> None:
    """The agent, and who waits for it."""
    for pid in {inside.pid, inside.process.pid}:
        group.move(pid)


# --- A pod -----------------------------------------------------------------------------------------------------------


def test_two_cgroups_in_one_pid_namespace_are_two_containers(new_group: NewGroup, start_inside: StartInside) -> None:
    first = start_inside(new_group(memory_max=ONE))
    second_group = new_group(memory_max=OTHER)
    second = start_inside(second_group, _into(first))
    guest_of_first = start_inside(Group(_group_of(first)), _into(first))
    assert os.stat(f"/proc/{first.pid}/ns/pid").st_ino == os.stat(f"/proc/{second.pid}/ns/pid").st_ino
    assert [_total(first), _total(second), _total(guest_of_first)] == [ONE, OTHER, ONE]
    second.do("end = __import__('time').monotonic() + 2\nwhile __import__('time').monotonic() < end: pass")
    busy = [sum(_cpu(inside)[column] for column in (0, 2)) for inside in (first, second)]
    assert busy[1] - busy[0] > 50


def _group_of(inside: Inside) -> Path:
    path = Path(f"/proc/{inside.pid}/cgroup").read_text(encoding="utf-8").strip().partition("0::/")[2]
    return Path("/sys/fs/cgroup", path)


def _cpu(inside: Inside) -> list[int]:
    return [int(word) for word in inside.read("proc/stat").splitlines()[0].split()[1:]]


def test_siblings_of_a_pod_share_its_limit_and_have_their_own(new_group: NewGroup, start_inside: StartInside) -> None:
    pod = new_group(memory_max=OTHER)
    small, large = pod.make("small"), pod.make("large")
    small.write("memory.max", ONE)
    large.write("memory.max", THIRD)
    first = start_inside(small)
    second = start_inside(large, _into(first))
    assert [_total(first), _total(second)] == [ONE, OTHER]


# --- Moves -----------------------------------------------------------------------------------------------------------


def test_an_init_that_is_moved_takes_its_container_along(new_group: NewGroup, start_inside: StartInside) -> None:
    before, after = new_group(memory_max=ONE), new_group(memory_max=OTHER)
    inside = start_inside(before)
    inside.do("end = __import__('time').monotonic() + 1\nwhile __import__('time').monotonic() < end: pass")
    assert _total(inside) == ONE
    used = _cpu(inside)
    _move(inside, after)
    assert _total(inside) == OTHER
    assert all(new >= old for new, old in zip(_cpu(inside), used, strict=True))  # the new cgroup counts from 0
    before.path.rmdir()
    assert _total(inside) == OTHER


def test_who_stays_behind_when_init_is_moved_is_a_container_by_its_own_cgroup(
    new_group: NewGroup, start_inside: StartInside
) -> None:
    before, after = new_group(memory_max=ONE), new_group(memory_max=OTHER)
    init = start_inside(before)
    other = start_inside(before, _into(init))
    assert [_total(init), _total(other)] == [ONE, ONE]
    _move(init, after)
    assert [_total(init), _total(other)] == [OTHER, ONE]


def test_a_reader_below_the_container_sees_the_container(new_group: NewGroup, start_inside: StartInside) -> None:
    """Init is in init.scope, as systemd's is; a service has a limit of its own, which is not the container's."""
    container = new_group(memory_max=OTHER)
    init = start_inside(container.make("init.scope"))
    service_group = container.make("service")
    service_group.write("memory.max", ONE)
    service = start_inside(service_group, _into(init))
    assert [_total(init), _total(service)] == [OTHER, OTHER]


# --- Cgroup namespaces -----------------------------------------------------------------------------------------------


def test_the_root_of_inits_cgroup_namespace_is_the_container(new_group: NewGroup, start_inside: StartInside) -> None:
    """Wherever below it init went, and whatever limits it has given itself there."""
    container = new_group(memory_max=OTHER)
    inside = start_inside(container, _ROOT_OF_ITS_OWN)
    assert inside.do("result = read('/proc/self/cgroup')") == "0::/\n"
    below = Group(container.path / "payload")
    below.path.mkdir()
    _move(inside, below)
    container.write("cgroup.subtree_control", "+memory")
    below.write("memory.max", ONE)
    assert inside.do("result = read('/proc/self/cgroup')") == "0::/payload\n"
    eventually(lambda: _total(inside) == OTHER, "the namespace's root")
    sibling = container.make("sibling")
    sibling.write("memory.max", ONE)
    reader = start_inside(sibling, _into(inside))
    assert [_total(reader), _total(inside)] == [OTHER, OTHER]


def test_without_a_cgroup_namespace_inits_own_cgroup_is_the_container(
    new_group: NewGroup, start_inside: StartInside
) -> None:
    container = new_group(memory_max=OTHER)
    inside = start_inside(container)
    below = Group(container.path / "payload")
    below.path.mkdir()
    _move(inside, below)
    container.write("cgroup.subtree_control", "+memory")
    below.write("memory.max", ONE)
    assert _total(inside) == ONE


# --- Cgroups that go -------------------------------------------------------------------------------------------------

HOST = ("env",)
"""No namespace at all: a reader in the host's pid namespace is a container by its own cgroup."""


def test_a_reader_whose_cgroup_was_deleted_while_it_had_the_file_open_sees_the_host(
    new_group: NewGroup, start_inside: StartInside
) -> None:
    gone, refuge = new_group(memory_max=ONE), new_group(memory_max=OTHER)
    reader = start_inside(gone, HOST)
    view = str(reader.views / "proc/meminfo")
    reader.do(f"file = open({view!r})\nresult = file.read()")
    again = "file.seek(0); result = int(file.read().split()[1]) << 10"
    assert reader.do(again) == ONE
    reader.do("file.seek(100)")
    _move(reader, refuge)
    assert reader.do(again) == ONE  # the identity is that of the time it was opened
    gone.path.rmdir()
    host = int(Path("/proc/meminfo").read_text(encoding="ascii").split()[1]) << 10
    assert reader.do(again) == host
    assert _total(reader) == OTHER  # opened anew


@pytest.mark.parametrize("prefix", [NEW_CONTAINER, HOST], ids=["container", "host"])
def test_a_cgroup_that_is_made_anew_under_the_same_name_is_another_one(
    new_group: NewGroup, start_inside: StartInside, prefix: tuple[str, ...]
) -> None:
    group, refuge = new_group(memory_max=ONE), new_group()
    inside = start_inside(group, prefix)
    assert _total(inside) == ONE
    _move(inside, refuge)
    group.path.rmdir()
    group.path.mkdir()
    group.write("memory.max", THIRD)
    _move(inside, group)
    assert _total(inside) == THIRD


def test_a_cgroup_whose_controller_is_taken_away_keeps_the_limits_above(
    new_group: NewGroup, start_inside: StartInside
) -> None:
    """Absent is not unlimited: the nearest cgroup above that has the file counts, and usage is the host's."""
    top = new_group(memory_max=OTHER)
    group = top.make("container")
    group.write("memory.max", ONE)
    inside = start_inside(group)
    assert _total(inside) == ONE
    top.write("cgroup.subtree_control", "-memory")
    assert not group.has("memory.max")
    shown = inside.meminfo()
    assert shown["MemTotal"] << 10 == OTHER
    assert 0 < shown["MemFree"] <= shown["MemTotal"]
    top.write("cgroup.subtree_control", "+memory")
    assert _total(inside) == OTHER
    group.write("memory.max", ONE)
    assert _total(inside) == ONE
