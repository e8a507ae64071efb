"""Section 9: /sys/devices/system/cpu, the files that are not the host's as they are."""

from __future__ import annotations

from tests.hosts.cpus import cpu_list, cpu_mask
from tests.hosts.model import Container, Host
from tests.oracle.cpus import visible

TOP = "sys/devices/system/cpu"


def cpu_tree(host: Host, container: Container, *, cpus: str = "quota") -> dict[str, str]:
    """Path -> text of every file that must be scoped."""
    chosen = visible(host, container, cpus=cpus)
    count = len(chosen)
    everyone = cpu_list(range(count)) + "\n"
    files = {f"{TOP}/{name}": everyone for name in ("online", "possible", "present")}
    width = max(host.possible_cpus) + 1  # masks stay as wide as the host's
    files |= {f"{TOP}/offline": "\n", f"{TOP}/kernel_max": f"{host.kernel_max}\n"}
    for number, cpu in enumerate(chosen):
        here = f"{TOP}/cpu{number}"
        files |= {f"{here}/topology/physical_package_id": f"{number}\n", f"{here}/topology/core_id": "0\n"}
        for name in ("core_cpus", "core_siblings", "package_cpus", "thread_siblings"):
            files |= {
                f"{here}/topology/{name}": cpu_mask([number], width) + "\n",
                f"{here}/topology/{name}_list": f"{number}\n",
            }
        if host.has_online_file and cpu:
            files[f"{here}/online"] = "1\n"
    return files
