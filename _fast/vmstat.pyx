# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""/proc/vmstat: the host's file as a template (mm/vmstat.c), with the container's numbers.

- ``nr_*`` are amounts: those that meminfo has as well (``lines`` below) are the container's, in the unit of the
  line. What no cgroup counts is 0, as there.
- ``nr_dirty_threshold`` and ``nr_dirty_background_threshold`` are limits: the host's, at most the container's memory.
- All others count events, and never go back. Those that memory.stat counts under the same name are the cgroup's,
  ``pgpgin`` and ``pgpgout`` are its block I/O in KiB, ``oom_kill`` the kills in it (v2: and below). Every other one is
  0: what the host does is not the container's business.

Where the memory controller does not reach down to the container, the lines that it would count are the host's.
"""

from libc.stdint cimport uint64_t
from libc.string cimport memcmp, strlen

from procview._fast.scan cimport Span, next_line, scan_u64, scan_word, span, span_length, span_starts
from procview._fast.snapshot cimport (
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
    STAT_HUGETLB,
    STAT_INACTIVE_ANON,
    STAT_INACTIVE_FILE,
    STAT_KERNEL_STACK,
    STAT_PAGETABLES,
    STAT_SEC_PAGETABLES,
    STAT_SHMEM,
    STAT_SHMEM_THP,
    STAT_SLAB_RECLAIMABLE,
    STAT_SLAB_UNRECLAIMABLE,
    STAT_SWAPCACHED,
    STAT_UNEVICTABLE,
)
from procview._fast.text cimport put, put_char, put_u64


cdef enum:  # sources of a line
    FREE = -1
    WRITE_PENDING = -2
    HOST_LIMIT = -3
    # 0 and up: that key of memory.stat

cdef enum:  # units of a line
    PAGES
    KIB
    HUGE_PAGES   # as large as a transparent one

cdef struct Line:
    const char *name
    size_t length
    int source
    int unit

cdef Line lines[64]
cdef int line_count = 0


cdef void add_line(const char *name, int source, int unit=PAGES) noexcept:
    global line_count
    lines[line_count].name = name
    lines[line_count].length = strlen(name)
    lines[line_count].source = source
    lines[line_count].unit = unit
    line_count += 1


# In the order of mm/vmstat.c, so that the search below finds each one at once.
add_line(b"nr_free_pages", FREE)
add_line(b"nr_zone_inactive_anon", STAT_INACTIVE_ANON)
add_line(b"nr_zone_active_anon", STAT_ACTIVE_ANON)
add_line(b"nr_zone_inactive_file", STAT_INACTIVE_FILE)
add_line(b"nr_zone_active_file", STAT_ACTIVE_FILE)
add_line(b"nr_zone_unevictable", STAT_UNEVICTABLE)
add_line(b"nr_zone_write_pending", WRITE_PENDING)
add_line(b"nr_inactive_anon", STAT_INACTIVE_ANON)
add_line(b"nr_active_anon", STAT_ACTIVE_ANON)
add_line(b"nr_inactive_file", STAT_INACTIVE_FILE)
add_line(b"nr_active_file", STAT_ACTIVE_FILE)
add_line(b"nr_unevictable", STAT_UNEVICTABLE)
add_line(b"nr_slab_reclaimable", STAT_SLAB_RECLAIMABLE)
add_line(b"nr_slab_unreclaimable", STAT_SLAB_UNRECLAIMABLE)
add_line(b"nr_anon_pages", STAT_ANON)
add_line(b"nr_mapped", STAT_FILE_MAPPED)
add_line(b"nr_file_pages", STAT_FILE)
add_line(b"nr_dirty", STAT_FILE_DIRTY)
add_line(b"nr_writeback", STAT_FILE_WRITEBACK)
add_line(b"nr_shmem", STAT_SHMEM)
add_line(b"nr_shmem_hugepages", STAT_SHMEM_THP, HUGE_PAGES)
add_line(b"nr_file_hugepages", STAT_FILE_THP, HUGE_PAGES)
add_line(b"nr_anon_transparent_hugepages", STAT_ANON_THP, HUGE_PAGES)
add_line(b"nr_kernel_stack", STAT_KERNEL_STACK, KIB)
add_line(b"nr_page_table_pages", STAT_PAGETABLES)
add_line(b"nr_sec_page_table_pages", STAT_SEC_PAGETABLES)
add_line(b"nr_swapcached", STAT_SWAPCACHED)
add_line(b"nr_hugetlb", STAT_HUGETLB)
add_line(b"nr_dirty_threshold", HOST_LIMIT)
add_line(b"nr_dirty_background_threshold", HOST_LIMIT)


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


cdef uint64_t value_of(const Snapshot *snapshot, const Line *line, uint64_t hosts) noexcept nogil:
    cdef const Memory *memory = &snapshot.memory
    cdef uint64_t unit = snapshot.page_bytes
    if line.unit == KIB:
        unit = 1 << 10
    elif line.unit == HUGE_PAGES:
        unit = snapshot.huge_page_bytes
    if unit == 0:
        return 0
    if line.source == FREE and memory.has_free:
        return memory.free_bytes // unit
    if line.source == HOST_LIMIT or not memory.has_usage:
        return hosts if hosts < memory.total_bytes // unit else memory.total_bytes // unit
    if line.source == WRITE_PENDING:
        return memory.stat[STAT_FILE_DIRTY] // unit + memory.stat[STAT_FILE_WRITEBACK] // unit
    if line.source == FREE:
        return 0   # usage cannot be read, as in meminfo
    return memory.stat[line.source] // unit


cdef void render_vmstat(const Snapshot *snapshot, Text *out) noexcept nogil:
    cdef Span rest = span(snapshot.host_vmstat.data, snapshot.host_vmstat.length)
    cdef Span line
    cdef Span name
    cdef const Line *known
    cdef uint64_t value
    cdef int cursor = 0
    cdef int i = 0
    while next_line(&rest, &line):
        value = snapshot.events[i]
        i += 1
        if not scan_word(&line, &name):
            put_char(out, c"\n")
            continue
        if span_starts(name, b"nr_", 3):
            known = find_line(name, &cursor)
            if known != NULL:
                scan_u64(&line, &value)
                value = value_of(snapshot, known, value)
        put(out, name.at, span_length(name))
        put_char(out, c" ")
        put_u64(out, value)
        put_char(out, c"\n")
