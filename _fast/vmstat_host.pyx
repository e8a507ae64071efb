# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The host's /proc/vmstat, taken apart and kept for a moment.

Its names and their order are those of the running kernel, and of its numbers next to none are shown: what is may be
HOST_FRESH_NS old. To write its two hundred lines costs the kernel more than all that we do.
"""

from libc.stdint cimport int64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcmp, memset, strlen

from procview._fast.host cimport host_is_fresh
from procview._fast.kept cimport READ_WHOLE, kept_read
from procview._fast.posix cimport (
    CLOCK_MONOTONIC,
    clock_ns,
    count_down,
    count_up,
    pthread_mutex_lock,
    pthread_mutex_unlock,
)
from procview._fast.scan cimport Span, next_line, scan_u64, scan_word, span, span_is, span_length, span_starts
from procview._fast.snapshot cimport (
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
from procview._fast.templates cimport VMSTAT_BUCKETS, VmstatLine
from procview._fast.text cimport put, put_char, put_str, text_free, text_init


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


cdef VmstatText *vmstat_take(Host *host) noexcept nogil:
    """The host's text, counted: give it back with vmstat_put. NULL where there is none or memory ran out."""
    cdef VmstatText *vmstat
    cdef VmstatText *old
    cdef int64_t now = clock_ns(CLOCK_MONOTONIC)
    # Under the lock: that only one of many readers has the kernel write the file.
    pthread_mutex_lock(&host.vmstat_lines.lock)
    vmstat = host.vmstat_lines.newest
    if vmstat == NULL or not host_is_fresh(host, vmstat.read_ns, now):
        old = vmstat
        vmstat = read_vmstat(host, old, now)
        host.vmstat_lines.newest = vmstat
        if old != NULL:
            vmstat_put(old)
    if vmstat != NULL:
        count_up(&vmstat.references)
    pthread_mutex_unlock(&host.vmstat_lines.lock)
    return vmstat


cdef void vmstat_forget(Host *host) noexcept nogil:
    """At the end: nobody takes it any more."""
    if host.vmstat_lines.newest != NULL:
        vmstat_put(host.vmstat_lines.newest)
        host.vmstat_lines.newest = NULL


cdef void vmstat_put(VmstatText *vmstat) noexcept nogil:
    if count_down(&vmstat.references) > 0:
        return
    text_free(&vmstat.text)
    text_free(&vmstat.zeros)
    free(vmstat.lines)
    free(vmstat.order)
    free(vmstat)


cdef VmstatText *read_vmstat(Host *host, const VmstatText *old, int64_t now) noexcept nogil:
    cdef VmstatText *vmstat = <VmstatText *>calloc(1, sizeof(VmstatText))
    if vmstat == NULL:
        return NULL
    vmstat.references = 1
    vmstat.read_ns = now
    text_init(&vmstat.text)
    text_init(&vmstat.zeros)
    if kept_read(
        host.keeper, &host.vmstat, host.proc_fd, b"vmstat", &vmstat.text, READ_WHOLE
    ) <= 0 or not take_apart(vmstat, old) or not put_in_order(vmstat):
        vmstat_put(vmstat)
        return NULL
    if vmstat.names == 0:
        host.vmstat_lines.names += 1
        vmstat.names = host.vmstat_lines.names
    return vmstat


cdef int bucket_of(Span name) noexcept nogil:
    cdef size_t length = span_length(name)
    return <int>(
        (length * 7 + <unsigned char>name.at[length - 1] * 5 + <unsigned char>name.at[length // 2] * 3
         + <unsigned char>name.at[length * 3 // 4]) & (VMSTAT_BUCKETS - 1)
    )


cdef bint take_apart(VmstatText *vmstat, const VmstatText *old) noexcept nogil:
    """False when memory ran out. What each name means is taken over from ``old``, as far as it has the same names; and
    the number of these names, where they are all the same.
    """
    cdef Span rest = span(vmstat.text.data, vmstat.text.length)
    cdef Span text
    cdef VmstatLine *line
    cdef int cursor = 0
    cdef int bucket
    cdef bint same = old != NULL
    memset(vmstat.first, 0xFF, sizeof(vmstat.first))
    while next_line(&rest, &text):
        if vmstat.count % 256 == 0:
            line = <VmstatLine *>realloc(vmstat.lines, <size_t>(vmstat.count + 256) * sizeof(VmstatLine))
            if line == NULL:
                return False
            vmstat.lines = line
        line = &vmstat.lines[vmstat.count]
        memset(line, 0, sizeof(VmstatLine))
        line.following = -1
        line.kind = NAMELESS
        if scan_word(&text, &line.name):
            scan_u64(&text, &line.hosts)
            if old != NULL and vmstat.count < old.count and is_same(line.name, old.lines[vmstat.count].name):
                line.kind = old.lines[vmstat.count].kind
                line.source = old.lines[vmstat.count].source
                line.unit = old.lines[vmstat.count].unit
            else:
                name_line(line, &cursor)
                same = False
            put(&vmstat.zeros, line.name.at, span_length(line.name))
            put_char(&vmstat.zeros, c" ")
            line.at = vmstat.zeros.length
            put_char(&vmstat.zeros, c"0")
        put_str(&vmstat.zeros, b"\n")
        if line.kind == EVENT:
            bucket = bucket_of(line.name)
            line.following = vmstat.first[bucket]
            vmstat.first[bucket] = vmstat.count
        vmstat.count += 1
    if same and vmstat.count == old.count:
        vmstat.names = old.names
    return not vmstat.zeros.broken


cdef bint put_in_order(VmstatText *vmstat) noexcept nogil:
    """So that a render need not go through all lines to find these. False when memory ran out."""
    cdef int i
    vmstat.order = <int *>malloc(<size_t>vmstat.count * sizeof(int))
    if vmstat.order == NULL:
        return False
    for i in range(vmstat.count):
        if vmstat.lines[i].kind == AMOUNT:
            vmstat.order[vmstat.amount_count] = i
            vmstat.amount_count += 1
    for i in range(vmstat.count):
        if vmstat.lines[i].kind in (PAGES_IN, PAGES_OUT, KILLS):
            vmstat.order[vmstat.amount_count + vmstat.other_count] = i
            vmstat.other_count += 1
    return True


cdef bint is_same(Span name, Span other) noexcept nogil:
    return other.at != NULL and span_is(name, other.at, span_length(other))


cdef void name_line(VmstatLine *line, int *cursor) noexcept nogil:
    cdef const Line *known
    if span_starts(line.name, b"nr_", 3):
        known = find_line(line.name, cursor)
        line.kind = AMOUNT_UNKNOWN
        if known != NULL:
            line.kind = AMOUNT
            line.source = known.source
            line.unit = known.unit
    elif span_is(line.name, b"pgpgin", 6):
        line.kind = PAGES_IN
    elif span_is(line.name, b"pgpgout", 7):
        line.kind = PAGES_OUT
    elif span_is(line.name, b"oom_kill", 8):
        line.kind = KILLS
    else:
        line.kind = EVENT
