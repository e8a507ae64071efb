"""Services of the host's systemd read the views: in the host's pid namespace, each is a container by its own cgroup."""

import os
import re
import time
from pathlib import Path

import pytest

from tests import session
from tests.systemd.conftest import StartService
from tests.systemd.units import Service, systemctl
from tests.timing import patient

MIB = 1 << 20


def _total_mib(service: Service) -> float:
    found = re.match(r"MemTotal: +(\d+) kB\n", service.read("proc/meminfo"))
    assert found
    return int(found[1]) / 1024


def _cpus(service: Service) -> dict[str, int]:
    """How many CPUs each view shows, and the affinity that the kernel gives."""
    stat = [line for line in service.read("proc/stat").splitlines() if re.match(r"cpu\d", line)]
    online = service.read("sys/devices/system/cpu/online").strip()
    return {
        "cpuinfo": service.read("proc/cpuinfo").count("processor\t:"),
        "stat": len(stat),
        "online": int(online.rpartition("-")[2]) + 1,
        "tree": len(service.ask(f"ls -d {service.views}/sys/devices/system/cpu/cpu[0-9]*").split()),
    }


def _all(cpus: int) -> dict[str, int]:
    return dict.fromkeys(("cpuinfo", "stat", "online", "tree"), cpus)


def _two_cpus() -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("this machine has one CPU")


def test_a_service_sees_its_limits(start_service: StartService) -> None:
    _two_cpus()
    service = start_service("MemoryMax=100M", "CPUQuota=100%", "AllowedCPUs=0-1", "TasksMax=20")
    assert _total_mib(service) == 100
    assert _cpus(service) == _all(1)
    assert (service.cgroup / "pids.max").read_text() == "20\n"
    # The shell and its cat; what a limit of tasks is, no file of /proc says.
    assert service.read("proc/stat").split("processes ")[1].split()[0] == "2"
    assert service.read("proc/loadavg").split()[3].partition("/")[2] == "2"


def test_a_service_sees_the_cpus_that_it_may_use(start_service: StartService) -> None:
    _two_cpus()
    service = start_service("AllowedCPUs=1")
    assert (service.cgroup / "cpuset.cpus.effective").read_text() == "1\n"
    assert _cpus(service) == _all(1)


def test_limits_that_are_changed_show_in_the_next_read(start_service: StartService) -> None:
    _two_cpus()
    service = start_service("MemoryMax=100M", "CPUQuota=100%", "AllowedCPUs=0-1")
    assert (_total_mib(service), _cpus(service)) == (100, _all(1))
    systemctl("set-property", "--runtime", service.unit, "MemoryMax=80M", "CPUQuota=150%")
    assert (_total_mib(service), _cpus(service)) == (80, _all(2))


def test_the_limit_of_a_slice_counts_for_its_services(start_service: StartService) -> None:
    name = f"{session.new_name().replace('-', '_')}.slice"
    large = start_service("MemoryMax=100M", f"Slice={name}")
    small = start_service("MemoryMax=40M", f"Slice={name}")
    try:
        systemctl("set-property", "--runtime", name, "MemoryMax=60M")
        assert (_total_mib(large), _total_mib(small)) == (60, 40)
    finally:
        large.stop()
        small.stop()
        systemctl("revert", name, check=False)
        systemctl("stop", name, check=False)


def test_a_service_without_limits_sees_the_hosts_total_and_its_own_use(start_service: StartService) -> None:
    service = start_service()
    text = service.read("proc/meminfo")
    assert text.splitlines()[0] == Path("/proc/meminfo").read_text(encoding="ascii").splitlines()[0]
    in_use = re.findall(r"^AnonPages: +(\d+) kB$", text, re.MULTILINE)
    assert int(in_use[0]) << 10 < 8 * MIB, "of a shell"
    age = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert abs(float(service.read("proc/uptime").split()[0]) - age) < patient(5), "of the host, as its pid namespace is"


def test_two_services_use_cpu_and_each_sees_its_own(start_service: StartService) -> None:
    busy, idle = start_service(), start_service()
    busy.ask("(ulimit -t 1; while :; do :; done) 2>/dev/null")
    assert _busy_ticks(busy) >= 90
    assert _busy_ticks(busy) - _busy_ticks(idle) > 50


def _busy_ticks(service: Service) -> int:
    columns = [int(word) for word in service.read("proc/stat").splitlines()[0].split()[1:]]
    return columns[0] + columns[1] + columns[2]


def test_pressure_is_that_of_the_services_cgroup(start_service: StartService) -> None:
    service = start_service()
    if not (service.cgroup / "cpu.pressure").exists():
        pytest.skip("this kernel keeps no pressure numbers of cgroups")
    before, shown, after = (
        int(text.splitlines()[0].rpartition("total=")[2])
        for text in (
            (service.cgroup / "cpu.pressure").read_text(),
            service.read("proc/pressure/cpu"),
            (service.cgroup / "cpu.pressure").read_text(),
        )
    )
    assert before <= shown <= after
