# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""/proc/meminfo: the host's file as a template, with the container's numbers in the lines that have one.

Lines, their order and their spacing are the host's; a line this does not know passes through. Where the memory
controller does not reach down to the container, usage lines are the host's, cut to the container's MemTotal.
"""

from libc.stdint cimport uint64_t
from libc.string cimport memchr, memcmp, strlen

from procview._fast.scan cimport Span, next_line, scan_u64, span, span_length
from procview._fast.snapshot cimport (
    HugePages,
    Memory,
    STAT_ACTIVE_ANON,
    STAT_ACTIVE_FILE,
    STAT_ANON,
    STAT_ANON_THP,
    STAT_FILE,
    STAT_FILE_DIRTY,
    STAT_FILE_MAPPED,
    STAT_FILE_THP,
    STAT_FILE_WRITEBACK,
    STAT_INACTIVE_ANON,
    STAT_INACTIVE_FILE,
    STAT_KERNEL_STACK,
    STAT_PAGETABLES,
    STAT_PERCPU,
    STAT_SEC_PAGETABLES,
    STAT_SHMEM,
    STAT_SHMEM_THP,
    STAT_SLAB,
    STAT_SLAB_RECLAIMABLE,
    STAT_SLAB_UNRECLAIMABLE,
    STAT_SWAPCACHED,
    STAT_UNEVICTABLE,
    STAT_VMALLOC,
    STAT_ZSWAP,
    STAT_ZSWAPPED,
)
from procview._fast.text cimport put, put_u64_right


cdef enum:  # sources of a line
    ZERO = -1
    TOTAL = -2
    FREE = -3
    AVAILABLE = -4
    ACTIVE = -5
    INACTIVE = -6
    SWAP_TOTAL = -7
    SWAP_FREE = -8
    COMMIT_LIMIT = -9
    COMMITTED = -10
    HUGE_TOTAL = -11
    HUGE_FREE = -12
    HUGE_RESERVED = -13
    HUGE_ZERO = -14
    HUGE_ALL = -15
    # 0 and up: that key of memory.stat

cdef struct Line:
    const char *name
    size_t length
    int source

cdef Line lines[64]
cdef int line_count = 0


cdef void add_line(const char *name, int source) noexcept:
    global line_count
    lines[line_count].name = name
    lines[line_count].length = strlen(name)
    lines[line_count].source = source
    line_count += 1


# In the order of fs/proc/meminfo.c, so that the search below finds each one at once.
add_line(b"MemTotal", TOTAL)
add_line(b"MemFree", FREE)
add_line(b"MemAvailable", AVAILABLE)
add_line(b"Buffers", ZERO)
add_line(b"Cached", STAT_FILE)
add_line(b"SwapCached", STAT_SWAPCACHED)
add_line(b"Active", ACTIVE)
add_line(b"Inactive", INACTIVE)
add_line(b"Active(anon)", STAT_ACTIVE_ANON)
add_line(b"Inactive(anon)", STAT_INACTIVE_ANON)
add_line(b"Active(file)", STAT_ACTIVE_FILE)
add_line(b"Inactive(file)", STAT_INACTIVE_FILE)
add_line(b"Unevictable", STAT_UNEVICTABLE)
add_line(b"Mlocked", ZERO)
add_line(b"SwapTotal", SWAP_TOTAL)
add_line(b"SwapFree", SWAP_FREE)
add_line(b"Zswap", STAT_ZSWAP)
add_line(b"Zswapped", STAT_ZSWAPPED)
add_line(b"Dirty", STAT_FILE_DIRTY)
add_line(b"Writeback", STAT_FILE_WRITEBACK)
add_line(b"AnonPages", STAT_ANON)
add_line(b"Mapped", STAT_FILE_MAPPED)
add_line(b"Shmem", STAT_SHMEM)
add_line(b"KReclaimable", STAT_SLAB_RECLAIMABLE)
add_line(b"Slab", STAT_SLAB)
add_line(b"SReclaimable", STAT_SLAB_RECLAIMABLE)
add_line(b"SUnreclaim", STAT_SLAB_UNRECLAIMABLE)
add_line(b"KernelStack", STAT_KERNEL_STACK)
add_line(b"PageTables", STAT_PAGETABLES)
add_line(b"SecPageTables", STAT_SEC_PAGETABLES)
add_line(b"NFS_Unstable", ZERO)
add_line(b"Bounce", ZERO)
add_line(b"WritebackTmp", ZERO)
add_line(b"CommitLimit", COMMIT_LIMIT)
add_line(b"Committed_AS", COMMITTED)
add_line(b"VmallocUsed", STAT_VMALLOC)
add_line(b"Percpu", STAT_PERCPU)
add_line(b"AnonHugePages", STAT_ANON_THP)
add_line(b"ShmemHugePages", STAT_SHMEM_THP)
add_line(b"ShmemPmdMapped", ZERO)
add_line(b"FileHugePages", STAT_FILE_THP)
add_line(b"FilePmdMapped", ZERO)
add_line(b"HugePages_Total", HUGE_TOTAL)
add_line(b"HugePages_Free", HUGE_FREE)
add_line(b"HugePages_Rsvd", HUGE_RESERVED)
add_line(b"HugePages_Surp", HUGE_ZERO)
add_line(b"Hugetlb", HUGE_ALL)


cdef const Line *find_line(Span name, int *cursor) noexcept nogil:
    cdef size_t length = span_length(name)
    cdef int i
    cdef int which
    for i in range(line_count):
        which = cursor[0] + i
        if which >= line_count:
            which -= line_count
        if lines[which].length == length and memcmp(lines[which].name, name.at, length) == 0:
            cursor[0] = which + 1
            return &lines[which]
    return NULL


cdef uint64_t number_of(Span digits) noexcept nogil:
    cdef uint64_t value = 0
    scan_u64(&digits, &value)
    return value


cdef bint value_of(const Memory *memory, int source, Span hosts, uint64_t *kb) noexcept nogil:
    """The container's number for a line, in kB (pages for HugePages_*). False where the host's line stays.

    ``hosts`` are the digits of the host's own number.
    """
    cdef const uint64_t *stat = memory.stat
    cdef uint64_t total_kb
    if source >= 0 and memory.has_usage:
        kb[0] = stat[source] >> 10
        return True
    total_kb = memory.total_bytes >> 10
    if source == TOTAL:
        kb[0] = total_kb
    elif source == SWAP_TOTAL:
        kb[0] = memory.swap.total_bytes >> 10
    elif source == SWAP_FREE:
        kb[0] = (memory.swap.total_bytes >> 10) - (memory.swap.used_bytes >> 10)
    elif source == COMMIT_LIMIT:
        kb[0] = percent_of(total_kb, memory.overcommit_percent) + (memory.swap.total_bytes >> 10)
    elif source <= HUGE_TOTAL:
        if not memory.huge.known:
            return False
        kb[0] = huge_pages_of(&memory.huge, source)
    elif source == FREE and memory.has_free:
        kb[0] = memory.free_bytes >> 10
    elif not memory.has_usage:
        # Absent: the host's number, but never more than there is.
        kb[0] = number_of(hosts)
        if kb[0] > total_kb:
            kb[0] = total_kb
    elif source == AVAILABLE:
        kb[0] = (
            (memory.free_bytes >> 10) + (stat[STAT_ACTIVE_FILE] >> 10) + (stat[STAT_INACTIVE_FILE] >> 10)
            + (stat[STAT_SLAB_RECLAIMABLE] >> 10)
        )
        if kb[0] > total_kb:
            kb[0] = total_kb
    elif source == ACTIVE:
        kb[0] = (stat[STAT_ACTIVE_ANON] >> 10) + (stat[STAT_ACTIVE_FILE] >> 10)
    elif source == INACTIVE:
        kb[0] = (stat[STAT_INACTIVE_ANON] >> 10) + (stat[STAT_INACTIVE_FILE] >> 10)
    elif source == COMMITTED:
        kb[0] = (stat[STAT_ANON] >> 10) + (stat[STAT_SHMEM] >> 10) + (memory.swap.used_bytes >> 10)
    else:
        kb[0] = 0
    return True


cdef uint64_t percent_of(uint64_t kb, uint64_t percent) noexcept nogil:
    """In whole kB, without overflow: vm.overcommit_ratio is any int."""
    return kb // 100 * percent + kb % 100 * percent // 100


cdef uint64_t huge_pages_of(const HugePages *huge, int source) noexcept nogil:
    if source == HUGE_TOTAL:
        return huge.total
    if source == HUGE_FREE:
        return huge.free
    if source == HUGE_RESERVED:
        return huge.reserved
    if source == HUGE_ALL:
        return huge.all_sizes_kb
    return 0


cdef void render_meminfo(const Snapshot *snapshot, Text *out) noexcept nogil:
    cdef Span rest = span(snapshot.host_meminfo.data, snapshot.host_meminfo.length)
    cdef Span line
    cdef Span name
    cdef Span digits
    cdef const char *colon
    cdef const Line *known
    cdef uint64_t value
    cdef size_t width
    cdef size_t least
    cdef int cursor = 0
    while next_line(&rest, &line):
        colon = <const char *>memchr(line.at, c":", span_length(line))
        known = NULL
        if colon != NULL:
            name.at = line.at
            name.end = colon
            known = find_line(name, &cursor)
        if known == NULL or not find_digits(colon + 1, line.end, &digits) or not value_of(
            &snapshot.memory, known.source, digits, &value
        ):
            put(out, line.at, span_length(line))
            put(out, b"\n", 1)
            continue
        # The kernel writes "Name:" and blanks up to column 16, then %8lu (%5lu for HugePages_*), then perhaps " kB".
        least = 8 if digits.end < line.end else 5
        width = <size_t>(digits.end - colon - 1)
        if span_length(digits) > least:
            least = span_length(digits)
        if width > least:
            put(out, line.at, <size_t>(digits.end - line.at) - least)
        else:
            put(out, line.at, <size_t>(colon + 1 - line.at))
        put_u64_right(out, value, 8 if digits.end < line.end else 5)
        put(out, digits.end, <size_t>(line.end - digits.end))
        put(out, b"\n", 1)


cdef bint find_digits(const char *at, const char *end, Span *digits) noexcept nogil:
    """The number on a line, from its end: ``   123 kB`` or ``  123``. False where there is none."""
    if end - at > 3 and (end - 1)[0] == c"B" and (end - 3)[0] == c" ":
        end -= 3
    digits.end = end
    while end > at and c"0" <= (end - 1)[0] <= c"9":
        end -= 1
    digits.at = end
    return digits.end > digits.at
