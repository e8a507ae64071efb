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


def test_the_frequency_of_a_cpu(scratch: Path) -> None:
    """The host has its CPUs 1 and 3 in one policy, and links to it. So lscpu and libuv find a frequency."""
    container = Container(levels=(Level("c", cpus=(1, 3)),))
    with fresh(scratch) as folder:
        tree = build(folder, Layout.V2, Host(online=(0, 1, 2, 3)), container)
        for name, text in (("scaling_cur_freq", "2600000\n"), ("affected_cpus", "1 3\n"), ("related_cpus", "1 2 3\n")):
            tree.write(f"{TOP}/cpufreq/policy1/{name}", text)
        tree.write(f"{TOP}/cpufreq/policy1/stats/time_in_state", "2600000 7\n")
        tree.link(f"{TOP}/cpu1/cpufreq", "../cpufreq/policy1")
        tree.link(f"{TOP}/cpu3/cpufreq", "../cpufreq/policy1")
        tree.link(f"{TOP}/cpufreq/policy1/driver", "../../../..")
        engine = Engine(**tree.roots)

        def show(path: str) -> str:
            return engine.open(container.pid, f"{TOP}/{path}").render().decode()

        assert "cpufreq" in engine.listdir(container.pid, f"{TOP}/cpu1")
        assert engine.listdir(container.pid, f"{TOP}/cpu1/cpufreq") == [
            "affected_cpus", "related_cpus", "scaling_cur_freq", "stats"]  # fmt: skip
        assert show("cpu1/cpufreq/scaling_cur_freq") == "2600000\n"
        assert show("cpu1/cpufreq/stats/time_in_state") == "2600000 7\n"
        assert show("cpu1/cpufreq/affected_cpus") == "1\n"
        engine.configure(topology="host")
        assert show("cpu0/cpufreq/affected_cpus") == show("cpu0/cpufreq/related_cpus") == "0 1\n"
        for path in ("cpu0/cpufreq/driver", "cpu0/cpufreq/driver/cpu", "cpufreq/policy1/scaling_cur_freq",
                     "cpu0/topology/cpufreq"):  # fmt: skip
            with pytest.raises(FileNotFoundError):
                engine.kind(container.pid, f"{TOP}/{path}")
        engine.close()


@pytest.mark.parametrize(
    "target", ["../cpufreq", "../../memory", "../cpufreq/policy1/..", "/etc", "../cpufreq/policy1x"]
)
def test_a_link_called_cpufreq_leads_nowhere_else(scratch: Path, target: str) -> None:
    container = Container(levels=(Level("c"),))
    with fresh(scratch) as folder:
        tree = build(folder, Layout.V2, Host(), container)
        tree.write(f"{TOP}/cpufreq/policy1/x", "x\n")
        tree.write(f"{TOP}/cpufreq/policy1x/x", "x\n")
        tree.write("sys/devices/system/memory/x", "x\n")
        tree.link(f"{TOP}/cpu0/cpufreq", target)
        engine = Engine(**tree.roots)
        for path in (f"{TOP}/cpu0/cpufreq", f"{TOP}/cpu0/cpufreq/x"):
            with pytest.raises(FileNotFoundError):
                engine.kind(container.pid, path)
        engine.close()
