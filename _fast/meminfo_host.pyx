# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The host's /proc/meminfo, taken apart and kept for a moment.

What is the host's own in a container's meminfo (MemTotal and SwapTotal as upper bounds, the lines that no cgroup
counts, vm.overcommit_ratio) may be HOST_FRESH_NS old. To write the file costs the kernel as much as half of all the
rest does.
"""

from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memchr, memcmp, strlen

from procview._fast.host cimport host_is_fresh
from procview._fast.kept cimport READ_ONCE, kept_read
from procview._fast.posix cimport (
    CLOCK_MONOTONIC,
    clock_ns,
    count_down,
    count_up,
    pthread_mutex_lock,
    pthread_mutex_unlock,
)
from procview._fast.scan cimport Span, next_line, scan_u64, span, span_is, span_length
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
from procview._fast.templates cimport MeminfoNumber
from procview._fast.text cimport Text, put, put_char, put_u64_right, text_free, text_init


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


cdef MeminfoText *meminfo_take(Host *host) noexcept nogil:
    """The host's text, counted: give it back with meminfo_put. NULL where there is none or memory ran out."""
    cdef MeminfoText *meminfo
    cdef MeminfoText *old
    cdef int64_t now = clock_ns(CLOCK_MONOTONIC)
    # Under the lock: that only one of many readers has the kernel write the file.
    pthread_mutex_lock(&host.meminfo_lines.lock)
    meminfo = host.meminfo_lines.newest
    if meminfo == NULL or not host_is_fresh(host, meminfo.read_ns, now):
        old = meminfo
        meminfo = read_meminfo(host, now)
        host.meminfo_lines.newest = meminfo
        if old != NULL:
            meminfo_put(old)
    if meminfo != NULL:
        count_up(&meminfo.references)
    pthread_mutex_unlock(&host.meminfo_lines.lock)
    return meminfo


cdef void meminfo_forget(Host *host) noexcept nogil:
    """At the end: nobody takes it any more."""
    if host.meminfo_lines.newest != NULL:
        meminfo_put(host.meminfo_lines.newest)
        host.meminfo_lines.newest = NULL


cdef void meminfo_put(MeminfoText *meminfo) noexcept nogil:
    if count_down(&meminfo.references) > 0:
        return
    text_free(&meminfo.text)
    text_free(&meminfo.zeros)
    free(meminfo.numbers)
    free(meminfo)


cdef MeminfoText *read_meminfo(Host *host, int64_t now) noexcept nogil:
    cdef MeminfoText *meminfo = <MeminfoText *>calloc(1, sizeof(MeminfoText))
    if meminfo == NULL:
        return NULL
    meminfo.references = 1
    meminfo.read_ns = now
    text_init(&meminfo.text)
    text_init(&meminfo.zeros)
    if kept_read(
        host.keeper, &host.meminfo, host.proc_fd, b"meminfo", &meminfo.text, READ_ONCE
    ) <= 0 or not take_apart(meminfo):
        meminfo_put(meminfo)
        return NULL
    meminfo.overcommit_percent = read_overcommit(host)
    return meminfo


cdef uint64_t read_overcommit(Host *host) noexcept nogil:
    """vm.overcommit_ratio in percent; 50, the kernel's own default, where it cannot be read."""
    cdef uint64_t percent = 50
    cdef Text text
    cdef Span rest
    text_init(&text)
    if kept_read(
        host.keeper, &host.overcommit_ratio, host.proc_fd, b"sys/vm/overcommit_ratio", &text, READ_ONCE
    ) > 0:
        rest = span(text.data, text.length)
        scan_u64(&rest, &percent)
    text_free(&text)
    return percent


cdef uint64_t number_of(Span digits) noexcept nogil:
    cdef uint64_t value = 0
    scan_u64(&digits, &value)
    return value


cdef bint take_apart(MeminfoText *meminfo) noexcept nogil:
    """Find the numbers that are replaced. False when memory ran out or there is no MemTotal."""
    cdef Span rest
    cdef Span line
    cdef Span name
    cdef Span digits
    cdef const char *colon
    cdef const char *written
    cdef const Line *known
    cdef int cursor = 0
    cdef bint has_total = False
    cdef bint has_swap = False
    cdef size_t least
    if meminfo.text.data[meminfo.text.length - 1] != c"\n":
        put_char(&meminfo.text, c"\n")
    if meminfo.text.broken:
        return False
    rest = span(meminfo.text.data, meminfo.text.length)
    written = rest.at
    while next_line(&rest, &line):
        colon = <const char *>memchr(line.at, c":", span_length(line))
        if colon == NULL:
            continue
        name.at = line.at
        name.end = colon
        digits = span(colon + 1, <size_t>(line.end - colon - 1))
        # Of these, the first that there are: see the kernel's order.
        if span_is(name, b"MemTotal", 8) and not has_swap:
            has_total = scan_u64(&digits, &meminfo.memory_bytes)
            meminfo.memory_bytes <<= 10
        elif span_is(name, b"SwapTotal", 9) and not has_swap:
            has_swap = True
            scan_u64(&digits, &meminfo.swap_bytes)
            meminfo.swap_bytes <<= 10
        elif span_is(name, b"Hugetlb", 7):
            meminfo.no_huge_pages = digits.at < digits.end and number_is_zero(digits)
        known = find_line(name, &cursor)
        if known == NULL or not find_digits(colon + 1, line.end, &digits):
            continue
        # The kernel writes "Name:" and blanks up to column 16, then %8lu (%5lu for HugePages_*), then perhaps " kB".
        least = 8 if digits.end < line.end else 5
        if span_length(digits) > least:
            least = span_length(digits)
        if not add_number(meminfo, written, colon + 1, digits, least, known.source, 8 if digits.end < line.end else 5):
            return False
        written = digits.end
    meminfo.rest = span(written, <size_t>(rest.end - written))
    put(&meminfo.zeros, meminfo.rest.at, span_length(meminfo.rest))
    return has_total and not meminfo.zeros.broken


cdef bint number_is_zero(Span digits) noexcept nogil:
    cdef uint64_t value
    return scan_u64(&digits, &value) and value == 0


cdef bint add_number(
    MeminfoText *meminfo, const char *written, const char *field, Span digits, size_t least, int source, int width
) noexcept nogil:
    """``field``: where the blanks before the digits begin. False when memory ran out."""
    cdef MeminfoNumber *number
    if meminfo.count % 64 == 0:
        number = <MeminfoNumber *>realloc(meminfo.numbers, <size_t>(meminfo.count + 64) * sizeof(MeminfoNumber))
        if number == NULL:
            return False
        meminfo.numbers = number
    number = &meminfo.numbers[meminfo.count]
    meminfo.count += 1
    if <size_t>(digits.end - field) > least:
        field = digits.end - least
    number.before = span(written, <size_t>(field - written))
    number.hosts = span(field, <size_t>(digits.end - field))
    number.hosts_value = number_of(digits)
    number.source = source
    number.width = width
    number.beyond = 100000000 if width == 8 else 100000
    put(&meminfo.zeros, number.before.at, span_length(number.before))
    put_u64_right(&meminfo.zeros, 0, <size_t>width)
    number.end = meminfo.zeros.length
    return True


cdef bint find_digits(const char *at, const char *end, Span *digits) noexcept nogil:
    """The number on a line, from its end: ``   123 kB`` or ``  123``. False where there is none."""
    if end - at > 3 and (end - 1)[0] == c"B" and (end - 3)[0] == c" ":
        end -= 3
    digits.end = end
    while end > at and c"0" <= (end - 1)[0] <= c"9":
        end -= 1
    digits.at = end
    return digits.end > digits.at
