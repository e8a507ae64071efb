"""/proc/swaps against the oracle."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.hosts.build import build
from tests.hosts.model import Container, Host, Layout
from tests.hosts.trees import fresh
from tests.oracle.memory import swap_bytes
from tests.oracle.swaps import swaps
from tests.views.strategies import worlds

pytest.importorskip("procview._fast.engine", reason="the engine is not built")
from procview._fast.engine import Engine


@given(world=worlds(most_cpus=2), swap=st.booleans())
def test_equals_the_oracle(scratch: Path, world: tuple[Layout, Host, Container], swap: bool) -> None:
    layout, host, container = world
    with fresh(scratch) as folder:
        engine = Engine(**build(folder, layout, host, container).roots)
        engine.configure(swap=swap)
        text = engine.open(container.pid, "proc/swaps").render().decode()
        meminfo = engine.open(container.pid, "proc/meminfo").render().decode()
        engine.close()
    assert text == swaps(host, container, layout, swap=swap)
    # the two files agree
    total = swap_bytes(host, container, layout, swap=swap)[0] >> 10
    assert all(line.split()[1] == str(total) for line in meminfo.splitlines() if line.startswith("SwapTotal"))
