"""Writes a modelled host and its containers as the files the kernel would show: a tree that an Engine can be opened on.

tree = build(tmp_path, Layout.V2, host, container)
engine = Engine(**tree.roots)
tree.update(changed_container)      # rewrites files in place: descriptors the engine holds stay good
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.hosts.cpus import cpu_list, cpu_mask, cpuinfo_x86
from tests.hosts.model import (
    NS_PER_TICK,
    V1_UNLIMITED_BYTES,
    Container,
    Disk,
    Host,
    HugePages,
    Layout,
    Level,
    MeminfoLine,
    MemoryNode,
)

HOST_PIDNS = 4_026_531_836
HOST_CGROUPNS = 4_026_531_835
HOST_TIMENS = 4_026_531_834
HOST_CPU = (900, 80, 700, 60_000, 50, 4, 3, 20, 1, 1)
"""Each of the host's CPUs in its /proc/stat, in ticks."""

V1_MOUNTS = {
    "cpu": ("cpu,cpuacct", "cpu,cpuacct"),
    "cpuset": ("cpuset", "cpuset"),
    "memory": ("memory", "memory"),
    "io": ("blkio", "blkio"),
    "pids": ("pids", "pids"),
    "hugetlb": ("hugetlb", "hugetlb"),
}
"""Controller (v2 name) -> (folder of its v1 hierarchy, its controllers as mount options name them)."""


def meminfo_lines(host: Host) -> tuple[MeminfoLine, ...]:
    """The host's meminfo, with a plausible one of 16 GB where the model leaves it open."""
    if host.meminfo:
        return host.meminfo
    huge = host.huge_page_kb
    values = {
        "MemTotal": 16_384_000, "MemFree": 9_000_000, "MemAvailable": 14_000_000, "Buffers": 300_000,
        "Cached": 4_000_000, "SwapCached": 7, "Active": 3_000_000, "Inactive": 2_000_000,
        "Active(anon)": 1_500_000, "Inactive(anon)": 100_000,
        "Active(file)": 1_500_000, "Inactive(file)": 1_900_000, "Unevictable": 64, "Mlocked": 64,
        "SwapTotal": host.swap_total_kb, "SwapFree": host.swap_free_kb,
        "Zswap": 5, "Zswapped": 6, "Dirty": 8, "Writeback": 9,
        "AnonPages": 1_200_000, "Mapped": 400_000, "Shmem": 90_000, "KReclaimable": 250_000, "Slab": 400_000,
        "SReclaimable": 250_000, "SUnreclaim": 150_000, "KernelStack": 14_000,
        "PageTables": 20_000, "SecPageTables": 11,
        "NFS_Unstable": 12, "Bounce": 13, "WritebackTmp": 14, "CommitLimit": 8_192_000, "Committed_AS": 5_000_000,
        "VmallocTotal": 34_359_738_367, "VmallocUsed": 60_000, "VmallocChunk": 0, "Percpu": 9_000,
        "HardwareCorrupted": 0,
        "AnonHugePages": 500_000, "ShmemHugePages": 15, "ShmemPmdMapped": 16, "FileHugePages": 17, "FilePmdMapped": 18,
        "HugePages_Total": 64, "HugePages_Free": 32, "HugePages_Rsvd": 4, "HugePages_Surp": 2,
        "Hugepagesize": huge,
        "Hugetlb": 64 * huge + sum(kb * pages for kb, pages in host.more_huge_pages),
        "DirectMap4k": 300_000, "DirectMap2M": 9_000_000,
    }  # fmt: skip
    return tuple(
        MeminfoLine(name, value, "" if name.startswith("HugePages_") else "kB") for name, value in values.items()
    )


VMSTAT_NAMES = """
nr_free_pages nr_free_pages_blocks nr_zone_inactive_anon nr_zone_active_anon nr_zone_inactive_file nr_zone_active_file
nr_zone_unevictable nr_zone_write_pending nr_mlock nr_zspages nr_free_cma numa_hit numa_miss numa_foreign
numa_interleave numa_local numa_other nr_inactive_anon nr_active_anon nr_inactive_file nr_active_file nr_unevictable
nr_slab_reclaimable nr_slab_unreclaimable nr_isolated_anon nr_isolated_file workingset_nodes workingset_refault_anon
workingset_refault_file workingset_activate_anon workingset_activate_file workingset_restore_anon
workingset_restore_file workingset_nodereclaim nr_anon_pages nr_mapped nr_file_pages nr_dirty nr_writeback nr_shmem
nr_shmem_hugepages nr_shmem_pmdmapped nr_file_hugepages nr_file_pmdmapped nr_anon_transparent_hugepages
nr_vmscan_write nr_dirtied nr_written nr_kernel_misc_reclaimable nr_foll_pin_acquired nr_kernel_stack
nr_page_table_pages nr_sec_page_table_pages nr_iommu_pages nr_swapcached pgpromote_success pgdemote_direct nr_hugetlb
nr_dirty_threshold nr_dirty_background_threshold nr_memmap_pages pgpgin pgpgout pswpin pswpout pgalloc_normal
allocstall_normal pgskip_normal pgfree pgactivate pgdeactivate pglazyfree pgfault pgmajfault pglazyfreed pgrefill
pgreuse pgsteal_kswapd pgsteal_direct pgsteal_proactive pgscan_kswapd pgscan_direct pgscan_proactive pgscan_anon
pgsteal_file slabs_scanned pgrotated drop_pagecache oom_kill numa_hint_faults numa_pages_migrated pgmigrate_success
thp_migration_success compact_stall unevictable_pgs_culled thp_fault_alloc thp_fault_fallback thp_collapse_alloc
thp_split_page thp_swpout balloon_inflate swap_ra swpin_zero swpout_zero zswpin zswpout zswpwb
direct_map_level2_splits nr_unstable
""".split()  # noqa: SIM905
"""Linux 6.18's, less those that differ from another one in nothing but the last word."""


def vmstat_lines(host: Host) -> tuple[tuple[str, int], ...]:
    """The host's vmstat: numbers that no container may show, each one another."""
    if host.vmstat:
        return host.vmstat
    return tuple((name, 700_000_000_000 + 1_000_003 * number) for number, name in enumerate(VMSTAT_NAMES))


NUMASTAT_NAMES = ("numa_hit", "numa_miss", "numa_foreign", "interleave_hit", "local_node", "other_node")

NODE_LINES = (
    "SwapCached", "Active", "Inactive", "Active(anon)", "Inactive(anon)", "Active(file)", "Inactive(file)",
    "Unevictable", "Mlocked", "Dirty", "Writeback", "FilePages", "Mapped", "AnonPages", "Shmem", "KernelStack",
    "PageTables", "SecPageTables", "NFS_Unstable", "Bounce", "WritebackTmp", "KReclaimable", "Slab", "SReclaimable",
    "SUnreclaim", "AnonHugePages", "ShmemHugePages", "ShmemPmdMapped", "FileHugePages", "FilePmdMapped", "Unaccepted",
)  # fmt: skip


def node_meminfo(node: MemoryNode) -> str:
    """As drivers/base/node.c of the kernel prints it, with numbers that no container may show but for its size."""
    values = {"MemTotal": node.total_kb, "MemFree": node.total_kb // 2, "MemUsed": node.total_kb - node.total_kb // 2}
    values |= dict.fromkeys(NODE_LINES, 4711)
    lines = [f"Node {node.number} {name + ':':<16}{value:>8} kB\n" for name, value in values.items()]
    for name, pages in (("HugePages_Total", 32), ("HugePages_Free", 16), ("HugePages_Surp", 1)):
        lines.append(f"Node {node.number} {name + ':':<17}{pages if node.total_kb else 0:>5}\n")
    return "".join(lines)


def escape_mount(path: str) -> str:
    """A path as mountinfo prints it: space, tab, newline, backslash and # in octal."""
    return "".join(f"\\{ord(char):03o}" if char in " \t\n\\#" else char for char in path)


def huge_page_size_name(kb: int) -> str:
    """A page size as the hugetlb controller names its files: 64KB, 2MB, 1GB."""
    for unit, size in (("GB", 1 << 20), ("MB", 1 << 10)):
        if kb >= size:
            return f"{kb // size}{unit}"
    return f"{kb}KB"


@dataclass
class Tree:
    """A host tree on disk. ``base`` holds proc, sys, cgroup and the containers' root folders."""

    base: Path
    layout: Layout
    host: Host
    containers: list[Container]

    @property
    def roots(self) -> dict[str, Any]:
        """What an Engine is made from."""
        return {
            "proc": str(self.base / "proc"),
            "sys": str(self.base / "sys"),
            "cgroup": str(self.base / "cgroup"),
            "boottime_ns": self.host.boottime_ns,
        }

    def write(self, path: str, text: str | bytes) -> None:
        """Write a file below base; in place when it exists, so that descriptors kept open see the change."""
        data = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        where = f"{self.base}/{path}"
        if len(os.fsencode(where)) < 4000:
            try:
                file = os.open(where, flags, 0o644)
            except FileNotFoundError:
                os.makedirs(os.path.dirname(where), exist_ok=True)
                file = os.open(where, flags, 0o644)
        else:
            file = self._open_step_by_step(path, flags)
        try:
            while data:
                data = data[os.write(file, data) :]
        finally:
            os.close(file)

    def _open_step_by_step(self, path: str, flags: int) -> int:
        """Paths longer than PATH_MAX can only be opened folder by folder."""
        *folders, name = path.split("/")
        directory = os.open(self.base, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for folder in folders:
                with suppress(FileExistsError):
                    os.mkdir(folder, dir_fd=directory)
                below = os.open(folder, os.O_RDONLY | os.O_DIRECTORY, dir_fd=directory)
                os.close(directory)
                directory = below
            return os.open(name, flags, 0o644, dir_fd=directory)
        finally:
            os.close(directory)

    def link(self, path: str, target: str) -> None:
        """Make a symbolic link below base; it may dangle."""
        where = self.base / path
        where.parent.mkdir(parents=True, exist_ok=True)
        where.unlink(missing_ok=True)
        where.symlink_to(target)

    def remove(self, path: str) -> None:
        """Take a file away."""
        (self.base / path).unlink()

    def cgroup_file(self, container: Container, controller: str, name: str, *, level: int = -1) -> str:
        """Path below base of a file in one of the container's cgroups."""
        names = container.path(controller).strip("/").split("/")
        names = names[: level + 1] if level >= 0 else names[: len(names) + level + 1]
        return "/".join([*self._hierarchy(controller), *names, name])

    def _hierarchy(self, controller: str) -> tuple[str, ...]:
        return ("cgroup",) if self.layout.is_v2 else ("cgroup", V1_MOUNTS[controller][0])

    # the host

    def write_host(self) -> None:
        """Everything that is the kernel's and not a container's."""
        host = self.host
        self.write("proc/meminfo", "".join(line.text for line in meminfo_lines(host)))
        self.write("proc/sys/vm/overcommit_ratio", f"{host.overcommit_ratio}\n")
        self.write("proc/stat", host_stat(host))
        self.write("proc/vmstat", _keys(vmstat_lines(host)))
        self.write(
            "proc/uptime", f"{host.boottime_ns / 10**9:.2f} {host.boottime_ns * len(host.online) / 10**9 / 2:.2f}\n"
        )
        self.write("proc/loadavg", host.loadavg)
        self.write("proc/cpuinfo", cpuinfo_x86(host))
        self.write("proc/swaps", "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n" + host_swap_line(host))
        self.write("proc/diskstats", host_diskstats(host))
        self.write("proc/partitions", host_partitions(host))
        self.write("proc/pressure/cpu", "some avg10=1.00 avg60=1.00 avg300=1.00 total=1\n")
        self._write_process(1, 0, "systemd", 1, (1,), mountinfo=self._mountinfo(None))
        self.write("proc/1/cgroup", self._cgroup_of(None))
        self._write_identity("proc/1", HOST_PIDNS, HOST_CGROUPNS)
        self.write("proc/self/mountinfo", self._mountinfo(None))
        self._write_identity("proc/self", HOST_PIDNS, HOST_CGROUPNS)
        folder = f"sys/kernel/mm/hugepages/hugepages-{host.huge_page_kb}kB"
        pages = next((line.value for line in meminfo_lines(host) if line.name == "HugePages_Total"), 0)
        self.write(f"{folder}/nr_hugepages", f"{pages}\n")
        for kb, pages in host.more_huge_pages:
            self.write(f"sys/kernel/mm/hugepages/hugepages-{kb}kB/nr_hugepages", f"{pages}\n")
        if host.transparent_huge_page_bytes is not None:
            self.write("sys/kernel/mm/transparent_hugepage/hpage_pmd_size", f"{host.transparent_huge_page_bytes}\n")
        self._write_cpus()
        self._write_nodes()
        for disk in host.disks:
            self._write_disk(disk)
        self._write_root_cgroups()

    def _write_cpus(self) -> None:
        host = self.host
        top = "sys/devices/system/cpu"
        offline = [cpu for cpu in host.possible_cpus if cpu not in host.online]
        for name, cpus in (
            ("online", host.online),
            ("present", host.present_cpus),
            ("possible", host.possible_cpus),
            ("offline", offline),
        ):
            self.write(f"{top}/{name}", cpu_list(cpus) + "\n")
        self.write(f"{top}/kernel_max", f"{host.kernel_max}\n")
        self.write(f"{top}/smt/active", "0\n")
        width = max(host.possible_cpus) + 1
        for cpu in host.present_cpus if host.has_cpu_folders else ():
            here = f"{top}/cpu{cpu}"
            if host.has_online_file and cpu:
                self.write(f"{here}/online", f"{int(cpu in host.online)}\n")
            self.write(f"{here}/uevent", f"MAJOR=13\nCPU={cpu}\n")
            self.write(f"{here}/cache/index0/level", "1\n")
            if cpu not in host.online:
                continue
            core = tuple(other for other in host.online if other // 2 == cpu // 2)
            package = tuple(other for other in host.online if host.package_of(other) == host.package_of(cpu))
            for name, cpus in (
                ("core_cpus", core),
                ("core_siblings", package),
                ("package_cpus", package),
                ("thread_siblings", core),
            ):
                self.write(f"{here}/topology/{name}", cpu_mask(cpus, width) + "\n")
                self.write(f"{here}/topology/{name}_list", cpu_list(cpus) + "\n")
            self.write(f"{here}/topology/core_id", f"{cpu // 2}\n")
            self.write(f"{here}/topology/physical_package_id", f"{host.package_of(cpu)}\n")

    def _write_nodes(self) -> None:
        host = self.host
        if not host.nodes:
            return
        top = "sys/devices/system/node"
        online = cpu_list(node.number for node in host.nodes)
        with_memory = cpu_list(node.number for node in host.nodes if node.total_kb)
        for name, text in (
            ("online", online),
            ("possible", online),
            ("has_cpu", cpu_list(node.number for node in host.nodes if node.cpus)),
            ("has_memory", with_memory),
            ("has_normal_memory", with_memory),
            ("has_generic_initiator", ""),
        ):
            self.write(f"{top}/{name}", f"{text}\n")
        width = max(host.possible_cpus) + 1
        for node in host.nodes:
            here = f"{top}/node{node.number}"
            self.write(f"{here}/cpulist", cpu_list(node.cpus) + "\n")
            self.write(f"{here}/cpumap", cpu_mask(node.cpus, width) + "\n")
            self.write(f"{here}/distance", " ".join(str(node.distance(other)) for other in host.nodes) + "\n")
            self.write(f"{here}/numastat", _keys((name, 4711) for name in NUMASTAT_NAMES))
            self.write(f"{here}/meminfo", node_meminfo(node))
            self.write(f"{here}/vmstat", "nr_free_pages 4711\n")
            self.write(f"{here}/hugepages/hugepages-2048kB/nr_hugepages", "4711\n")
            for cpu in node.cpus:
                self.link(f"{here}/cpu{cpu}", f"../../cpu/cpu{cpu}")
                if host.has_cpu_folders and cpu in host.online:
                    self.link(f"sys/devices/system/cpu/cpu{cpu}/node{node.number}", f"../../node/node{node.number}")

    def _write_disk(self, disk: Disk) -> None:
        folder = f"devices/{disk.sysfs_dir}/{disk.name}"
        self.write(f"sys/{folder}/dev", f"{disk.major}:{disk.minor}\n")
        self.write(f"sys/{folder}/size", f"{disk.size_sectors}\n")
        self.link(f"sys/dev/block/{disk.major}:{disk.minor}", f"../../{folder}")
        if disk.stacked_as:
            self.write(f"sys/{folder}/{disk.stacked_as}/uuid", "\n")
        self.link(f"sys/class/block/{disk.name}", f"../../{folder}")
        for number, partition in enumerate(disk.partitions, 1):
            self.write(f"sys/{folder}/{partition.name}/dev", f"{disk.major}:{partition.minor}\n")
            self.write(f"sys/{folder}/{partition.name}/partition", f"{number}\n")
            self.write(f"sys/{folder}/{partition.name}/size", f"{partition.size_sectors}\n")
            self.link(f"sys/dev/block/{disk.major}:{partition.minor}", f"../../{folder}/{partition.name}")
            self.link(f"sys/class/block/{partition.name}", f"../../{folder}/{partition.name}")

    def _write_root_cgroups(self) -> None:
        """The roots have few files on v2 and no limits; on v1 they look like any cgroup."""
        if self.layout.is_v2:
            self.write("cgroup/cgroup.controllers", "cpuset cpu io memory hugetlb pids\n")
            self.write("cgroup/cgroup.procs", "1\n")
            self.write("cgroup/cpuset.cpus.effective", cpu_list(self.host.online) + "\n")
            self.write("cgroup/cpuset.mems.effective", cpu_list(_mems(Level(""), self.host)) + "\n")
            self.write("cgroup/cpu.stat", "usage_usec 77\nuser_usec 55\nsystem_usec 22\n")
            return
        root = Level("")
        for controller, (folder, _) in V1_MOUNTS.items():
            self.write(f"cgroup/{folder}/cgroup.procs", "1\n")
            self._write_level_v1(f"cgroup/{folder}", controller, root)
        if self.layout is Layout.HYBRID:
            self.write("cgroup/unified/cgroup.controllers", "\n")
            self.write("cgroup/unified/cgroup.procs", "1\n")

    # containers

    def update(self, container: Container) -> None:
        """Write a container, anew or in place; one with the same init is replaced."""
        self.containers = [other for other in self.containers if other.init_pid != container.init_pid] + [container]
        self._write_cgroups(container)
        self._write_processes(container)

    def _write_cgroups(self, container: Container) -> None:
        for controller in V1_MOUNTS:
            for depth, level in enumerate(container.levels):
                folder = os.path.dirname(self.cgroup_file(container, controller, "x", level=depth))
                last = depth == len(container.levels) - 1
                if self.layout.is_v2:
                    self.write(f"{folder}/cgroup.procs", "")
                    if controller not in level.absent:
                        self._write_level_v2(folder, controller, level)
                        if last:
                            self._write_usage_v2(folder, controller, container)
                elif controller not in level.absent:
                    self.write(f"{folder}/cgroup.procs", "")
                    self._write_level_v1(folder, controller, level)
                    if last:
                        self._write_usage_v1(folder, controller, container)
        if not container.levels:
            return
        if self.layout.is_v2:
            # cpu.stat's times and the pressure files are there without any controller
            folder = os.path.dirname(self.cgroup_file(container, "cpu", "x"))
            if "cpu" in container.level.absent:
                self.write(f"{folder}/cpu.stat", self._cpu_stat_v2(container, controller_enabled=False))
        elif self.layout is Layout.HYBRID:
            folder = f"cgroup/unified{container.path()}"
            self.write(f"{folder}/cgroup.procs", "")
        else:
            return
        for name, text in container.pressure.items():
            self.write(f"{folder}/{name}.pressure", text)

    def _write_level_v2(self, folder: str, controller: str, level: Level) -> None:
        match controller:
            case "memory":
                self.write(f"{folder}/memory.max", _max(level.memory_max_bytes))
                self.write(f"{folder}/memory.current", f"{level.memory_current_bytes}\n")
                if level.has_swap:
                    self.write(f"{folder}/memory.swap.max", _max(level.swap_max_bytes))
                    self.write(f"{folder}/memory.swap.current", f"{level.swap_current_bytes}\n")
            case "cpu":
                quota = "max" if level.cpu_quota_usec is None else level.cpu_quota_usec
                self.write(f"{folder}/cpu.max", f"{quota} {level.cpu_period_usec}\n")
            case "cpuset":
                # what it asks for is more than it gets: a reader of the wrong file is found out
                self.write(f"{folder}/cpuset.cpus", cpu_list(self.host.possible_cpus) + "\n")
                self.write(f"{folder}/cpuset.cpus.effective", cpu_list(_cpus(level, self.host)) + "\n")
                self.write(f"{folder}/cpuset.mems", "\n")
                self.write(f"{folder}/cpuset.mems.effective", cpu_list(_mems(level, self.host)) + "\n")
            case "hugetlb":
                for prefix, pages in self._huge_pages(folder, level):
                    self.write(f"{prefix}.max", _max(pages.max_bytes))
                    self.write(f"{prefix}.current", f"{pages.current_bytes}\n")
                    self.write(f"{prefix}.rsvd.max", _max(pages.rsvd_max_bytes))
                    self.write(f"{prefix}.rsvd.current", f"{pages.rsvd_current_bytes}\n")

    def _huge_pages(self, folder: str, level: Level) -> Iterator[tuple[str, HugePages]]:
        for kb in (self.host.huge_page_kb, *(kb for kb, _ in self.host.more_huge_pages)):
            pages = level.huge_pages_of(kb, self.host)
            if pages is not None:
                yield f"{folder}/hugetlb.{huge_page_size_name(kb)}", pages

    def _cpu_stat_v2(self, container: Container, *, controller_enabled: bool) -> str:
        cpu = container.cpu
        lines = [
            f"usage_usec {cpu.user_usec + cpu.system_usec}",
            f"user_usec {cpu.user_usec}",
            f"system_usec {cpu.system_usec}",
        ]
        if cpu.nice_usec is not None:
            lines.append(f"nice_usec {cpu.nice_usec}")
        if controller_enabled:
            lines += [
                "nr_periods 5",
                "nr_throttled 2",
                f"throttled_usec {cpu.throttled_usec}",
                "nr_bursts 0",
                "burst_usec 0",
            ]
        return "\n".join(lines) + "\n"

    def _write_usage_v2(self, folder: str, controller: str, container: Container) -> None:
        match controller:
            case "memory":
                self.write(f"{folder}/memory.stat", _keys(container.memory_stat.items()))
                if container.numa_stat:
                    self.write(f"{folder}/memory.numa_stat", _numa_stat(container, self.layout))
                kills = [] if container.oom_kills is None else [("oom_kill", container.oom_kills)]
                self.write(f"{folder}/memory.events", _keys([("low", 0), ("max", 31), ("oom", 32), *kills]))
            case "cpu":
                self.write(f"{folder}/cpu.stat", self._cpu_stat_v2(container, controller_enabled=True))
            case "io":
                self.write(f"{folder}/io.stat", "".join(
                    f"{io.major}:{io.minor} rbytes={io.rbytes} wbytes={io.wbytes} rios={io.rios} wios={io.wios}"
                    f" dbytes={io.dbytes} dios={io.dios}\n" for io in container.io))  # fmt: skip
            case "pids":
                self.write(f"{folder}/pids.current", f"{container.pids_current}\n")

    def _write_level_v1(self, folder: str, controller: str, level: Level) -> None:
        match controller:
            case "memory":
                self.write(f"{folder}/memory.limit_in_bytes", _v1_limit(level.memory_max_bytes))
                self.write(f"{folder}/memory.usage_in_bytes", f"{level.memory_current_bytes}\n")
                self.write(f"{folder}/memory.swappiness", f"{level.swappiness}\n")
                if level.has_swap:
                    self.write(f"{folder}/memory.memsw.limit_in_bytes", _v1_limit(level.memsw_max_bytes))
                    self.write(f"{folder}/memory.memsw.usage_in_bytes", f"{level.memsw_current_bytes}\n")
            case "cpu":
                self.write(
                    f"{folder}/cpu.cfs_quota_us", f"{-1 if level.cpu_quota_usec is None else level.cpu_quota_usec}\n"
                )
                self.write(f"{folder}/cpu.cfs_period_us", f"{level.cpu_period_usec}\n")
            case "cpuset":
                self.write(f"{folder}/cpuset.cpus", cpu_list(_cpus(level, self.host)) + "\n")
                self.write(f"{folder}/cpuset.effective_cpus", cpu_list(_cpus(level, self.host)) + "\n")
                self.write(f"{folder}/cpuset.mems", cpu_list(_mems(level, self.host)) + "\n")
                self.write(f"{folder}/cpuset.effective_mems", cpu_list(_mems(level, self.host)) + "\n")
            case "hugetlb":
                for prefix, pages in self._huge_pages(folder, level):
                    self.write(f"{prefix}.limit_in_bytes", _v1_limit(pages.max_bytes))
                    self.write(f"{prefix}.usage_in_bytes", f"{pages.current_bytes}\n")
                    self.write(f"{prefix}.rsvd.limit_in_bytes", _v1_limit(pages.rsvd_max_bytes))
                    self.write(f"{prefix}.rsvd.usage_in_bytes", f"{pages.rsvd_current_bytes}\n")

    def _write_usage_v1(self, folder: str, controller: str, container: Container) -> None:
        match controller:
            case "memory":
                self.write(f"{folder}/memory.stat", _keys(container.memory_stat.items()))
                if container.numa_stat:
                    self.write(f"{folder}/memory.numa_stat", _numa_stat(container, self.layout))
                kills = [] if container.oom_kills is None else [("oom_kill", container.oom_kills)]
                self.write(f"{folder}/memory.oom_control", _keys([("oom_kill_disable", 0), ("under_oom", 0), *kills]))
                if container.kmem_bytes is not None:
                    self.write(f"{folder}/memory.kmem.usage_in_bytes", f"{container.kmem_bytes}\n")
            case "cpu":
                cpu = container.cpu
                self.write(
                    f"{folder}/cpu.stat", f"nr_periods 5\nnr_throttled 2\nthrottled_time {cpu.throttled_usec * 1000}\n"
                )
                rows = [f"{number} {user} {system}\n" for number, (user, system) in enumerate(cpu.per_cpu_ns)]
                self.write(f"{folder}/cpuacct.usage_all", "cpu user system\n" + "".join(rows))
                self.write(f"{folder}/cpuacct.usage_percpu", " ".join(str(u + s) for u, s in cpu.per_cpu_ns) + " \n")
                self.write(f"{folder}/cpuacct.usage", f"{sum(u + s for u, s in cpu.per_cpu_ns)}\n")
                user = sum(u for u, _ in cpu.per_cpu_ns) // NS_PER_TICK
                system = sum(s for _, s in cpu.per_cpu_ns) // NS_PER_TICK
                self.write(f"{folder}/cpuacct.stat", f"user {user}\nsystem {system}\n")
            case "io":
                for name, fields in (
                    ("io_serviced", ("rios", "wios", "dios")),
                    ("io_service_bytes", ("rbytes", "wbytes", "dbytes")),
                ):
                    self.write(f"{folder}/blkio.throttle.{name}_recursive", _blkio(container, fields))
            case "pids":
                self.write(f"{folder}/pids.current", f"{container.pids_current}\n")

    # processes

    def _cgroup_of(self, container: Container | None, below: str = "") -> str:
        """A process's /proc/<pid>/cgroup."""
        tail = f"/{below}" if below else ""

        def path(controller: str) -> str:
            return "/" if container is None else (container.path(controller).rstrip("/") + tail or "/")

        if self.layout.is_v2:
            return f"0::{path('')}\n"
        lines = []
        for number, (controller, (_, names)) in enumerate(V1_MOUNTS.items(), 2):
            if container is None or not container.levels or controller not in container.level.absent:
                lines.append(f"{number}:{names}:{path(controller)}\n")
        lines.append(f"1:name=systemd:{path('')}\n")
        if self.layout is Layout.HYBRID:
            lines.append(f"0::{path('')}\n")
        return "".join(lines)

    def _mountinfo(self, container: Container | None) -> str:
        """The host's mounts, or the container's with the root of its cgroup namespace in the root field."""
        lines = list(container.mounts if container is not None else (
            "20 1 8:1 / / rw,relatime shared:1 - ext4 /dev/root rw", *self.host.mounts))  # fmt: skip
        lines.append("21 20 0:20 / /proc rw,nosuid shared:2 - proc proc rw")
        lines.append("22 20 0:21 / /sys rw,nosuid shared:3 - sysfs sysfs rw")

        def root(controller: str) -> str:
            if container is None or container.cgroupns is None:
                return "/"
            count = container.cgroupns_root_levels
            names = container.path(controller).strip("/").split("/")
            return escape_mount("/" + "/".join(names if count is None else names[:count]))

        if self.layout.is_v2:
            lines.append(f"30 22 0:26 {root('')} /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate")
        else:
            lines.append("30 22 0:26 / /sys/fs/cgroup ro,nosuid shared:4 - tmpfs tmpfs ro,mode=755")
            for number, (controller, (folder, names)) in enumerate(V1_MOUNTS.items(), 31):
                if any(controller in c.level.absent for c in self.containers if c.levels):
                    continue  # on v1 a controller is absent when it is mounted nowhere
                lines.append(
                    f"{number} 30 0:{number} {root(controller)} /sys/fs/cgroup/{folder} rw shared:{number}"
                    f" - cgroup cgroup rw,{names}"
                )
            lines.append(
                f"50 30 0:50 {root('')} /sys/fs/cgroup/systemd rw shared:50 - cgroup cgroup rw,xattr,name=systemd"
            )
            if self.layout is Layout.HYBRID:
                lines.append(f"51 30 0:51 {root('')} /sys/fs/cgroup/unified rw shared:51 - cgroup2 cgroup2 rw")
        return "\n".join(lines) + "\n"

    def _write_identity(self, folder: str, pidns: int, cgroupns: int, timens: int = HOST_TIMENS) -> None:
        self.link(f"{folder}/ns/pid", f"pid:[{pidns}]")
        self.link(f"{folder}/ns/cgroup", f"cgroup:[{cgroupns}]")
        for name in ("time", "time_for_children"):
            self.link(f"{folder}/ns/{name}", f"time:[{timens}]")

    def _write_process(
        self,
        pid: int,
        ppid: int,
        comm: str,
        start_ticks: int,
        ns_pids: Sequence[int],
        *,
        state: str = "S",
        mountinfo: str,
    ) -> None:
        folder = f"proc/{pid}"
        self.write(f"{folder}/stat", process_stat(pid, comm, state, ppid, start_ticks))
        self.write(f"{folder}/status", process_status(pid, comm, state, ppid, ns_pids))
        self.write(f"{folder}/comm", comm + "\n")
        self.write(f"{folder}/mountinfo", mountinfo)
        self.write(f"{folder}/timens_offsets", "monotonic           0         0\nboottime            0         0\n")
        self.write(f"{folder}/task/{pid}/stat", process_stat(pid, comm, state, ppid, start_ticks))
        self.write(f"{folder}/task/{pid}/status", process_status(pid, comm, state, ppid, ns_pids))

    def _write_processes(self, container: Container) -> None:
        cgroupns = HOST_CGROUPNS if container.cgroupns is None else container.cgroupns
        mountinfo = self._mountinfo(container)
        seconds, nanoseconds = container.boottime_offset
        timens = HOST_TIMENS if container.boottime_offset == (0, 0) else container.pidns + 100_000
        rootfs = f"rootfs-{container.init_pid}"
        members: dict[str, list[int]] = {"": []}
        everyone: list[tuple[int, int, str, int, int, str, int | None, str]] = [
            (container.init_pid, 1, container.comm, container.start_ticks, 1, "S", None, container.init_below),
            (
                container.pid,
                container.init_pid,
                "caller",
                container.start_ticks + 50,
                2,
                "S",
                None,
                container.pid_below,
            ),
        ]
        everyone += [
            (
                thread.tid,
                container.init_pid,
                "worker",
                container.start_ticks + 60,
                thread.ns_tid,
                thread.state,
                thread.tgid,
                thread.below,
            )
            for thread in container.threads
        ]
        for pid, parent, comm, start, ns_pid, state, tgid, below in everyone:
            if tgid not in (None, pid):
                # a further thread: below its process, and (not listed in the real proc) under its own number
                self.write(f"proc/{pid}/status", process_status(pid, comm, state, parent, (pid, ns_pid)))
                self.write(f"proc/{pid}/stat", process_stat(pid, comm, state, parent, start))
                self.write(f"proc/{tgid}/task/{pid}/stat", process_stat(pid, comm, state, parent, start))
                self.write(f"proc/{tgid}/task/{pid}/status", process_status(pid, comm, state, parent, (pid, ns_pid)))
                continue
            self._write_process(pid, parent, comm, start, (pid, ns_pid), state=state, mountinfo=mountinfo)
            self.write(
                f"proc/{pid}/timens_offsets",
                f"monotonic           0         0\nboottime   {seconds:>10} {nanoseconds:>9}\n",
            )
            self.write(f"proc/{pid}/cgroup", self._cgroup_of(container, below))
            self._write_identity(f"proc/{pid}", container.pidns, cgroupns, timens)
            self.link(f"proc/{pid}/root", f"../../{rootfs}")
            members.setdefault(below, []).append(pid)
        (self.base / rootfs / "dev").mkdir(parents=True, exist_ok=True)
        tids = {t.tid: t.below for t in container.threads if t.tgid not in (None, t.tid)}
        for below, pids in members.items():
            threads = pids + [tid for tid, where in tids.items() if where == below]
            for controller in V1_MOUNTS:
                if not container.levels:
                    continue
                if not self.layout.is_v2 and controller in container.level.absent:
                    continue
                folder = os.path.dirname(self.cgroup_file(container, controller, "x")) + (f"/{below}" if below else "")
                self.write(f"{folder}/cgroup.procs", "".join(f"{pid}\n" for pid in pids))
                self.write(
                    f"{folder}/{'cgroup.threads' if self.layout.is_v2 else 'tasks'}",
                    "".join(f"{tid}\n" for tid in threads),
                )

    def make_device_nodes(self, container: Container) -> None:
        """The container's /dev. Needs to be root."""
        for node in container.dev:
            where = self.base / f"rootfs-{container.init_pid}" / "dev" / node.name
            where.parent.mkdir(parents=True, exist_ok=True)
            kind = {"b": 0o060000, "c": 0o020000}[node.kind]
            os.mknod(where, kind | 0o600, os.makedev(node.major, node.minor))


def build(base: Path, layout: Layout, host: Host, *containers: Container) -> Tree:
    """Write a whole host tree into an empty directory."""
    tree = Tree(base, layout, host, list(containers))
    tree.write_host()
    for container in containers:
        tree.update(container)
    return tree


def process_stat(pid: int, comm: str, state: str, ppid: int, start_ticks: int) -> str:
    """/proc/<pid>/stat: comm stands in brackets, raw, whatever it is made of."""
    before = f"{ppid} {pid} {pid} 0 -1 4194560 100 200 0 0 7 8 9 10 20 0 1 0"
    after = "10000000 500 18446744073709551615 1 1 0 0 0 0 0 4096 1256 0 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0 0"
    return f"{pid} ({comm}) {state} {before} {start_ticks} {after}\n"


def process_status(pid: int, comm: str, state: str, ppid: int, ns_pids: Sequence[int]) -> str:
    """The lines of /proc/<pid>/status that matter here; newline and backslash in names are escaped."""
    name = comm.replace("\\", "\\\\").replace("\n", "\\n")
    numbers = "\t".join(map(str, ns_pids))
    return (
        f"Name:\t{name}\nUmask:\t0022\nState:\t{state} (state)\nTgid:\t{pid}\nNgid:\t0\n"
        f"Pid:\t{pid}\nPPid:\t{ppid}\nTracerPid:\t0\n"
        f"Uid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\nFDSize:\t64\nGroups:\t \n"
        f"NStgid:\t{numbers}\nNSpid:\t{numbers}\nNSpgid:\t{numbers}\n"
        f"NSsid:\t{numbers}\nKthread:\t0\nVmPeak:\t    2576 kB\nThreads:\t1\n"
    )


def host_stat(host: Host) -> str:
    """/proc/stat of the host: numbers that no container with CPU accounting may show."""
    lines = [f"cpu{cpu} " + " ".join(map(str, HOST_CPU)) for cpu in host.online]
    total = " ".join(str(ticks * len(host.online)) for ticks in HOST_CPU)
    softirqs = " ".join(["95263", *["13"] * (host.softirq_columns - 1)])
    return (
        "\n".join(
            [
                f"cpu  {total}",
                *lines,
                "intr 134017 0 0 15",
                "ctxt 263557",
                f"btime {host.btime}",
                f"processes {host.processes}",
                "procs_running 2",
                "procs_blocked 1",
                f"softirq {softirqs}",
            ]
        )
        + "\n"
    )


def host_swap_line(host: Host) -> str:
    """The host's one swap device in /proc/swaps, or nothing."""
    if not host.swap_total_kb:
        return ""
    used = host.swap_total_kb - host.swap_free_kb
    return f"/dev/dm-1                               partition\t{host.swap_total_kb}\t\t{used}\t\t-2\n"


def host_diskstats(host: Host) -> str:
    """All devices with the host's number of columns."""
    numbers = " ".join(str(column + 100) for column in range(host.diskstats_columns))
    return "".join(f"{major:>4} {minor:>7} {name} {numbers}\n" for major, minor, name, _ in block_devices(host.disks))


def host_partitions(host: Host) -> str:
    """All devices with their sizes."""
    return "major minor  #blocks  name\n\n" + "".join(
        f"{major:>4}  {minor:>7} {sectors // 2:>10} {name}\n"
        for major, minor, name, sectors in block_devices(host.disks)
    )


def block_devices(disks: Iterable[Disk]) -> list[tuple[int, int, str, int]]:
    """(major, minor, name, sectors) of whole devices and partitions."""
    found = []
    for disk in disks:
        found.append((disk.major, disk.minor, disk.name, disk.size_sectors))
        found += [(disk.major, part.minor, part.name, part.size_sectors) for part in disk.partitions]
    return found


def _max(value: int | None) -> str:
    return f"{'max' if value is None else value}\n"


def _v1_limit(value: int | None) -> str:
    return f"{V1_UNLIMITED_BYTES if value is None else value}\n"


def _cpus(level: Level, host: Host) -> tuple[int, ...]:
    return host.online if level.cpus is None else level.cpus


def _mems(level: Level, host: Host) -> tuple[int, ...]:
    """Also a kernel without NUMA has a node."""
    if level.mems is not None:
        return level.mems
    return tuple(node.number for node in host.nodes if node.total_kb) or (0,)


def _numa_stat(container: Container, layout: Layout) -> str:
    rows = []
    for key, by_node in container.numa_stat.items():
        nodes = " ".join(f"N{node}={value}" for node, value in by_node.items())
        rows.append(f"{key} {nodes}\n" if layout.is_v2 else f"{key}={sum(by_node.values())} {nodes}\n")
    return "".join(rows)


def _keys(pairs: Iterable[tuple[str, int]]) -> str:
    return "".join(f"{key} {value}\n" for key, value in pairs)


def _blkio(container: Container, fields: tuple[str, str, str]) -> str:
    """v1's layout: a line per device and kind, a total per device, a grand total."""
    lines, grand = [], 0
    for io in container.io:
        read, write, discard = (getattr(io, name) for name in fields)
        device = f"{io.major}:{io.minor}"
        total = read + write + discard
        grand += total
        lines += [
            f"{device} Read {read}",
            f"{device} Write {write}",
            f"{device} Sync {read + write}",
            f"{device} Async 0",
            f"{device} Discard {discard}",
            f"{device} Total {total}",
        ]
    return "\n".join([*lines, f"Total {grand}"]) + "\n"
