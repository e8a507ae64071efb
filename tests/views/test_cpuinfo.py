"""/proc/cpuinfo against the oracle on x86; other architectures are in the golden tests."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.hosts.build import build
from tests.hosts.known import LARGE_CONTAINER, LARGE_HOST
from tests.hosts.model import Container, Host, Layout, Level
from tests.hosts.trees import fresh
from tests.oracle.cpuinfo import cpuinfo
from tests.oracle.cpus import visible
from tests.views.strategies import worlds

pytest.importorskip("procview._fast.engine", reason="the engine is not built")
from procview._fast.engine import Engine


@given(world=worlds(), cpus=st.sampled_from(["quota", "cpuset"]), topology=st.sampled_from(["container", "host"]))
def test_equals_the_oracle(
    scratch: Path,
    world: tuple[Layout, Host, Container],
    cpus: Literal["quota", "cpuset"],
    topology: Literal["container", "host"],
) -> None:
    layout, host, container = world
    with fresh(scratch) as folder:
        engine = Engine(**build(folder, layout, host, container).roots)
        engine.configure(cpus=cpus, topology=topology)
        text = engine.open(container.pid, "proc/cpuinfo").render().decode()
        chosen = engine.cpus(container.pid)
        stat = engine.open(container.pid, "proc/stat").render().decode()
        online = engine.open(container.pid, "sys/devices/system/cpu/online").render().decode()
        engine.close()
    assert tuple(chosen) == visible(host, container, cpus=cpus)
    assert text == cpuinfo(host, container, cpus=cpus, topology=topology)
    # the same N with the same numbers everywhere
    count = len(chosen)
    assert [line.split()[2] for line in text.splitlines() if line.startswith("processor")] == [
        str(n) for n in range(count)
    ]
    assert sum(line.startswith("cpu") for line in stat.splitlines()) == count + 1
    assert online == ("0\n" if count == 1 else f"0-{count - 1}\n")


def test_all_of_256_cpus(scratch: Path) -> None:
    """Two sockets, offline CPUs and gaps: without limits all online CPUs, as 0..239."""
    container = replace(LARGE_CONTAINER, levels=(Level("web"),))
    with fresh(scratch) as folder:
        engine = Engine(**build(folder, Layout.V1, LARGE_HOST, container).roots)
        text = engine.open(container.pid, "proc/cpuinfo").render().decode()
        engine.close()
    assert text == cpuinfo(LARGE_HOST, container)
    assert text.count("\n\n") == len(LARGE_HOST.online) == 240
