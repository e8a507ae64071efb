# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""/proc/uptime: time since init started, and the idle time of /proc/stat in seconds, so that the two files agree."""

from libc.stdint cimport uint64_t

from procview._fast.accounts cimport COLUMNS, IDLE
from procview._fast.text cimport put_char, put_hundredths


cdef void render_uptime(const Snapshot *snapshot, Text *out) noexcept nogil:
    cdef uint64_t idle_ticks = 0
    cdef int cpu
    for cpu in range(snapshot.cpus):
        idle_ticks += snapshot.columns[cpu * COLUMNS + IDLE]
    put_hundredths(out, snapshot.uptime_hundredths)
    put_char(out, c" ")
    put_hundredths(out, idle_ticks * 100 // snapshot.ticks_per_second)
    put_char(out, c"\n")
