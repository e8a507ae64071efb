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
from procview._fast.posix cimport trailing_zeros
from procview._fast.snapshot cimport Memory, STAT_FILE_DIRTY, STAT_FILE_WRITEBACK
from procview._fast.templates cimport VmstatLine, VmstatText
from procview._fast.text cimport put, put_u64, text_reserve
from procview._fast.vmstat_host cimport FREE, HOST_LIMIT, HUGE_PAGES, KIB, WRITE_PENDING


cdef uint64_t in_units(uint64_t amount_bytes, uint64_t unit) noexcept nogil:
    """Shifted: thirty divisions cost as much as a system call. What is no power of two is not the kernel's."""
    return amount_bytes >> trailing_zeros(unit) if unit & (unit - 1) == 0 else amount_bytes // unit


cdef uint64_t value_of(const Snapshot *snapshot, const VmstatLine *line) noexcept nogil:
    cdef const Memory *memory = &snapshot.memory
    cdef uint64_t unit = snapshot.page_bytes
    cdef uint64_t total
    if line.unit == KIB:
        unit = 1 << 10
    elif line.unit == HUGE_PAGES:
        unit = snapshot.huge_page_bytes
    if unit == 0:
        return 0
    if line.source >= 0 and memory.has_usage:
        return in_units(memory.stat[line.source], unit)
    if line.source == FREE and memory.has_free:
        return in_units(memory.free_bytes, unit)
    if line.source == HOST_LIMIT or not memory.has_usage:
        total = in_units(memory.total_bytes, unit)
        return line.hosts if line.hosts < total else total
    if line.source == WRITE_PENDING:
        return in_units(memory.stat[STAT_FILE_DIRTY], unit) + in_units(memory.stat[STAT_FILE_WRITEBACK], unit)
    return 0   # FREE: usage cannot be read, as in meminfo


cdef size_t write(const VmstatText *vmstat, size_t written, int which, uint64_t value, Text *out) noexcept nogil:
    """All lines since those that were ``written``, this one's with its number: how far it is written then."""
    cdef size_t at = vmstat.lines[which].at
    if at == 0:
        return written
    put(out, vmstat.zeros.data + written, at - written)
    put_u64(out, value)
    return at + 1


cdef void render_vmstat(const Snapshot *snapshot, Text *out) noexcept nogil:
    cdef const VmstatText *vmstat = snapshot.vmstat
    cdef const uint64_t *events = snapshot.events
    cdef uint64_t value
    cdef size_t written = 0
    cdef int which = 0
    cdef int amount
    cdef int i
    text_reserve(out, vmstat.zeros.length)
    # Most numbers are 0, and copied with the next that is not.
    for i in range(vmstat.amount_count + 1):
        amount = vmstat.order[i] if i < vmstat.amount_count else vmstat.count
        while which < amount:
            if events[which]:
                written = write(vmstat, written, which, events[which], out)
            which += 1
        if which < vmstat.count:
            value = value_of(snapshot, &vmstat.lines[which])
            if value:
                written = write(vmstat, written, which, value, out)
            which += 1
    put(out, vmstat.zeros.data + written, vmstat.zeros.length - written)
