"""Skips where systemd is not PID 1, and gives the services of a test back in the end."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from tests.containers import cgroups
from tests.containers.served import Daemon, serving
from tests.systemd.units import Service


class StartService(Protocol):
    """Starts a service with properties, and stops it when the test is over."""

    def __call__(self, *properties: str) -> Service: ...


@pytest.fixture(scope="session", autouse=True)
def _systemd() -> None:
    """What every test here needs."""
    init = Path("/proc/1/comm").read_text(encoding="utf-8").strip()
    if init != "systemd":
        pytest.skip(f"PID 1 of this machine is {init}, not systemd")
    if os.geteuid() != 0:
        pytest.skip("services of the system can be started by root only")
    if not cgroups.is_pure_v2():
        pytest.skip(f"this machine's cgroup layout is {cgroups.layout()}, not v2 alone")


@pytest.fixture(scope="module")
def daemon(_systemd: None) -> Iterator[Daemon]:
    with serving() as daemon:
        yield daemon


@pytest.fixture
def start_service(daemon: Daemon) -> Iterator[StartService]:
    running: list[Service] = []

    def start(*properties: str) -> Service:
        running.append(Service.start(daemon.mount, properties))
        return running[-1]

    yield start
    for service in running:
        service.stop()
