"""Section 5: /proc/meminfo. The host's lines, some with another number."""

from __future__ import annotations

from dataclasses import replace

from tests.hosts.build import meminfo_lines
from tests.hosts.model import Container, Host, Layout
from tests.oracle.memory import host_value, mem_free_bytes, mem_total_bytes, swap_bytes

ZERO = ("Buffers", "Mlocked", "ShmemPmdMapped", "FilePmdMapped", "NFS_Unstable", "Bounce", "WritebackTmp")

V2_KEYS = {
    "Cached": "file", "SwapCached": "swapcached",
    "Active(anon)": "active_anon", "Inactive(anon)": "inactive_anon", "Active(file)": "active_file",
    "Inactive(file)": "inactive_file", "Unevictable": "unevictable",
    "Dirty": "file_dirty", "Writeback": "file_writeback",
    "AnonPages": "anon", "Mapped": "file_mapped", "Shmem": "shmem",
    "Slab": "slab", "SReclaimable": "slab_reclaimable", "SUnreclaim": "slab_unreclaimable",
    "KReclaimable": "slab_reclaimable",
    "KernelStack": "kernel_stack", "PageTables": "pagetables", "SecPageTables": "sec_pagetables", "Percpu": "percpu",
    "VmallocUsed": "vmalloc",
    "AnonHugePages": "anon_thp", "ShmemHugePages": "shmem_thp", "FileHugePages": "file_thp",
    "Zswap": "zswap", "Zswapped": "zswapped",
}  # fmt: skip
"""Line -> key of memory.stat, in bytes; a key the kernel does not print counts as 0."""

V1_KEYS = {
    "Cached": "cache", "SwapCached": "swapcached",
    "Active(anon)": "active_anon", "Inactive(anon)": "inactive_anon", "Active(file)": "active_file",
    "Inactive(file)": "inactive_file", "Unevictable": "unevictable",
    "Dirty": "dirty", "Writeback": "writeback",
    "AnonPages": "rss", "Mapped": "mapped_file", "Shmem": "shmem",
    "AnonHugePages": "rss_huge",
}  # fmt: skip
"""The same with total_ in front of each key. Lines of V2_KEYS without a key here are 0, Slab and SUnreclaim aside."""


def meminfo(host: Host, container: Container, layout: Layout, *, swap: bool = True) -> str:
    """The whole text."""
    known = values(host, container, layout, swap=swap)
    return "".join(replace(line, value=known.get(line.name, line.value)).text for line in meminfo_lines(host))


def values(host: Host, container: Container, layout: Layout, *, swap: bool = True) -> dict[str, int]:
    """The lines that are the container's, in kB (HugePages_*: pages)."""
    swap_total, swap_used = (number >> 10 for number in swap_bytes(host, container, layout, swap=swap))
    total = mem_total_bytes(host, container) >> 10
    known = {"MemTotal": total, "SwapTotal": swap_total, "SwapFree": swap_total - swap_used}
    known["CommitLimit"] = total * host.overcommit_ratio // 100 + swap_total
    known |= huge_pages(host, container)
    free = mem_free_bytes(host, container)
    if not container.levels or "memory" in container.level.absent:
        # No usage of its own: the host's lines stand in, up to the total. A limit higher up still says what is left.
        for name in ("MemFree", "MemAvailable", "Active", "Inactive", "Committed_AS", *ZERO, *V2_KEYS):
            known[name] = min(total, host_value(host, name))
        if free is not None:
            known["MemFree"] = free >> 10
        return known

    def stat(key: str) -> int:
        return container.memory_stat.get(key if layout.is_v2 else f"total_{key}", 0) >> 10

    known |= dict.fromkeys(ZERO, 0) | dict.fromkeys(V2_KEYS, 0)
    known |= {line: stat(key) for line, key in (V2_KEYS if layout.is_v2 else V1_KEYS).items()}
    if not layout.is_v2:
        known["Slab"] = known["SUnreclaim"] = (container.kmem_bytes or 0) >> 10
    known["Active"] = known["Active(anon)"] + known["Active(file)"]
    known["Inactive"] = known["Inactive(anon)"] + known["Inactive(file)"]
    known["MemFree"] = (free or 0) >> 10
    known["MemAvailable"] = min(
        total, known["MemFree"] + known["Active(file)"] + known["Inactive(file)"] + known["SReclaimable"]
    )
    known["Committed_AS"] = known["AnonPages"] + known["Shmem"] + swap_used
    return known


def huge_pages(host: Host, container: Container) -> dict[str, int]:
    """Without files of the host's default size at any level the host's lines stay, as on a host without huge pages.

    A surplus belongs to the pool, so to the host: 0.
    """
    has_line = any(line.name == "Hugetlb" for line in meminfo_lines(host))
    if has_line and host_value(host, "Hugetlb") == 0:
        return {}
    if not any(level.huge_pages_of(host.huge_page_kb, host) for level in container.levels):
        return {}
    sizes = {host.huge_page_kb: host_value(host, "HugePages_Total"), **dict(host.more_huge_pages)}
    totals = {kb: pages_of_size(host, container, kb, pool) for kb, pool in sizes.items()}
    total, free, reserved = totals[host.huge_page_kb]
    return {
        "HugePages_Total": total,
        "HugePages_Free": free,
        "HugePages_Rsvd": reserved,
        "HugePages_Surp": 0,
        "Hugetlb": sum(kb * pages for kb, (pages, _, _) in totals.items()),
    }


def pages_of_size(host: Host, container: Container, kb: int, pool: int) -> tuple[int, int, int]:
    """Total: what limits, on use and on reservations, leave of the host's pool. Free: what is left under each of them,
    and of the host's free ones; what the container has reserved and not used is free to it. Rsvd: just that.
    """
    size = kb << 10
    total, free = pool, host_value(host, "HugePages_Free")
    own = container.level.huge_pages_of(kb, host)
    if own is None:  # no usage of its own: the host's
        reserved = host_value(host, "HugePages_Rsvd")
        own_reserved = 0
    else:
        reserved = own_reserved = max(0, own.rsvd_current_bytes - own.current_bytes) // size
        free = min(free, max(0, pool - own.current_bytes // size))
    for level in container.levels:
        pages = level.huge_pages_of(kb, host)
        if pages is None:
            continue
        for limit, used, mine in (
            (pages.max_bytes, pages.current_bytes, 0),
            (pages.rsvd_max_bytes, pages.rsvd_current_bytes, own_reserved),
        ):
            if limit is not None:
                total = min(total, limit // size)
                free = min(free, max(0, limit // size - used // size) + mine)
    free = min(free, total)
    return total, free, min(reserved, free)
