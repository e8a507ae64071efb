"""/proc/vmstat: the host's lines, each with the container's number. Counters are those of a first reading."""

from __future__ import annotations

from tests.hosts.build import vmstat_lines
from tests.hosts.model import PAGE_BYTES, Container, Host, Layout
from tests.oracle.memory import mem_free_bytes, mem_total_bytes

AMOUNTS = {
    "nr_zone_inactive_anon": "inactive_anon", "nr_zone_active_anon": "active_anon",
    "nr_zone_inactive_file": "inactive_file", "nr_zone_active_file": "active_file",
    "nr_zone_unevictable": "unevictable",
    "nr_inactive_anon": "inactive_anon", "nr_active_anon": "active_anon", "nr_inactive_file": "inactive_file",
    "nr_active_file": "active_file", "nr_unevictable": "unevictable",
    "nr_slab_reclaimable": "slab_reclaimable", "nr_slab_unreclaimable": "slab_unreclaimable",
    "nr_anon_pages": "anon", "nr_mapped": "file_mapped", "nr_file_pages": "file",
    "nr_dirty": "file_dirty", "nr_writeback": "file_writeback", "nr_shmem": "shmem",
    "nr_shmem_hugepages": "shmem_thp", "nr_file_hugepages": "file_thp", "nr_anon_transparent_hugepages": "anon_thp",
    "nr_kernel_stack": "kernel_stack", "nr_page_table_pages": "pagetables",
    "nr_sec_page_table_pages": "sec_pagetables", "nr_swapcached": "swapcached", "nr_hugetlb": "hugetlb",
}  # fmt: skip
"""Line -> v2 key of memory.stat, in bytes."""

V1_NAMES = {
    "anon": "rss", "file": "cache", "file_mapped": "mapped_file", "file_dirty": "dirty", "file_writeback": "writeback",
    "anon_thp": "rss_huge",
    **{key: key for key in ("inactive_anon", "active_anon", "inactive_file", "active_file", "unevictable", "shmem",
                            "swapcached")},
}  # fmt: skip
"""v2 key -> v1's, without its total_. What is not here v1 does not count."""

IN_HUGE_PAGES = ("nr_shmem_hugepages", "nr_file_hugepages", "nr_anon_transparent_hugepages")


def vmstat(host: Host, container: Container, layout: Layout) -> dict[str, int]:
    """Line -> number, in the host's order."""
    return {name: value(host, container, layout, name, hosts) for name, hosts in vmstat_lines(host)}


def value(host: Host, container: Container, layout: Layout, name: str, hosts: int) -> int:
    if name.startswith("nr_"):
        return amount(host, container, layout, name, hosts)
    is_counted = bool(container.levels) and "memory" not in container.level.absent
    if name in ("pgpgin", "pgpgout"):
        if not container.levels or "io" in container.level.absent:
            return hosts
        stacked = {(disk.major, disk.minor) for disk in host.disks if disk.stacked_as}
        done = [io for io in container.io if (io.major, io.minor) not in stacked]
        return sum(io.rbytes if name == "pgpgin" else io.wbytes for io in done) % 2**64 // 1024
    if not is_counted:
        return hosts
    if name == "oom_kill":
        return container.oom_kills or 0
    return container.memory_stat.get(name if layout.is_v2 else f"total_{name}", 0)


def amount(host: Host, container: Container, layout: Layout, name: str, hosts: int) -> int:
    unit = PAGE_BYTES
    if name == "nr_kernel_stack":
        unit = 1024
    elif name in IN_HUGE_PAGES:
        if host.transparent_huge_page_bytes is None:
            return 0
        unit = host.transparent_huge_page_bytes
    most = mem_total_bytes(host, container) // unit
    if name in ("nr_dirty_threshold", "nr_dirty_background_threshold"):
        return min(hosts, most)
    if name == "nr_free_pages":
        free = mem_free_bytes(host, container)
        return min(hosts, most) if free is None else free // unit
    if name not in AMOUNTS and name != "nr_zone_write_pending":
        return 0
    if not container.levels or "memory" in container.level.absent:
        return min(hosts, most)
    if name == "nr_zone_write_pending":
        return sum(amount(host, container, layout, part, hosts) for part in ("nr_dirty", "nr_writeback"))
    key = AMOUNTS[name]
    if layout.is_v2:
        return container.memory_stat.get(key, 0) // unit
    if key == "slab_unreclaimable":
        return (container.kmem_bytes or 0) // unit
    return container.memory_stat.get(f"total_{V1_NAMES[key]}", 0) // unit if key in V1_NAMES else 0
