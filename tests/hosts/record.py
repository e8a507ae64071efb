#!/usr/bin/env python3
"""Record what a host tree needs from a live host, for one container. Standard library only: it runs in bare guests.

    record.py --init PID --pid PID [--rename OLD=NEW ...] > tests/hosts/recorded/NAME.tree

Runs in the host's pid namespace, as root. ``--init`` is the container's first process, ``--pid`` any other process in
it. Only what a view reads is taken: no environment, no command line, no other process or cgroup. ``--rename`` replaces
words that name the machine, such as cgroup paths.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import stat
import sys
import time
from contextlib import suppress
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.hosts.trees import TreeText

HOST_FILES = (
    "meminfo", "stat", "cpuinfo", "uptime", "swaps", "diskstats", "partitions", "loadavg", "vmstat",
    "sys/vm/overcommit_ratio",
)  # fmt: skip
PROCESS_FILES = ("stat", "status", "cgroup", "mountinfo", "timens_offsets")
CGROUP_FILE = re.compile(
    r"cgroup\.(controllers|procs|threads)|tasks|memory\.(max|current|stat|events|oom_control|numa_stat|swap\.(max|current)|swappiness"
    r"|(memsw\.|kmem\.)?(limit|usage)_in_bytes)|cpu\.(max|stat|cfs_quota_us|cfs_period_us)|cpuacct\.(usage|usage_all|usage_percpu|stat)"
    r"|cpuset\.(cpus|cpus\.effective|effective_cpus|mems|mems\.effective|effective_mems)|io\.stat|(cpu|memory|io)\.pressure|pids\.current"
    r"|blkio\.throttle\.(io_serviced|io_service_bytes)_recursive|hugetlb\.\w+\.(max|current|rsvd\.\w+|limit_in_bytes|usage_in_bytes)"
)
KEPT_MOUNTS = re.compile(r"/|/proc|/sys|/dev|/run|/var/tmp(/record\S*)?|/sys/fs/cgroup(/\S*)?")


class Recorder:
    """Copies files of the live system into a TreeText. Files that are not there are not in the tree."""

    def __init__(self) -> None:
        self.tree = TreeText()

    def file(self, source: str, path: str) -> None:
        try:
            with open(source, "rb") as opened:
                text = opened.read().decode("utf-8", "surrogateescape")
        except OSError:
            return
        if path.endswith("/mountinfo"):
            text = "".join(line + "\n" for line in text.splitlines() if KEPT_MOUNTS.fullmatch(line.split()[4]))
        self.tree.files[path] = text

    def process(self, pid: int | str, *, files: tuple[str, ...] = PROCESS_FILES, threads: bool = False) -> None:
        for name in files:
            self.file(f"/proc/{pid}/{name}", f"proc/{pid}/{name}")
        for name in ("pid", "cgroup", "time", "time_for_children"):
            with suppress(PermissionError):  # the host's init can be out of reach even for root in a guest
                self.tree.links[f"proc/{pid}/ns/{name}"] = os.readlink(f"/proc/{pid}/ns/{name}")
        if threads:
            for tid in os.listdir(f"/proc/{pid}/task"):
                self.file(f"/proc/{pid}/task/{tid}/stat", f"proc/{pid}/task/{tid}/stat")
                self.file(f"/proc/{pid}/task/{tid}/status", f"proc/{pid}/task/{tid}/status")

    def cpus(self) -> None:
        top = "sys/devices/system/cpu"
        for name in ("online", "offline", "possible", "present", "kernel_max"):
            self.file(f"/{top}/{name}", f"{top}/{name}")
        for folder in Path("/", top).glob("cpu[0-9]*"):
            here = f"{top}/{folder.name}"
            self.file(f"/{here}/online", f"{here}/online")
            for name in os.listdir(f"/{here}/topology"):
                self.file(f"/{here}/topology/{name}", f"{here}/topology/{name}")
            for link in Path("/", here).glob("node[0-9]*"):
                self.tree.links[f"{here}/{link.name}"] = os.readlink(link)

    def nodes(self) -> None:
        """The memory nodes. What else is there names blocks of memory, or does something when it is written."""
        top = "sys/devices/system/node"
        for name in ("online", "possible", "has_cpu", "has_memory", "has_normal_memory", "has_generic_initiator"):
            self.file(f"/{top}/{name}", f"{top}/{name}")
        for folder in Path("/", top).glob("node[0-9]*"):
            here = f"{top}/{folder.name}"
            for name in ("cpulist", "cpumap", "distance", "meminfo", "numastat", "vmstat"):
                self.file(f"/{here}/{name}", f"{here}/{name}")
            for link in folder.glob("cpu[0-9]*"):
                self.tree.links[f"{here}/{link.name}"] = os.readlink(link)

    def huge_pages(self) -> None:
        for folder in Path("/sys/kernel/mm/hugepages").glob("*"):
            self.file(f"{folder}/nr_hugepages", f"{str(folder)[1:]}/nr_hugepages")
        size = "sys/kernel/mm/transparent_hugepage/hpage_pmd_size"
        self.file(f"/{size}", size)

    def disks(self) -> None:
        for link in Path("/sys/dev/block").iterdir():
            target = os.readlink(link)
            if int(Path(link, "size").read_text()) == 0:
                continue  # unused loop devices
            self.tree.links[f"sys/dev/block/{link.name}"] = target
            for name in ("dev", "size", "partition"):
                self.file(f"{link}/{name}", os.path.normpath(f"sys/dev/block/{target}/{name}"))

    def cgroups(self, pid: int) -> None:
        """Each hierarchy's cgroups from the root to the process's own."""
        paths = [line.split(":", 2)[1:] for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()]
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            mount, _, source = line.partition(" - ")
            point, (kind, _, options) = mount.split()[4], source.split()
            if not kind.startswith("cgroup"):
                continue
            names = set(options.split(","))
            path = next((p for c, p in paths if (names & set(c.split(",")) if c else kind == "cgroup2")), None)
            if path is None:
                continue
            where = "cgroup" + point.removeprefix("/sys/fs/cgroup")
            for part in ["", *filter(None, path.split("/"))]:
                point, where = (f"{point}/{part}", f"{where}/{part}") if part else (point, where)
                for name in os.listdir(point):
                    if CGROUP_FILE.fullmatch(name) and (part or not name.endswith(("procs", "threads", "tasks"))):
                        self.file(f"{point}/{name}", f"{where}/{name}")

    def device_nodes(self, pid: int) -> None:
        """Block devices in the container's /dev."""
        self.tree.links[f"proc/{pid}/root"] = "../../rootfs"
        for entry in os.scandir(f"/proc/{pid}/root/dev"):
            status = entry.stat(follow_symlinks=False)
            if stat.S_ISBLK(status.st_mode):
                self.tree.nodes[f"rootfs/dev/{entry.name}"] = ("b", os.major(status.st_rdev), os.minor(status.st_rdev))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--init", type=int, required=True)
    parser.add_argument("--pid", type=int, required=True)
    parser.add_argument("--rename", action="append", default=[], metavar="OLD=NEW")
    options = parser.parse_args()
    recorder = Recorder()
    for name in HOST_FILES:
        recorder.file(f"/proc/{name}", f"proc/{name}")
    recorder.process("self", files=("mountinfo",))
    recorder.process(1)
    recorder.process(options.init, threads=True)
    recorder.process(options.pid, threads=True)
    recorder.cpus()
    recorder.nodes()
    recorder.huge_pages()
    recorder.disks()
    recorder.cgroups(options.init)
    recorder.device_nodes(options.init)
    tree = recorder.tree
    tree.notes = {
        "kernel": platform.release(),
        "machine": platform.machine(),
        "boottime_ns": str(time.clock_gettime_ns(time.CLOCK_BOOTTIME)),
        "init": str(options.init),
        "pid": str(options.pid),
    }
    text = tree.dump()
    for rename in options.rename:
        old, _, new = rename.partition("=")
        text = text.replace(old, new)
    sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))


if __name__ == "__main__":
    main()
