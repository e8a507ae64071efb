# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""/proc/vmstat: the host's file as a template (mm/vmstat.c), with the container's numbers.

- ``nr_*`` are amounts: those that meminfo has as well are the container's, in the unit of the
  line. What no cgroup counts is 0, as there.
- ``nr_dirty_threshold`` and ``nr_dirty_background_threshold`` are limits: the host's, at most the container's memory.
- All others count events, and never go back. Those that memory.stat counts under the same name are the cgroup's,
  ``pgpgin`` and ``pgpgout`` are its block I/O in KiB, ``oom_kill`` the kills in it (v2: and below). Every other one is
  0: what the host does is not the container's business.

Where the memory controller does not reach down to the container, the lines that it would count are the host's.
"""

from libc.stdint cimport uint64_t
from procview._fast.snapshot cimport Memory, STAT_FILE_DIRTY, STAT_FILE_WRITEBACK
from procview._fast.templates cimport VmstatLine, VmstatText
from procview._fast.text cimport put, put_u64, text_reserve
from procview._fast.vmstat_host cimport AMOUNT, FREE, HOST_LIMIT, HUGE_PAGES, KIB, WRITE_PENDING


cdef uint64_t value_of(const Snapshot *snapshot, const VmstatLine *line) noexcept nogil:
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
        return line.hosts if line.hosts < memory.total_bytes // unit else memory.total_bytes // unit
    if line.source == WRITE_PENDING:
        return memory.stat[STAT_FILE_DIRTY] // unit + memory.stat[STAT_FILE_WRITEBACK] // unit
    if line.source == FREE:
        return 0   # usage cannot be read, as in meminfo
    return memory.stat[line.source] // unit


cdef void render_vmstat(const Snapshot *snapshot, Text *out) noexcept nogil:
    cdef const VmstatText *vmstat = snapshot.vmstat
    cdef const VmstatLine *line
    cdef uint64_t value
    cdef size_t written = 0
    cdef int i
    text_reserve(out, vmstat.zeros.length)
    for i in range(vmstat.count):
        line = &vmstat.lines[i]
        value = value_of(snapshot, line) if line.kind == AMOUNT else snapshot.events[i]
        if value == 0 or line.at == 0:
            continue   # most of them: copied with the next that is not
        put(out, vmstat.zeros.data + written, line.at - written)
        put_u64(out, value)
        written = line.at + 1
    put(out, vmstat.zeros.data + written, vmstat.zeros.length - written)
