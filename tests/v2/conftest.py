"""One daemon for all of them, cgroups and containers by hand, and disks on which nobody can lose anything."""

import contextlib
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from tests import session
from tests.containers import cgroups, engines
from tests.containers.conftest import Start, starter, usable
from tests.containers.rootfs import Rootfs
from tests.containers.served import Daemon, serving
from tests.v2 import disks
from tests.v2.disks import Disk
from tests.v2.groups import ROOT, Group
from tests.v2.inside import NEW_CONTAINER, Inside

CONTROLLERS = {"cpu", "cpuset", "io", "memory", "pids"}


class NewGroup(Protocol):
    """Makes a cgroup below the root, and removes it with all in it when the test is over."""

    def __call__(self, **files: str | int) -> Group: ...


class StartInside(Protocol):
    """Starts an agent in a cgroup, and stops it when the test is over."""

    def __call__(
        self, group: Group, prefix: tuple[str, ...] = NEW_CONTAINER, descriptors: tuple[int, ...] = ()
    ) -> Inside: ...


@pytest.fixture(scope="session", autouse=True)
def _pure_v2() -> None:
    """What every test here needs."""
    if os.geteuid() != 0:
        pytest.skip("containers with limits and mounts can be made by root only")
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("this machine has no /dev/fuse")
    if not cgroups.is_pure_v2():
        pytest.skip(f"this machine's cgroup layout is {cgroups.layout()}, not v2 alone")
    if not (ROOT / "cgroup.procs").exists():
        pytest.skip(f"the cgroups of this machine are not at {ROOT}")
    missing = CONTROLLERS - set(Group(ROOT).read("cgroup.controllers").split())
    if missing:
        pytest.skip(f"cgroup v2 has no {', '.join(sorted(missing))} here")


@pytest.fixture(scope="session")
def daemon(_pure_v2: None) -> Iterator[Daemon]:
    with serving() as daemon:
        yield daemon


@pytest.fixture(scope="session")
def rootfs(_pure_v2: None) -> Iterator[Rootfs]:
    with session.temporary_directory() as directory:
        yield Rootfs.create(directory / "rootfs")


@pytest.fixture
def start_unshare(rootfs: Rootfs, daemon: Daemon) -> Iterator[Start]:
    yield from starter(usable(engines.UNSHARE), rootfs, daemon.mount)


@pytest.fixture
def new_group(_pure_v2: None) -> Iterator[NewGroup]:
    with groups() as make:
        yield make


@pytest.fixture(scope="module")
def new_module_group(_pure_v2: None) -> Iterator[NewGroup]:
    with groups() as make:
        yield make


@contextlib.contextmanager
def groups() -> Iterator[NewGroup]:
    names: list[str] = []

    def make(**files: str | int) -> Group:
        """A file's name has ``_`` for its dots: ``memory_max=1 << 20``."""
        names.append(session.new_name())
        group = Group(ROOT).make(names[-1])
        for name, text in files.items():
            group.write(name.replace("_", "."), text)
        return group

    try:
        yield make
    finally:
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # a test may have removed it
                Group(ROOT / name).write("cgroup.kill", 1)
            cgroups.remove_trees(name)


@pytest.fixture
def start_inside(daemon: Daemon, new_group: NewGroup) -> Iterator[StartInside]:  # noqa: ARG001  agents end before cgroups
    with agents(daemon.mount) as start:
        yield start


@pytest.fixture(scope="module")
def start_module_inside(daemon: Daemon, new_module_group: NewGroup) -> Iterator[StartInside]:  # noqa: ARG001
    with agents(daemon.mount) as start:
        yield start


@contextlib.contextmanager
def agents(views: Path) -> Iterator[StartInside]:
    with contextlib.ExitStack() as running:

        def start(group: Group, prefix: tuple[str, ...] = NEW_CONTAINER, descriptors: tuple[int, ...] = ()) -> Inside:
            inside = Inside.start(group, views, prefix, descriptors)
            running.callback(inside.stop)
            return inside

        yield start


@pytest.fixture(scope="session")
def blank_disks(_pure_v2: None) -> Iterator[list[Disk]]:
    """Two disks, or a skip."""
    found = disks.blank_disks()
    if len(found) < 2:
        names = ", ".join(disk.name for disk in found) or "none"
        pytest.skip(f"two small disks that are unused and hold nothing but zeros are needed; this machine has {names}")
    yield found[:2]
    for disk in found[:2]:
        disk.wipe()


@pytest.fixture(scope="module")
def ext4(blank_disks: list[Disk]) -> Iterator[Path]:
    """A file system on the larger of them."""
    with disks.ext4(max(blank_disks, key=lambda disk: disk.size_bytes).path) as point:
        yield point


@pytest.fixture(scope="session")
def host_swap_bytes() -> int:
    """All swap of the machine."""
    rows = [line.split() for line in Path("/proc/swaps").read_text(encoding="utf-8").splitlines()[1:]]
    if not rows:
        pytest.skip("this machine has no swap")
    return sum(int(row[2]) for row in rows) << 10


@pytest.fixture(scope="session")
def two_cpus() -> list[int]:
    """The first two CPUs of the machine."""
    online = (Path("/sys/devices/system/cpu/online")).read_text(encoding="ascii").strip()
    ranges = ([int(word) for word in part.split("-")] for part in online.split(","))
    cpus = list(itertools.chain.from_iterable(range(ends[0], ends[-1] + 1) for ends in ranges))
    if len(cpus) < 2:
        pytest.skip("this machine has one CPU")
    return cpus[:2]
