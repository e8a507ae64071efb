"""/proc/uptime where it is not simply init's age; test_stat compares it with the oracle on random containers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.hosts.build import build
from tests.hosts.model import Container, CpuTimes, Host, Layout, Level
from tests.hosts.trees import fresh
from tests.oracle.stat import IDLE, Stat, btimes, total
from tests.oracle.uptime import uptime

pytest.importorskip("procview._fast.engine", reason="the engine is not built")
from procview._fast.engine import Engine

HOST = Host(boottime_ns=1_000_123_456_789)
CONTAINER = Container(levels=(Level("c"),), start_ticks=40_000, cpu=CpuTimes(user_usec=7_000_000))


@given(seconds=st.integers(-1_000, 10**9), nanoseconds=st.one_of(st.just(0), st.integers(1, 999_999_999)))
def test_time_namespace(scratch: Path, seconds: int, nanoseconds: int) -> None:
    """Field 1 is that namespace's CLOCK_BOOTTIME, and btime moves with it."""
    assume((seconds, nanoseconds) != (0, 0))
    container = replace(CONTAINER, boottime_offset=(seconds, nanoseconds))
    with fresh(scratch) as folder:
        engine = Engine(**build(folder, Layout.V2, HOST, container).roots)
        shown = engine.open(container.pid, "proc/uptime").render().decode()
        stat = engine.open(container.pid, "proc/stat").render().decode()
        engine.close()
    idle = total(Stat().step(HOST, container, Layout.V2))[IDLE]
    assert shown == uptime(HOST, container, idle)
    shown_btime = next(int(line.split()[1]) for line in stat.splitlines() if line.startswith("btime"))
    assert shown_btime in btimes(HOST, container)


def test_setting_host(scratch: Path) -> None:
    with fresh(scratch) as folder:
        tree = build(folder, Layout.V2, HOST, CONTAINER)
        engine = Engine(**tree.roots)
        engine.configure(uptime="host")
        assert engine.open(CONTAINER.pid, "proc/uptime").render() == (folder / "proc/uptime").read_bytes()
        engine.close()


def test_host_pid_namespace(scratch: Path) -> None:
    """A caller there gets the host's file."""
    with fresh(scratch) as folder:
        tree = build(folder, Layout.V2, HOST, CONTAINER)
        engine = Engine(**tree.roots)
        assert engine.open(1, "proc/uptime").render() == (folder / "proc/uptime").read_bytes()
        engine.close()
