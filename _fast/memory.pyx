# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""A container's memory, swap and huge pages, from its cgroup and all above it.

Sources: Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/memory.rst, hugetlb.rst of the kernel. All in bytes
unless a name says kb.
"""

from libc.stdint cimport uint64_t
from libc.stdio cimport snprintf
from libc.string cimport memset, strlen

from procview._fast.cgroup cimport Group, group_limit, group_number, group_read, group_version
from procview._fast.kept cimport READ_ONCE, kept_read
from procview._fast.layout cimport (
    HUGETLB,
    HUGETLB_FILES,
    HUGETLB_FILES_OF_SIZE,
    HUGETLB_LIMIT,
    HUGETLB_RESERVED_LIMIT,
    HUGETLB_RESERVED_USAGE,
    HUGETLB_USAGE,
    KMEM_USAGE,
    MEMORY,
    MEMORY_LIMIT,
    MEMORY_STAT,
    MEMORY_USAGE,
    SWAPPINESS,
    SWAP_LIMIT,
    SWAP_USAGE,
)
from procview._fast.meminfo_host cimport meminfo_take
from procview._fast.memory_stat cimport stat_lines_read
from procview._fast.posix cimport memmem
from procview._fast.scan cimport Span, UNLIMITED, scan_u64, span
from procview._fast.snapshot cimport (
    FAILED,
    HOST_FILE,
    HugePages,
    Memory,
    NEED_HUGE_PAGES,
    NEED_MEMORY,
    NEED_SWAP,
    SCOPED,
    STAT_SLAB,
    STAT_SLAB_UNRECLAIMABLE,
)
from procview._fast.templates cimport StatLines
from procview._fast.text cimport Text


cdef int read_memory(Snapshot *snapshot, Host *host, Groups *groups, const Scope *scope) noexcept nogil:
    """Fill in ``meminfo`` and what is needed of ``memory``. Returns a Verdict."""
    cdef Memory *memory = &snapshot.memory
    cdef Group *group = scope.of[MEMORY]
    cdef uint64_t host_total
    cdef uint64_t host_swap
    memset(memory, 0, sizeof(Memory))
    if group != NULL and group.parent == NULL:
        return HOST_FILE
    snapshot.meminfo = meminfo_take(host)
    if snapshot.meminfo == NULL:
        return FAILED
    host_total = snapshot.meminfo.memory_bytes
    host_swap = snapshot.meminfo.swap_bytes
    if snapshot.needs & NEED_SWAP and snapshot.settings.swap and group != NULL and host_swap > 0:
        read_swap(memory, groups, group, host_swap, snapshot.number, &snapshot.scratch)
    if not snapshot.needs & NEED_MEMORY:
        return SCOPED
    memory.total_bytes = host_total
    if group != NULL:
        read_limits(memory, groups, group, host_total, snapshot.number, &snapshot.scratch)
        if not read_stat(memory, groups, group, &snapshot.stat_lines, &snapshot.memory_stat, &snapshot.scratch):
            return FAILED
    if not memory.has_usage:
        snapshot.absent |= 1 << MEMORY
    if not snapshot.needs & NEED_HUGE_PAGES:
        return SCOPED
    # Where the host has no huge pages there are none to limit, and its lines say so.
    memory.overcommit_percent = snapshot.meminfo.overcommit_percent
    if host.huge_page_sizes > 0 and not snapshot.meminfo.no_huge_pages:
        read_huge_pages(snapshot, host, groups, scope)
    return SCOPED


cdef uint64_t less(uint64_t from_bytes, uint64_t bytes) noexcept nogil:
    """The difference, never below zero."""
    return from_bytes - bytes if from_bytes > bytes else 0


cdef void read_limits(
    Memory *memory, Groups *groups, Group *group, uint64_t host_total, uint64_t number, Text *scratch
) noexcept nogil:
    """MemTotal: the smallest limit from here up. MemFree: what is left under the tightest of the limits, of use by
    anybody below it.
    """
    cdef Group *level = group
    cdef uint64_t limit
    cdef uint64_t usage
    cdef uint64_t own_usage
    cdef bint has_own_usage = group_number(groups, group, MEMORY_USAGE, &own_usage, scratch) == 0
    cdef bint limited = False
    while level != NULL and level.parent != NULL:
        if group_limit(groups, level, MEMORY_LIMIT, number, &limit, scratch) == 0 and limit < host_total:
            if limit < memory.total_bytes:
                memory.total_bytes = limit
            if level == group:
                usage = own_usage
                if not has_own_usage:
                    usage = 0
            elif group_number(groups, level, MEMORY_USAGE, &usage, scratch) != 0:
                usage = 0
            if not limited or less(limit, usage) < memory.free_bytes:
                memory.free_bytes = less(limit, usage)
            limited = True
        level = level.parent
    memory.has_free = limited or has_own_usage
    if not limited and has_own_usage:
        memory.free_bytes = less(memory.total_bytes, own_usage)
    if memory.free_bytes > memory.total_bytes:
        memory.free_bytes = memory.total_bytes


cdef bint read_stat(
    Memory *memory, Groups *groups, Group *group, StatLines *lines, Text *text, Text *scratch
) noexcept nogil:
    """Read memory.stat into ``text``, and from it what meminfo shows. False when memory ran out."""
    cdef uint64_t value
    if group_read(groups, group, MEMORY_STAT, text) <= 0:
        return True
    if not stat_lines_read(lines, text, group_version(groups, group), memory.stat, &memory.has_usage):
        return False
    if group_version(groups, group) == 1 and group_number(groups, group, KMEM_USAGE, &value, scratch) == 0:
        memory.stat[STAT_SLAB] = value
        memory.stat[STAT_SLAB_UNRECLAIMABLE] = value
    return True


cdef void read_swap(
    Memory *memory, Groups *groups, Group *group, uint64_t host_swap, uint64_t number, Text *scratch
) noexcept nogil:
    """v2 limits swap; v1 limits memory and swap together. Without either controller file there is no swap to see."""
    cdef bint v2 = group_version(groups, group) == 2
    cdef Group *level = group
    cdef uint64_t limit = UNLIMITED()
    cdef uint64_t memory_limit = UNLIMITED()
    cdef uint64_t value
    cdef uint64_t used
    if group_number(groups, group, SWAP_USAGE, &used, scratch) != 0:
        return
    while level != NULL and level.parent != NULL:
        if group_limit(groups, level, SWAP_LIMIT, number, &value, scratch) == 0 and value < limit:
            limit = value
        if (
            not v2 and group_limit(groups, level, MEMORY_LIMIT, number, &value, scratch) == 0
            and value < memory_limit
        ):
            memory_limit = value
        level = level.parent
    memory.swap.total_bytes = host_swap
    if not v2:
        if group_number(groups, group, MEMORY_USAGE, &value, scratch) == 0:
            used = less(used, value)
        if limit != UNLIMITED():
            limit = less(limit, memory_limit)
    if limit < host_swap:
        memory.swap.total_bytes = limit
    if not v2 and group_limit(groups, group, SWAPPINESS, number, &value, scratch) == 0 and value == 0:
        memory.swap.total_bytes = used if used < host_swap else host_swap
    memory.swap.used_bytes = used if used < memory.swap.total_bytes else memory.swap.total_bytes


cdef bint host_huge_pages(Snapshot *snapshot, Host *host, int size, uint64_t *pages) noexcept nogil:
    cdef char path[64]
    cdef Span rest
    huge_page_path(path, host.huge_page_kb[size])
    if kept_read(
        host.keeper, &host.nr_hugepages[size], host.sys_fd, path, &snapshot.scratch, READ_ONCE
    ) <= 0:
        return False
    rest = span(snapshot.scratch.data, snapshot.scratch.length)
    return scan_u64(&rest, pages)


cdef void huge_page_path(char *path, uint64_t kb) noexcept nogil:
    snprintf(path, 64, b"kernel/mm/hugepages/hugepages-%lukB/nr_hugepages", <unsigned long>kb)


cdef bint host_line(const Snapshot *snapshot, const char *start, uint64_t *value) noexcept nogil:
    """The number on a line of the host's meminfo; False (and 0) where it has no such line. ``start``: newline, name
    and colon.
    """
    cdef const char *data = snapshot.meminfo.text.data
    cdef size_t length = strlen(start)
    cdef Span rest
    value[0] = 0
    rest.at = <const char *>memmem(data, snapshot.meminfo.text.length, start, length)
    if rest.at == NULL:
        return False
    rest.at += length
    rest.end = data + snapshot.meminfo.text.length
    return scan_u64(&rest, value)


cdef void read_huge_pages(Snapshot *snapshot, Host *host, Groups *groups, const Scope *scope) noexcept nogil:
    """The huge pages of each size that the container may use; where the controller is absent, the host's lines stay."""
    cdef HugePages *huge = &snapshot.memory.huge
    cdef HugePages of_size
    cdef Group *group = scope.of[HUGETLB]
    cdef uint64_t default_kb
    cdef uint64_t pool
    cdef int i
    if group != NULL and group.parent == NULL:
        return
    host_line(snapshot, b"\nHugepagesize:", &default_kb)
    for i in range(host.huge_page_sizes):
        if not host_huge_pages(snapshot, host, i, &pool):
            continue
        memset(&of_size, 0, sizeof(of_size))
        read_pages_of_size(snapshot, host, groups, group, i, pool, &of_size)
        huge.all_sizes_kb += of_size.total * host.huge_page_kb[i]
        if host.huge_page_kb[i] == default_kb:
            huge.known = of_size.known
            huge.total = of_size.total
            huge.free = of_size.free
            huge.reserved = of_size.reserved


cdef void read_pages_of_size(
    Snapshot *snapshot, Host *host, Groups *groups, Group *group, int size, uint64_t pool, HugePages *huge
) noexcept nogil:
    """Total: the smallest limit from here up, on use or on reservations, at most the host's ``pool``. Free: what is
    left under the tightest of them, of use by anybody below it, at most what the host has. Free includes what the
    container has reserved and not used yet, as the kernel's does.
    """
    cdef int files = HUGETLB_FILES + HUGETLB_FILES_OF_SIZE * size
    cdef Text *scratch = &snapshot.scratch
    cdef uint64_t page = host.huge_page_kb[size] << 10
    cdef uint64_t usage = 0
    cdef uint64_t reserved = 0
    cdef uint64_t limit
    cdef Group *level = group
    cdef bint has_usage = group != NULL and group_number(groups, group, files + HUGETLB_USAGE, &usage, scratch) == 0
    huge.total = pool
    host_line(snapshot, b"\nHugePages_Free:", &huge.free)
    if has_usage:
        # Counts what is reserved, used or not; the line shows what is not used.
        if group_number(groups, group, files + HUGETLB_RESERVED_USAGE, &reserved, scratch) == 0:
            reserved = less(reserved, usage) // page
        if less(pool, usage // page) < huge.free:
            huge.free = less(pool, usage // page)
    else:
        snapshot.absent |= 1 << HUGETLB
        host_line(snapshot, b"\nHugePages_Rsvd:", &reserved)
    while level != NULL and level.parent != NULL:
        if group_limit(groups, level, files + HUGETLB_LIMIT, 0, &limit, scratch) == 0:
            huge.known = True
            take_limit(groups, level, files + HUGETLB_USAGE, limit // page, page, 0, huge, scratch)
        if group_limit(groups, level, files + HUGETLB_RESERVED_LIMIT, 0, &limit, scratch) == 0:
            take_limit(
                groups, level, files + HUGETLB_RESERVED_USAGE, limit // page, page, reserved if has_usage else 0, huge,
                scratch
            )
        level = level.parent
    if huge.free > huge.total:
        huge.free = huge.total
    huge.reserved = reserved if reserved < huge.free else huge.free


cdef void take_limit(
    Groups *groups, Group *level, int usage_file, uint64_t limit, uint64_t page, uint64_t mine, HugePages *huge,
    Text *scratch
) noexcept nogil:
    """One limit, in pages. ``mine``: what of the usage behind ``usage_file`` is still free to the container."""
    cdef uint64_t usage = 0
    cdef uint64_t left
    if limit < huge.total:
        huge.total = limit
    if limit == UNLIMITED() // page:
        return
    if group_number(groups, level, usage_file, &usage, scratch) != 0:
        usage = 0
    left = less(limit, usage // page) + mine
    if left < huge.free:
        huge.free = left
