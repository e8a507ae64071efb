# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""memory.stat of a cgroup, taken apart: fifty lines of a key and a number, for meminfo and vmstat.

Which key stands where changes with the kernel only, so each line's is remembered (for each snapshot, which one thread
uses at a time): where the same key stands there again, as it nearly always does, nothing has to be looked up. It is
compared each time; a key that stands elsewhere is looked up, and remembered for the next time.

Touches nothing: it is given the text.
"""

from libc.stdint cimport uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memchr, memcmp, memcpy, memset, strlen

from procview._fast.posix cimport memmem
from procview._fast.scan cimport Span, scan_u64, scan_word, span, span_length, span_starts
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
from procview._fast.templates cimport EVENT_UNKNOWN, STAT_KEY_BYTES


cdef enum:
    SLOTS = 128   # of each table; a power of two, several times the number of keys

cdef struct Key:
    const char *name     # NULL: no key here
    size_t length
    int which

# By hash, the next free slot where two keys meet.
cdef Key v1_keys[SLOTS]
cdef Key v2_keys[SLOTS]


cdef unsigned int slot_of(const char *name, size_t length) noexcept nogil:
    return (
        <unsigned int>length * 7 + <unsigned char>name[length - 1] * 5 + <unsigned char>name[length // 2] * 3
        + <unsigned char>name[length * 3 // 4]
    ) & (SLOTS - 1)


cdef void add_key(Key *table, const char *name, int which) noexcept:
    cdef size_t length = strlen(name)
    cdef unsigned int slot
    if length == 0:
        return
    slot = slot_of(name, length)
    while table[slot].name != NULL:
        slot = (slot + 1) & (SLOTS - 1)
    table[slot].name = name
    table[slot].length = length
    table[slot].which = which


cdef void name_key(int which, const char *v1, const char *v2) noexcept:
    add_key(v1_keys, v1, which)
    add_key(v2_keys, v2, which)


cdef int find_key(const Key *table, Span word) noexcept nogil:
    """The STAT_ number of a key, or -1."""
    cdef size_t length = span_length(word)
    cdef unsigned int slot = slot_of(word.at, length)
    while table[slot].name != NULL:
        if table[slot].length == length and memcmp(table[slot].name, word.at, length) == 0:
            return table[slot].which
        slot = (slot + 1) & (SLOTS - 1)
    return -1


# "" where a version does not count it: stays 0, as the contract says.
name_key(STAT_ANON, b"total_rss", b"anon")
name_key(STAT_FILE, b"total_cache", b"file")
name_key(STAT_KERNEL_STACK, b"", b"kernel_stack")
name_key(STAT_PAGETABLES, b"", b"pagetables")
name_key(STAT_SEC_PAGETABLES, b"", b"sec_pagetables")
name_key(STAT_PERCPU, b"", b"percpu")
name_key(STAT_VMALLOC, b"", b"vmalloc")
name_key(STAT_SHMEM, b"total_shmem", b"shmem")
name_key(STAT_ZSWAP, b"", b"zswap")
name_key(STAT_ZSWAPPED, b"", b"zswapped")
name_key(STAT_FILE_MAPPED, b"total_mapped_file", b"file_mapped")
name_key(STAT_FILE_DIRTY, b"total_dirty", b"file_dirty")
name_key(STAT_FILE_WRITEBACK, b"total_writeback", b"file_writeback")
name_key(STAT_SWAPCACHED, b"total_swapcached", b"swapcached")
name_key(STAT_ANON_THP, b"total_rss_huge", b"anon_thp")
name_key(STAT_FILE_THP, b"", b"file_thp")
name_key(STAT_SHMEM_THP, b"", b"shmem_thp")
name_key(STAT_INACTIVE_ANON, b"total_inactive_anon", b"inactive_anon")
name_key(STAT_ACTIVE_ANON, b"total_active_anon", b"active_anon")
name_key(STAT_INACTIVE_FILE, b"total_inactive_file", b"inactive_file")
name_key(STAT_ACTIVE_FILE, b"total_active_file", b"active_file")
name_key(STAT_UNEVICTABLE, b"total_unevictable", b"unevictable")
name_key(STAT_SLAB_RECLAIMABLE, b"", b"slab_reclaimable")
name_key(STAT_SLAB_UNRECLAIMABLE, b"", b"slab_unreclaimable")
name_key(STAT_SLAB, b"", b"slab")
name_key(STAT_HUGETLB, b"", b"hugetlb")


cdef void stat_lines_free(StatLines *stat) noexcept nogil:
    free(stat.lines)
    memset(stat, 0, sizeof(StatLines))


cdef Span stat_line_name(const StatLine *line) noexcept nogil:
    """Its name as vmstat has it: in the text that was read last."""
    return span(line.at + line.start, <size_t>(line.length - line.start))


cdef StatLine *line_number(StatLines *stat, int number) noexcept nogil:
    """NULL when memory ran out."""
    cdef StatLine *larger
    if number == stat.capacity:
        larger = <StatLine *>realloc(stat.lines, <size_t>(number + 64) * sizeof(StatLine))
        if larger == NULL:
            return NULL
        memset(larger + number, 0, 64 * sizeof(StatLine))
        stat.lines = larger
        stat.capacity = number + 64
    return &stat.lines[number]


cdef void look_up(StatLine *line, int version, Span text) noexcept nogil:
    """Take apart a line that is not the remembered one, and remember it."""
    cdef const Key *keys = &v1_keys[0] if version == 1 else &v2_keys[0]
    cdef const char *start = text.at
    cdef Span word
    line.learned = 0
    line.at = NULL
    line.which = -1
    line.event = EVENT_UNKNOWN
    if not scan_word(&text, &word) or span_length(word) > 0xFFFF or not scan_u64(&text, &line.value):
        return
    line.at = word.at
    line.length = <unsigned short>span_length(word)
    line.start = 6 if version == 1 else 0
    line.which = <short>find_key(keys, word)
    if word.at == start and word.end[0] == c" " and span_length(word) < STAT_KEY_BYTES:
        line.learned = line.length + 1
        memcpy(line.key, word.at, line.learned)


cdef const char *first_total(const StatLines *stat, const Text *text) noexcept nogil:
    """v1: where the lines begin that count the cgroup with all below it. The half before them is as long, and nearly as
    often as long as it was the last time: the key of the first of them, which is there once, is looked for at that
    place, before all is searched.
    """
    cdef const StatLine *first = stat.lines
    cdef const char *found
    if first != NULL and first.learned and first.at > text.data and first.at < text.data + text.length:
        found = first.at
        if (
            (found - 1)[0] == c"\n" and text.data + text.length - found > first.learned
            and memcmp(found, first.key, first.learned) == 0
        ):
            return found
    if text.length >= 6 and memcmp(text.data, b"total_", 6) == 0:
        return text.data
    found = <const char *>memmem(text.data, text.length, b"\ntotal_", 7)
    return found + 1 if found != NULL else text.data + text.length


cdef bint stat_lines_read(
    StatLines *stat, const Text *text, int version, uint64_t *numbers, bint *known
) noexcept nogil:
    """Fill in the ``numbers`` that Memory.stat has; ``known``: there was any. False when memory ran out."""
    cdef const char *at = text.data
    cdef const char *end = text.data + text.length
    cdef const char *start
    cdef const char *newline
    cdef StatLine *line
    cdef uint64_t value
    cdef unsigned int digit
    if stat.version != version:
        if stat.capacity:
            memset(stat.lines, 0, <size_t>stat.capacity * sizeof(StatLine))
        stat.version = version
    stat.count = 0
    if version == 1:
        at = first_total(stat, text)
    while at < end:
        line = line_number(stat, stat.count)
        if line == NULL:
            return False
        if line.learned and end - at > line.learned and memcmp(at, line.key, line.learned) == 0:
            start = at
            at += line.learned
            value = 0
            while True:
                digit = <unsigned int><unsigned char>at[0] - c"0"
                if digit > 9:   # the NUL behind the text at the latest
                    break
                value = value * 10 + digit
                at += 1
            if at[0] == c"\n" and 0 < at - start - line.learned < 20:
                line.value = value
                line.at = start
                stat.count += 1
                if line.which >= 0:
                    numbers[line.which] = value
                    known[0] = True
                at += 1
                continue
            at = start
        newline = <const char *>memchr(at, c"\n", <size_t>(end - at))
        start = at
        if newline == NULL:
            newline = end
        at = newline + 1
        if version == 1 and not span_starts(span(start, <size_t>(newline - start)), b"total_", 6):
            continue   # the cgroup without those below it
        look_up(line, version, span(start, <size_t>(newline - start)))
        stat.count += 1
        if line.at != NULL and line.which >= 0:
            numbers[line.which] = line.value
            known[0] = True
    return True
