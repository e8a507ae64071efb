# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The host's /proc/cpuinfo, taken apart and kept for a while.

Reading it costs the kernel milliseconds on a host with hundreds of CPUs. The text is kept for up to FRESH_SECONDS
and read again at once when the set of online CPUs changes: so ``cpu MHz`` may be that old, and nothing else in it
changes while the kernel runs.
"""

from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memchr, memcmp, memset

from procview._fast.host cimport CpuSet, host_boottime_ns, host_online
from procview._fast.kept cimport read_path
from procview._fast.posix cimport (
    count_down,
    count_up,
    pthread_mutex_destroy,
    pthread_mutex_init,
    pthread_mutex_lock,
    pthread_mutex_unlock,
)
from procview._fast.scan cimport Span, next_line, scan_u64, span, span_is, span_length, span_starts
from procview._fast.text cimport text_free, text_init


cdef enum:
    FRESH_SECONDS = 5
    CPUINFO_BYTES = 64 << 20


cdef void cpuinfo_cache_init(CpuinfoCache *cache) noexcept nogil:
    cache.newest = NULL
    pthread_mutex_init(&cache.lock, NULL)


cdef void cpuinfo_cache_free(CpuinfoCache *cache) noexcept nogil:
    if cache.newest != NULL:
        cpuinfo_put(cache.newest)
    pthread_mutex_destroy(&cache.lock)


cdef CpuinfoText *cpuinfo_take(CpuinfoCache *cache, Host *host, Text *scratch) noexcept nogil:
    """The host's text, counted: give it back with cpuinfo_put. NULL where there is none or memory ran out."""
    cdef CpuSet online
    cdef uint64_t _stretch
    cdef CpuinfoText *cpuinfo
    cdef int64_t now = host_boottime_ns(host)
    host_online(host, &online, &_stretch, scratch)
    # Under the lock: that only one of many readers has the kernel write its long file.
    pthread_mutex_lock(&cache.lock)
    cpuinfo = cache.newest
    if (
        cpuinfo == NULL or now - cpuinfo.read_ns > <int64_t>FRESH_SECONDS * 1000000000
        or memcmp(&cpuinfo.online, &online, sizeof(CpuSet)) != 0
    ):
        cpuinfo = read_cpuinfo(host, &online, now)
        if cpuinfo != NULL:
            if cache.newest != NULL:
                cpuinfo_put(cache.newest)
            cache.newest = cpuinfo
    if cpuinfo != NULL:
        count_up(&cpuinfo.references)
    pthread_mutex_unlock(&cache.lock)
    return cpuinfo


cdef void cpuinfo_put(CpuinfoText *cpuinfo) noexcept nogil:
    if count_down(&cpuinfo.references) > 0:
        return
    text_free(&cpuinfo.text)
    free(cpuinfo.stanzas)
    free(cpuinfo.lines)
    free(cpuinfo.edits)
    free(cpuinfo)


cdef CpuinfoText *read_cpuinfo(Host *host, const CpuSet *online, int64_t now) noexcept nogil:
    cdef CpuinfoText *cpuinfo = <CpuinfoText *>calloc(1, sizeof(CpuinfoText))
    if cpuinfo == NULL:
        return NULL
    cpuinfo.references = 1
    cpuinfo.online = online[0]
    cpuinfo.read_ns = now
    text_init(&cpuinfo.text)
    if read_path(host.proc_fd, b"cpuinfo", &cpuinfo.text, CPUINFO_BYTES) <= 0 or not take_apart(cpuinfo):
        cpuinfo_put(cpuinfo)
        return NULL
    return cpuinfo


cdef void *grown(void *array, int count, int *capacity, size_t size) noexcept nogil:
    """Room for one more; NULL when memory ran out (the old array stays)."""
    cdef int wanted = capacity[0] * 2 if capacity[0] else 16
    cdef void *larger
    if count < capacity[0]:
        return array
    larger = realloc(array, <size_t>wanted * size)
    if larger != NULL:
        capacity[0] = wanted
    return larger


cdef Span name_of(Span line, Span *value) noexcept nogil:
    """What stands before the colon, without the blanks around it, and what stands after it. Empty where there is no
    colon.
    """
    cdef const char *colon = <const char *>memchr(line.at, c":", span_length(line))
    cdef Span name = line
    if colon == NULL:
        name.end = name.at
        value.at = line.end
        value.end = line.end
        return name
    name.end = colon
    while name.end > name.at and ((name.end - 1)[0] == c" " or (name.end - 1)[0] == c"\t"):
        name.end -= 1
    value.at = colon + 1
    value.end = line.end
    while value.at < value.end and (value.at[0] == c" " or value.at[0] == c"\t"):
        value.at += 1
    return name


cdef int field_of(Span name) noexcept nogil:
    """What becomes of a field of a stanza; -1: it stays as it is."""
    if span_is(name, b"processor", 9) or span_is(name, b"cpu number", 10):
        return FIELD_PROCESSOR
    if span_is(name, b"physical id", 11) or span_is(name, b"apicid", 6) or span_is(name, b"initial apicid", 14):
        return FIELD_PACKAGE
    if span_is(name, b"core id", 7):
        return FIELD_ZERO
    if span_is(name, b"siblings", 8) or span_is(name, b"cpu cores", 9):
        return FIELD_ONE
    return -1


cdef bint take_apart(CpuinfoText *cpuinfo) noexcept nogil:
    """Find the stanzas and the places in them that are rewritten. False when memory ran out or there is no stanza."""
    cdef const char *data = cpuinfo.text.data
    cdef Span rest = span(data, cpuinfo.text.length)
    cdef Span line
    cdef Span name
    cdef Span value
    cdef Span number
    cdef uint64_t cpu
    cdef bint inside = False
    cdef int field
    cdef Stanza *stanza = NULL
    cdef void *array
    while next_line(&rest, &line):
        if inside and span_length(line) == 0:
            # The blank line belongs to the stanza it ends.
            stanza.end = <size_t>(rest.at - data)
            inside = False
            continue
        name = name_of(line, &value)
        number = value
        if span_starts(name, b"processor ", 10) and not inside:
            # s390x: "processor 0: version = ..." in the head
            number = name
            number.at += 10
            if not scan_u64(&number, &cpu):
                continue
            array = grown(cpuinfo.lines, cpuinfo.line_count, &cpuinfo.line_capacity, sizeof(Stanza))
            if array == NULL:
                return False
            cpuinfo.lines = <Stanza *>array
            stanza = &cpuinfo.lines[cpuinfo.line_count]
            if cpuinfo.line_count == 0:
                cpuinfo.lines_start = <size_t>(line.at - data)
            cpuinfo.line_count += 1
            cpuinfo.lines_end = <size_t>(rest.at - data)
            memset(stanza, 0, sizeof(Stanza))
            stanza.cpu = <int>cpu
            # From after the number on: ": version = ..."
            stanza.start = <size_t>(number.at - data)
            stanza.end = cpuinfo.lines_end
            continue
        field = field_of(name)
        if field == FIELD_PROCESSOR and scan_u64(&number, &cpu):
            # Where stanzas follow each other without a blank line, the next one ends the last.
            array = grown(cpuinfo.stanzas, cpuinfo.stanza_count, &cpuinfo.stanza_capacity, sizeof(Stanza))
            if array == NULL:
                return False
            cpuinfo.stanzas = <Stanza *>array
            stanza = &cpuinfo.stanzas[cpuinfo.stanza_count]
            cpuinfo.stanza_count += 1
            memset(stanza, 0, sizeof(Stanza))
            stanza.cpu = <int>cpu
            stanza.start = <size_t>(line.at - data)
            stanza.first_edit = cpuinfo.edit_count
            inside = True
        elif not inside and span_is(name, b"# processors", 12) and scan_u64(&number, &cpu):
            cpuinfo.count_edit.start = <size_t>(value.at - data)
            cpuinfo.count_edit.end = <size_t>(number.at - data)
            continue
        if not inside:
            continue
        stanza.end = <size_t>(rest.at - data)
        number = value
        if field >= 0 and scan_u64(&number, &cpu):
            array = grown(cpuinfo.edits, cpuinfo.edit_count, &cpuinfo.edit_capacity, sizeof(Edit))
            if array == NULL:
                return False
            cpuinfo.edits = <Edit *>array
            cpuinfo.edits[cpuinfo.edit_count].start = <size_t>(value.at - data)
            cpuinfo.edits[cpuinfo.edit_count].end = <size_t>(number.at - data)
            cpuinfo.edits[cpuinfo.edit_count].field = field
            cpuinfo.edit_count += 1
            stanza.edits += 1
    if cpuinfo.stanza_count == 0:
        return False
    cpuinfo.head_end = cpuinfo.stanzas[0].start
    cpuinfo.tail_start = cpuinfo.stanzas[cpuinfo.stanza_count - 1].end
    return True
