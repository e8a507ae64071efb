"""/sys/devices/system/node: which nodes a container has, and the files about them that leave no choice.

What its memory on each node is, is a matter of what holds for it: see tests/views/test_nodetree.py.
"""

from __future__ import annotations

from tests.hosts.build import NUMASTAT_NAMES
from tests.hosts.cpus import cpu_list, cpu_mask
from tests.hosts.model import Container, Host, MemoryNode
from tests.oracle.cpus import visible

TOP = "sys/devices/system/node"
CPU_TOP = "sys/devices/system/cpu"


def memory_nodes(host: Host, container: Container) -> set[int]:
    """The nodes that it may have memory of; all that have some where no cpuset says so, or none of those it names."""
    with_memory = {node.number for node in host.nodes if node.total_kb}
    level = container.nearest("cpuset")
    if level is None or level.mems is None:
        return with_memory
    return with_memory & set(level.mems) or with_memory


def nodes(host: Host, container: Container) -> list[MemoryNode]:
    """Those, and those of its CPUs, in the order of their visible numbers."""
    memory = memory_nodes(host, container)
    cpus = set(visible(host, container))
    return [node for node in host.nodes if node.number in memory or cpus & set(node.cpus)]


def node_tree(host: Host, container: Container) -> dict[str, str]:
    """Path -> text of each file but meminfo."""
    chosen = nodes(host, container)
    cpus = visible(host, container)
    memory = memory_nodes(host, container)
    width = max(host.possible_cpus) + 1

    def numbers(belongs: list[bool]) -> str:
        return cpu_list(number for number, does in enumerate(belongs) if does) + "\n"

    with_memory = numbers([node.number in memory for node in chosen])
    files = {
        "online": numbers([True] * len(chosen)),
        "possible": numbers([True] * len(chosen)),
        "has_cpu": numbers([bool(set(cpus) & set(node.cpus)) for node in chosen]),
        "has_memory": with_memory,
        "has_normal_memory": with_memory,
        "has_generic_initiator": "\n",
    }
    for number, node in enumerate(chosen):
        mine = [place for place, cpu in enumerate(cpus) if cpu in node.cpus]
        files |= {
            f"node{number}/cpulist": cpu_list(mine) + "\n",
            f"node{number}/cpumap": cpu_mask(mine, width) + "\n",
            f"node{number}/distance": " ".join(str(node.distance(other)) for other in chosen) + "\n",
            f"node{number}/numastat": "".join(f"{name} 0\n" for name in NUMASTAT_NAMES),
        }
    return {f"{TOP}/{name}": text for name, text in files.items()}


def links(host: Host, container: Container) -> set[str]:
    """From each node to its CPUs, and back."""
    found = set()
    cpus = visible(host, container)
    for number, node in enumerate(nodes(host, container)):
        for place, cpu in enumerate(cpus):
            if cpu in node.cpus:
                found |= {f"{TOP}/node{number}/cpu{place}", f"{CPU_TOP}/cpu{place}/node{number}"}
    return found
