"""A daemon for each module, a container for each test, and each test with every engine that it concerns."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest

from tests import session
from tests.containers import engines
from tests.containers.cgroups import Limits
from tests.containers.engines import Container, Engine, Hook
from tests.containers.rootfs import Rootfs
from tests.containers.served import Daemon, serving
from tests.timing import unhurried_settings

MEMORY_BYTES = 512 << 20


class Start(Protocol):
    """Starts a container of one engine with the daemon's views, and stops it when the test is over."""

    def __call__(self, limits: Limits | None = None, **options: object) -> Container: ...


@pytest.fixture(scope="session", autouse=True)
def _privileges() -> None:
    """What every test here needs."""
    if os.geteuid() != 0:
        pytest.skip("containers with limits and mounts can be made by root only")
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("this machine has no /dev/fuse")


@pytest.fixture(scope="session")
def rootfs(_privileges: None) -> Iterator[Rootfs]:
    with session.temporary_directory() as directory:
        yield Rootfs.create(directory / "rootfs")


@pytest.fixture(scope="module")
def daemon(_privileges: None) -> Iterator[Daemon]:
    with serving(unhurried_settings()) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def hook(daemon: Daemon) -> Iterator[Hook]:
    """The hook, for engines to call."""
    with session.temporary_directory() as directory:
        yield Hook.create(directory, daemon.run_directory)


@pytest.fixture(params=engines.ALL, ids=lambda engine: engine.name)
def engine(request: pytest.FixtureRequest) -> Engine:
    """Every engine in turn."""
    return usable(request.param)


def usable(engine: Engine) -> Engine:
    """The engine, or a skip where it is not installed; an error under ./dev test, which has installed all of them."""
    if engine.version() is None:
        message = f"{engine.name} is not installed"
        if os.environ.get("PROCVIEW_REQUIRE_ENGINES"):
            pytest.fail(message)
        pytest.skip(message)
    return engine


@pytest.fixture
def start(engine: Engine, rootfs: Rootfs, daemon: Daemon) -> Iterator[Start]:
    yield from starter(engine, rootfs, daemon.mount)


@pytest.fixture
def start_runc(rootfs: Rootfs, daemon: Daemon) -> Iterator[Start]:
    """For what differs between containers and not between engines."""
    yield from starter(usable(engines.RUNC), rootfs, daemon.mount)


@pytest.fixture
def start_unshare(rootfs: Rootfs, daemon: Daemon) -> Iterator[Start]:
    """For tests with many containers, or that need the host's files inside."""
    yield from starter(usable(engines.UNSHARE), rootfs, daemon.mount)


def starter(engine: Engine, rootfs: Rootfs, views: Path) -> Iterator[Start]:
    running: list[Container] = []
    default = default_limits()

    def start(limits: Limits | None = None, **options: object) -> Container:
        begin: Callable[..., Container] = engine.start
        container = begin(rootfs, default if limits is None else limits, views=views, **options)
        running.append(container)
        return container

    try:
        yield start
    finally:
        for container in running:
            container.stop()


def host_cpus() -> list[int]:
    """The numbers of the CPUs that are online."""
    return sorted(os.sched_getaffinity(0))


def two_cpus() -> str:
    """A cpuset of two CPUs; skips where the host has not got them."""
    cpus = host_cpus()
    if len(cpus) < 2:
        pytest.skip("this machine has one CPU")
    return f"{cpus[0]},{cpus[1]}"


def default_limits() -> Limits:
    """512 MiB, the last CPU (so that a wrong number shows), all of its time."""
    return Limits(memory_bytes=MEMORY_BYTES, cpuset=str(host_cpus()[-1]), cpus=1.0)


@pytest.fixture
def container(start: Start) -> Container:
    return start()
