# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""/proc/meminfo: the host's file as a template, with the container's numbers in the lines that have one.

Lines, their order and their spacing are the host's; a line this does not know passes through. Where the memory
controller does not reach down to the container, usage lines are the host's, cut to the container's MemTotal.
"""

from libc.stdint cimport uint64_t
from libc.string cimport memcpy

from procview._fast.meminfo_host cimport (
    ACTIVE,
    AVAILABLE,
    COMMITTED,
    COMMIT_LIMIT,
    FREE,
    HUGE_ALL,
    HUGE_FREE,
    HUGE_RESERVED,
    HUGE_TOTAL,
    INACTIVE,
    SWAP_FREE,
    SWAP_TOTAL,
    TOTAL,
    ZERO,
)
from procview._fast.scan cimport span_length
from procview._fast.snapshot cimport (
    HugePages,
    Memory,
    STAT_ACTIVE_ANON,
    STAT_ACTIVE_FILE,
    STAT_ANON,
    STAT_INACTIVE_ANON,
    STAT_INACTIVE_FILE,
    STAT_SHMEM,
    STAT_SLAB_RECLAIMABLE,
)
from procview._fast.templates cimport MeminfoNumber, MeminfoText
from procview._fast.text cimport put, put_u64_right, text_reserve, write_u64


cdef bint value_of(const Memory *memory, int source, uint64_t hosts, uint64_t *kb) noexcept nogil:
    """The container's number for a line, in kB (pages for HugePages_*). False where the host's line stays."""
    cdef const uint64_t *stat = memory.stat
    cdef uint64_t total_kb
    if source >= ZERO and memory.has_usage:
        kb[0] = stat[source] >> 10 if source >= 0 else 0
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
        kb[0] = hosts if hosts < total_kb else total_kb
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
    if not fill_in(snapshot, out):
        write_lines(snapshot, out)


cdef bint fill_in(const Snapshot *snapshot, Text *out) noexcept nogil:
    """Copy the lines at once, and write over those numbers that are not 0. False, and nothing is written, where one
    does not fit its place.
    """
    cdef const MeminfoText *meminfo = snapshot.meminfo
    cdef const MeminfoNumber *number
    cdef size_t width
    cdef char *copy
    cdef uint64_t value
    cdef int i
    if not text_reserve(out, meminfo.zeros.length):
        return False
    copy = out.data + out.length
    memcpy(copy, meminfo.zeros.data, meminfo.zeros.length)
    for i in range(meminfo.count):
        number = &meminfo.numbers[i]
        if value_of(&snapshot.memory, number.source, number.hosts_value, &value):
            if value >= number.beyond:
                return False
            if value:
                write_u64(copy + number.end, value)
        else:
            width = <size_t>number.width
            if span_length(number.hosts) != width:
                return False
            memcpy(copy + number.end - width, number.hosts.at, width)
    out.length += meminfo.zeros.length
    return True


cdef void write_lines(const Snapshot *snapshot, Text *out) noexcept nogil:
    """Number by number, each as long as it is: 100 GB and more do not fit the kernel's columns either."""
    cdef const MeminfoText *meminfo = snapshot.meminfo
    cdef const MeminfoNumber *number
    cdef uint64_t value
    cdef int i
    for i in range(meminfo.count):
        number = &meminfo.numbers[i]
        put(out, number.before.at, span_length(number.before))
        if value_of(&snapshot.memory, number.source, number.hosts_value, &value):
            put_u64_right(out, value, <size_t>number.width)
        else:
            put(out, number.hosts.at, span_length(number.hosts))
    put(out, meminfo.rest.at, span_length(meminfo.rest))
