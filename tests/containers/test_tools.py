"""What the usual programs say inside a container with 512 MiB and one CPU."""

import json
import time
from pathlib import Path

import pytest

from tests.containers.cgroups import Limits
from tests.containers.conftest import MEMORY_BYTES, Start, two_cpus
from tests.containers.engines import Container
from tests.containers.rootfs import PYTHON
from tests.timing import patient

_CPU_COUNTS = """
import json, os, psutil
counts = os.cpu_count(), psutil.cpu_count(), psutil.cpu_count(logical=False), len(psutil.cpu_times(percpu=True))
print(json.dumps(counts))
"""
_TOUCH_64_MIB = """
import mmap
memory = mmap.mmap(-1, 64 << 20)
memory.madvise(mmap.MADV_NOHUGEPAGE)
for page in range(0, len(memory), mmap.PAGESIZE):
    memory[page] = 1
"""
_PSUTIL = """
import json, psutil
print(json.dumps({
    "memory": psutil.virtual_memory()._asdict(),
    "swap": psutil.swap_memory()._asdict(),
    "cpus": [cpu._asdict() for cpu in psutil.cpu_times(percpu=True)],
    "cpu": psutil.cpu_times()._asdict(),
    "cpus_after": [cpu._asdict() for cpu in psutil.cpu_times(percpu=True)],
    "boot_time": psutil.boot_time(),
    "disks": {name: disk._asdict() for name, disk in psutil.disk_io_counters(perdisk=True).items()},
    "load": psutil.getloadavg(),
    "init_start": psutil.Process(1).create_time(),
}))
"""


def _free(container: Container) -> dict[str, dict[str, int]]:
    header, *rows = container.output(["free", "-b", "-w"]).splitlines()
    return {
        row.split()[0].rstrip(":"): dict(zip(header.split(), (int(word) for word in row.split()[1:]), strict=False))
        for row in rows
    }


def test_free_shows_the_memory_limit_as_total(container: Container) -> None:
    memory = _free(container)["Mem"]
    assert memory["total"] == MEMORY_BYTES
    assert 0 < memory["used"] < MEMORY_BYTES
    assert 0 < memory["available"] <= MEMORY_BYTES
    assert memory["free"] <= memory["available"]
    assert memory["used"] + memory["free"] <= MEMORY_BYTES


def test_free_shows_no_swap_where_the_host_has_none(container: Container) -> None:
    swap = _free(container)["Swap"]
    host = next(line for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines() if "SwapTotal" in line)
    assert swap["total"] <= int(host.split()[1]) * 1024
    assert swap["used"] + swap["free"] == swap["total"]


def test_every_way_to_count_cpus_agrees(container: Container) -> None:
    assert container.output(["nproc"]) == "1\n"
    assert container.output(["nproc", "--all"]) == "1\n"
    assert container.output(["getconf", "_NPROCESSORS_ONLN"]) == "1\n"
    assert container.output(["getconf", "_NPROCESSORS_CONF"]) == "1\n"
    assert json.loads(container.output([PYTHON, "-c", _CPU_COUNTS])) == [1, 1, 1, 1]
    assert container.read("/proc/cpuinfo").count("processor\t:") == 1


def test_the_files_that_runtimes_count_cpus_in_agree(start: Start) -> None:
    """The JVM and Node.js are not here: what glibc and libuv read for them is (tests/views/test_cpu_counts.py)."""
    container = start(Limits(memory_bytes=MEMORY_BYTES, cpuset=two_cpus()))
    tree = "/sys/devices/system/cpu"
    assert [container.read(f"{tree}/{name}") for name in ("possible", "present", "online")] == ["0-1\n"] * 3
    assert container.output(["sh", "-c", f"ls -d {tree}/cpu[0-9]*"]).split() == [f"{tree}/cpu0", f"{tree}/cpu1"]
    assert [line.split()[0] for line in container.read("/proc/stat").splitlines()[:3]] == ["cpu", "cpu0", "cpu1"]
    counts = [container.output(["getconf", name]) for name in ("_NPROCESSORS_CONF", "_NPROCESSORS_ONLN")]
    assert [*counts, container.output(["nproc", "--all"])] == ["2\n"] * 3
    assert json.loads(container.output([PYTHON, "-c", _CPU_COUNTS])) == [2, 2, 2, 2]


def test_lscpu_shows_one_cpu_numbered_from_zero(container: Container) -> None:
    shown = dict(line.split(":", 1) for line in container.output(["lscpu"]).splitlines() if ":" in line)
    assert shown["CPU(s)"].strip() == "1"
    assert shown["On-line CPU(s) list"].strip() == "0"
    rows = [
        row for row in container.output(["lscpu", "--parse=CPU,CORE,SOCKET"]).splitlines() if not row.startswith("#")
    ]
    assert rows == ["0,0,0"]


def test_lscpu_shows_the_cpu_in_its_memory_node(container: Container) -> None:
    if not Path("/sys/devices/system/node").is_dir():
        pytest.skip("this kernel has no memory nodes")
    shown = dict(line.split(":", 1) for line in container.output(["lscpu"]).splitlines() if ":" in line)
    nodes = int(shown["NUMA node(s)"])
    assert [shown[f"NUMA node{node} CPU(s)"].strip() for node in range(nodes)].count("0") == 1
    tree = "/sys/devices/system/node"
    of_cpu = container.output(["sh", "-c", "cd /sys/devices/system/cpu/cpu0/node[0-9]* && pwd -P"]).strip()
    node = of_cpu.removeprefix(f"{tree}/")
    assert container.output(["readlink", f"{tree}/{node}/cpu0"]) == "../../cpu/cpu0\n"
    text = container.output(["sh", "-c", f"cat {tree}/node[0-9]*/meminfo"])
    totals = [int(line.split()[3]) for line in text.splitlines() if " MemTotal:" in line]
    assert (len(totals), sum(totals)) == (nodes, MEMORY_BYTES // 1024)


def test_psutil_sees_the_container(container: Container) -> None:
    seen = json.loads(container.output([PYTHON, "-c", _PSUTIL]))
    assert seen["memory"]["total"] == MEMORY_BYTES
    assert 0 < seen["memory"]["available"] <= MEMORY_BYTES
    assert 0 <= seen["memory"]["percent"] <= 100
    assert seen["swap"]["used"] <= seen["swap"]["total"]
    assert len(seen["cpus"]) == 1
    assert seen["cpus"][0]["idle"] <= seen["cpu"]["idle"] <= seen["cpus_after"][0]["idle"]
    assert seen["cpu"]["iowait"] == 0
    assert len(seen["load"]) == 3
    # The host's btime: psutil and ps add it to start times that count from the host's boot.
    assert abs(seen["init_start"] - time.time()) < patient(60)


def test_top_shows_the_container(container: Container) -> None:
    lines = container.output(["top", "-b", "-n", "1"]).splitlines()
    assert lines[0].startswith("top - ")
    memory = next(line for line in lines if "Mem :" in line)
    assert memory.split(":")[1].split()[0] == "512.0"
    assert next(line for line in lines if line.startswith("%Cpu(s):")).count(",") == 7
    assert any(line.split()[:1] == ["1"] for line in lines), "init is in the list"


def test_busybox_top_shows_the_container(container: Container) -> None:
    lines = container.output(["busybox", "top", "-b", "-n", "1"]).splitlines()
    words = lines[0].split()  # Mem: 4980K used, 519308K free, ...
    used_kb, free_kb = (int(words[index].rstrip("K")) for index in (1, 3))
    assert used_kb + free_kb == MEMORY_BYTES // 1024
    assert lines[1].startswith("CPU:")
    assert lines[2].startswith("Load average:")


def test_busybox_free_and_uptime_work(container: Container) -> None:
    """They ask the kernel (sysinfo(2)) for most of their numbers, which no file can change."""
    assert container.output(["busybox", "free"]).splitlines()[1].startswith("Mem:")
    assert " up " in container.output(["busybox", "uptime"])


def test_uptime_is_the_age_of_the_container(container: Container) -> None:
    def seconds() -> float:
        return float(container.read("/proc/uptime").split()[0])

    first = seconds()
    assert 0 <= first < patient(30)
    time.sleep(0.5)
    assert 0.4 < seconds() - first < patient(10)
    assert " up " in container.output(["uptime"])
    assert container.output(["uptime", "--pretty"]).startswith("up ")


def test_vmstat_prints_two_rows_of_numbers(container: Container) -> None:
    lines = container.output(["vmstat", "1", "2"]).splitlines()
    columns = lines[1].split()
    assert len(lines) == 4
    for line in lines[2:]:
        row = dict(zip(columns, (int(word) for word in line.split()), strict=True))
        assert 0 <= row["free"] <= MEMORY_BYTES // 1024
        assert 98 <= row["us"] + row["sy"] + row["id"] + row["wa"] + row["st"] <= 102


def test_vmstat_counts_what_the_container_does(container: Container) -> None:
    """Page faults of a process that touches 64 MiB page by page, and the sums of ``vmstat -s``."""

    def faults() -> int:
        return next(int(line.split()[1]) for line in container.read("/proc/vmstat").splitlines() if "pgfault" in line)

    before = faults()
    container.output([PYTHON, "-c", _TOUCH_64_MIB])
    assert 64 * 256 <= faults() - before < 64 * 256 + 100_000
    summary = {line.split(maxsplit=1)[1]: line.split()[0] for line in container.output(["vmstat", "-s"]).splitlines()}
    assert int(summary["K total memory"]) == MEMORY_BYTES // 1024
    assert 0 <= int(summary["K used memory"]) <= MEMORY_BYTES // 1024
    assert (summary["interrupts"], summary["CPU context switches"]) == ("0", "0")
    assert all(summary[name].isdigit() for name in ("K paged in", "K paged out", "pages swapped in")) or (
        all(summary[name].isdigit() for name in ("pages paged in", "pages paged out", "pages swapped in"))
    )


def test_iostat_prints_shares_of_cpu_time(container: Container) -> None:
    # The second report: the first is about all time so far, which for a container may be none.
    lines = container.output(["iostat", "-x", "1", "2"]).splitlines()
    _, header = (number for number, line in enumerate(lines) if line.startswith("avg-cpu"))
    shares = [float(word) for word in lines[header + 1].split()]
    assert 99 < sum(shares) < 101


def test_mpstat_shows_as_many_cpus_as_there_are(container: Container) -> None:
    lines = container.output(["mpstat", "-P", "ALL"]).splitlines()
    assert "(1 CPU)" in lines[0]
    cpus = [line.split()[1] for line in lines[3:] if line.strip()]
    assert cpus == ["all", "0"]


def test_ps_lists_the_processes_of_the_container(container: Container) -> None:
    lines = container.output(["ps", "-e", "-o", "pid,etimes,args"]).splitlines()
    assert any(line.split()[0] == "1" and "sleep infinity" in line for line in lines)
