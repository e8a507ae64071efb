"""/sys/devices/system/cpu against the oracle, and what cannot be reached through it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings

from tests.hosts.build import build
from tests.hosts.model import Container, Host, Layout, Level
from tests.hosts.trees import fresh
from tests.oracle.cputree import TOP, cpu_tree
from tests.views.strategies import worlds

pytest.importorskip("procview._fast.engine", reason="the engine is not built")
from procview._fast.engine import Engine


@settings(max_examples=15)
@given(world=worlds(most_cpus=40, cpu_folders=True))
def test_equals_the_oracle(scratch: Path, world: tuple[Layout, Host, Container]) -> None:
    layout, host, container = world
    expected = cpu_tree(host, container)
    with fresh(scratch) as folder:
        engine = Engine(**build(folder, layout, host, container).roots)
        shown = {path: engine.open(container.pid, path).render().decode() for path in expected}
        assert shown == expected
        names = engine.listdir(container.pid, TOP)
        count = sum(path.endswith("/core_id") for path in expected)
        assert [name for name in names if name.startswith("cpu") and name[3:].isdigit()] == [
            f"cpu{n}" for n in range(count)
        ]
        for path in (
            f"{TOP}/cpu{count}",
            f"{TOP}/cpu{count}/topology/core_id",
            f"{TOP}/cpu-1",
            f"{TOP}/cpu00",
            f"{TOP}/cpu",
        ):
            with pytest.raises(FileNotFoundError):
                engine.kind(container.pid, path)
        engine.close()


@pytest.mark.parametrize(
    "path",
    [
        "sys/devices/system/cpu/../node",
        "sys/devices/system/cpu/cpu0/../../memory",
        "sys/devices/system/cpu/cpu0/topology/../../../../../kernel/mm/hugepages",
        "sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages",
        "sys/devices/system/cpu/cpu0/node0/meminfo",
        "sys/devices/system/cpu/cpu0/subsystem/uevent",
        "proc/1/status",
        "proc/../sys/kernel",
        "",
        "/etc/passwd",
        "proc//meminfo",
        "x" * 5000,
    ],
)
def test_nothing_else_can_be_reached(scratch: Path, path: str) -> None:
    container = Container(levels=(Level("c"),))
    with fresh(scratch) as folder:
        tree = build(folder, Layout.V2, Host(), container)
        tree.write("sys/devices/system/node/node0/meminfo", "secret\n")
        tree.write("sys/devices/system/memory/block_size_bytes", "secret\n")
        tree.link(f"{TOP}/cpu0/node0", "../../node/node0")
        tree.link(f"{TOP}/cpu0/subsystem", "../../../../bus/cpu")
        tree.write("sys/bus/cpu/uevent", "secret\n")
        engine = Engine(**tree.roots)
        try:
            with pytest.raises(OSError):
                engine.open(container.pid, path).render()
        finally:
            engine.close()


def test_only_world_readable_files_pass(scratch: Path) -> None:
    container = Container(levels=(Level("c", cpus=(1,)),))
    with fresh(scratch) as folder:
        tree = build(folder, Layout.V2, Host(), container)
        tree.write(f"{TOP}/cpu1/secret", "secret\n")
        (folder / TOP / "cpu1/secret").chmod(0o400)
        tree.write(f"{TOP}/cpu1/cache/index0/size", "48K\n")
        engine = Engine(**tree.roots)
        assert engine.open(container.pid, f"{TOP}/cpu0/cache/index0/size").render() == b"48K\n"
        with pytest.raises(OSError):
            engine.open(container.pid, f"{TOP}/cpu0/secret").render()
        assert "secret" not in engine.listdir(container.pid, f"{TOP}/cpu0")
        engine.close()
