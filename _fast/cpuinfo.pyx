# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""/proc/cpuinfo: the host's stanzas of the container's CPUs, numbered 0..N-1, each with a package of its own."""

from libc.stdint cimport uint64_t

from procview._fast.cpuinfo_host cimport (
    CpuinfoText,
    Edit,
    FIELD_ONE,
    FIELD_PROCESSOR,
    FIELD_ZERO,
    Stanza,
)
from procview._fast.host cimport cpuset_next
from procview._fast.text cimport put, put_str, put_u64


cdef const Stanza *stanza_of(const Stanza *stanzas, int count, int cpu, int *cursor) noexcept nogil:
    """The stanza of a host CPU. One that went offline since the text was read is stood in for by the first: N holds
    everywhere.
    """
    while cursor[0] < count and stanzas[cursor[0]].cpu < cpu:
        cursor[0] += 1
    if cursor[0] < count and stanzas[cursor[0]].cpu == cpu:
        return &stanzas[cursor[0]]
    return &stanzas[0]


cdef void put_stanza(
    Text *out, const CpuinfoText *cpuinfo, const Stanza *stanza, uint64_t number, bint topology_of_host
) noexcept nogil:
    cdef const char *data = cpuinfo.text.data
    cdef size_t at = stanza.start
    cdef const Edit *edit
    cdef int i
    for i in range(stanza.edits):
        edit = &cpuinfo.edits[stanza.first_edit + i]
        if topology_of_host and edit.field != FIELD_PROCESSOR:
            continue
        put(out, data + at, edit.start - at)
        if edit.field == FIELD_ZERO:
            put_u64(out, 0)
        elif edit.field == FIELD_ONE:
            put_u64(out, 1)
        else:
            put_u64(out, number)
        at = edit.end
    put(out, data + at, stanza.end - at)


cdef void render_cpuinfo(const Snapshot *snapshot, Text *out) noexcept nogil:
    cdef const CpuinfoText *cpuinfo = snapshot.cpuinfo
    cdef const char *data = cpuinfo.text.data
    cdef const Stanza *line
    cdef size_t at = 0
    cdef int host_cpu = -1
    cdef int cursor = 0
    cdef int i
    if cpuinfo.count_edit.end > cpuinfo.count_edit.start:
        put(out, data, cpuinfo.count_edit.start)
        put_u64(out, <uint64_t>snapshot.cpus)
        at = cpuinfo.count_edit.end
    if cpuinfo.line_count > 0:
        put(out, data + at, cpuinfo.lines_start - at)
        for i in range(snapshot.cpus):
            host_cpu = cpuset_next(&snapshot.allowed, host_cpu)
            line = stanza_of(cpuinfo.lines, cpuinfo.line_count, host_cpu, &cursor)
            put_str(out, b"processor ")
            put_u64(out, <uint64_t>i)
            put(out, data + line.start, line.end - line.start)
        at = cpuinfo.lines_end
    put(out, data + at, cpuinfo.head_end - at)
    host_cpu = -1
    cursor = 0
    for i in range(snapshot.cpus):
        host_cpu = cpuset_next(&snapshot.allowed, host_cpu)
        put_stanza(
            out, cpuinfo, stanza_of(cpuinfo.stanzas, cpuinfo.stanza_count, host_cpu, &cursor),
            <uint64_t>i, snapshot.settings.topology_of_host
        )
    put(out, data + cpuinfo.tail_start, cpuinfo.text.length - cpuinfo.tail_start)
