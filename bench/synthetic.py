"""A host with 256 x86 CPUs and one container on cgroup v2, written into a directory: only what cpuinfo needs.

For the bound on cpuinfo where the host's file is large (about 600 KB). The trees of the tests are richer; this one is
for speed only.
"""

from dataclasses import dataclass
from pathlib import Path

HOST_PIDNS, CONTAINER_PIDNS = 4026531836, 4026532200
CGROUPNS = 4026531835
INIT, CALLER = 1000, 1001
GROUP = "machine.slice/bench.scope"

# As many flags as a large server of today prints; their number and length is what counts.
FLAGS = " ".join(f"flag_{number:03d}" for number in range(130))

STANZA = """\
processor\t: {cpu}
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 143
model name\t: Intel(R) Xeon(R) Platinum 8480+
stepping\t: 8
microcode\t: 0x2b000461
cpu MHz\t\t: {mhz}.000
cache size\t: 107520 KB
physical id\t: {package}
siblings\t: 128
core id\t\t: {core}
cpu cores\t: 64
apicid\t\t: {apic}
initial apicid\t: {apic}
fpu\t\t: yes
fpu_exception\t: yes
cpuid level\t: 32
wp\t\t: yes
flags\t\t: {flags}
bugs\t\t: spectre_v1 spectre_v2 spec_store_bypass swapgs eibrs_pbrsb bhi
bogomips\t: 4000.00
clflush size\t: 64
cache_alignment\t: 64
address sizes\t: 46 bits physical, 57 bits virtual
power management:

"""


@dataclass(frozen=True)
class SyntheticHost:
    proc: Path
    sys: Path
    cgroup: Path
    caller: int
    cpuinfo_bytes: int


def build(root: Path, cpus: int = 256) -> SyntheticHost:
    """The container is allowed all the CPUs: the most that a render of cpuinfo can have to write."""
    cpuinfo = "".join(
        STANZA.format(cpu=cpu, mhz=2000 + cpu, package=cpu * 2 // cpus, core=cpu % 64, apic=cpu * 2 % 512, flags=FLAGS)
        for cpu in range(cpus)
    )
    everywhere = f"0-{cpus - 1}\n"
    files = {
        "proc/cpuinfo": cpuinfo,
        "proc/stat": "cpu  1 0 1 1 0 0 0 0 0 0\nbtime 1700000000\nsoftirq 0 0 0 0 0 0 0 0 0 0 0\n",
        "proc/meminfo": "MemTotal:       1056784492 kB\nMemFree:        1000000000 kB\n",
        "proc/diskstats": "",
        "proc/sys/kernel/osrelease": "6.1.0-synthetic\n",
        "sys/devices/system/cpu/online": everywhere,
        "sys/devices/system/cpu/possible": everywhere,
        "sys/devices/system/cpu/present": everywhere,
        "cgroup/cgroup.controllers": "cpuset cpu io memory pids\n",
    }
    group = ""
    for part in ("", *GROUP.split("/")):
        group = f"{group}/{part}".rstrip("/")
        files[f"cgroup{group}/cpuset.cpus.effective"] = everywhere
        if part:
            files[f"cgroup{group}/cgroup.controllers"] = "cpuset cpu io memory pids\n"
            files[f"cgroup{group}/cpu.max"] = "max 100000\n"
            files[f"cgroup{group}/memory.max"] = "max\n"
    mount = "30 20 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime - cgroup2 cgroup2 rw\n"
    _process(files, "self", 1, "1", "/", mount)
    _process(files, str(INIT), 1, f"{INIT}\t1", f"/{GROUP}", mount)
    _process(files, str(CALLER), INIT, f"{CALLER}\t2", f"/{GROUP}", mount)
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for process, pidns in (
        ("self", HOST_PIDNS),
        (str(INIT), CONTAINER_PIDNS),
        (str(CALLER), CONTAINER_PIDNS),
    ):
        namespaces = root / "proc" / process / "ns"
        namespaces.mkdir()
        for kind in ("pid", "pid_for_children"):
            (namespaces / kind).symlink_to(f"pid:[{pidns}]")
        (namespaces / "cgroup").symlink_to(f"cgroup:[{CGROUPNS}]")
        (namespaces / "user").symlink_to("user:[4026531837]")
        (namespaces / "mnt").symlink_to(f"mnt:[{pidns + 1}]")
    return SyntheticHost(root / "proc", root / "sys", root / "cgroup", CALLER, len(cpuinfo))


def _process(files: dict[str, str], name: str, parent: int, numbers: str, group: str, mountinfo: str) -> None:
    """``numbers``: its pids from the host's namespace down, as NSpid has them."""
    pid = numbers.split()[0]
    # Field 22, when it started, is what matters here: 50 s after boot.
    stat = f"{pid} (bench) S {parent} 1 1 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 5000 1 1" + " 0" * 28
    files[f"proc/{name}/cgroup"] = f"0::{group}\n"
    files[f"proc/{name}/mountinfo"] = mountinfo
    files[f"proc/{name}/stat"] = stat + "\n"
    files[f"proc/{name}/status"] = f"Name:\tbench\nPid:\t{pid}\nPPid:\t{parent}\nNSpid:\t{numbers}\n"
