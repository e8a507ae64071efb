"""Every file in which programs count CPUs says the same number, under the same numbers.

- glibc's _NPROCESSORS_CONF (getconf, nproc --all, the JVM's processor_count): cpu/possible, once the folders cpuN.
- glibc's _NPROCESSORS_ONLN (os.cpu_count(), psutil, older libuv): cpu/online, or else the lines of /proc/stat.
- libuv (os.cpus() of Node.js): the lines of /proc/stat, /proc/cpuinfo for the models, cpuN/cpufreq for the speed.
- lscpu: cpu/possible, present, online, cpuN/topology, nodeN/cpumap, /proc/cpuinfo.
- numactl, the JVM with UseNUMA, DPDK: nodeN/cpumap, nodeN/cpuN, cpuN/nodeN.

Those that ask sched_getaffinity(2) (nproc, Go, Rust, musl) see the cpuset, which no file changes: docs/views.md.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings

from tests.hosts.build import build
from tests.hosts.model import Container, Host, Layout
from tests.hosts.trees import fresh
from tests.oracle.cpus import visible
from tests.views.test_nodetree import numa_worlds

pytest.importorskip("procview._fast.engine", reason="the engine is not built")
from procview._fast.engine import Engine

CPU = "sys/devices/system/cpu"
NODE = "sys/devices/system/node"


def members(text: str) -> list[int]:
    """A list of CPUs as sysfs has it."""
    ends = [part.split("-") for part in text.strip().split(",") if part]
    return [number for end in ends for number in range(int(end[0]), int(end[-1]) + 1)]


@settings(max_examples=40)
@given(world=numa_worlds())
def test_all_of_them_agree(scratch: Path, world: tuple[Layout, Host, Container]) -> None:
    layout, host, container = world
    with fresh(scratch) as folder:
        engine = Engine(**build(folder, layout, host, container).roots)

        def show(path: str) -> str:
            return engine.open(container.pid, path).render().decode()

        folders = [name for name in engine.listdir(container.pid, CPU) if re.fullmatch(r"cpu\d+", name)]
        nodes = [name for name in engine.listdir(container.pid, NODE) if re.fullmatch(r"node\d+", name)]
        counted = {
            "possible": members(show(f"{CPU}/possible")),
            "present": members(show(f"{CPU}/present")),
            "online": members(show(f"{CPU}/online")),
            "folders": [int(name[3:]) for name in folders],
            "stat": [int(number) for number in re.findall(r"^cpu(\d+) ", show("proc/stat"), re.MULTILINE)],
            "cpuinfo": [int(n) for n in re.findall(r"^processor\s*: (\d+)$", show("proc/cpuinfo"), re.MULTILINE)],
            "siblings": sorted(
                cpu for name in folders for cpu in members(show(f"{CPU}/{name}/topology/thread_siblings_list"))
            ),
            "nodes": sorted(cpu for name in nodes for cpu in members(show(f"{NODE}/{name}/cpulist"))),
            "masks": sorted(
                cpu
                for name in nodes
                for cpu in range(64)
                if int(show(f"{NODE}/{name}/cpumap").replace(",", ""), 16) >> cpu & 1
            ),
            "in nodes": sorted(
                int(name[3:])
                for node in nodes
                for name in engine.listdir(container.pid, f"{NODE}/{node}")
                if re.fullmatch(r"cpu\d+", name)
            ),
        }
        engine.close()
    numbers = list(range(len(visible(host, container))))
    assert counted == dict.fromkeys(counted, numbers)
