# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""/proc/stat: the container's CPU time, in ticks (fs/proc/stat.c, proc(5)).

The host's interrupts, context switches and softirqs are 0: they are not the container's business, and a known side
channel. The line ``cpu`` is the exact sum of the others.
"""

from libc.stdint cimport uint64_t

from procview._fast.accounts cimport COLUMNS
from procview._fast.text cimport put_char, put_str, put_u64


cdef void render_stat(const Snapshot *snapshot, Text *out) noexcept nogil:
    cdef uint64_t sums[COLUMNS]
    cdef int cpu
    cdef int column
    cdef int _column
    for column in range(COLUMNS):
        sums[column] = 0
        for cpu in range(snapshot.cpus):
            sums[column] += snapshot.columns[cpu * COLUMNS + column]
    put_str(out, b"cpu ")
    put_columns(out, sums)
    for cpu in range(snapshot.cpus):
        put_str(out, b"cpu")
        put_u64(out, <uint64_t>cpu)
        put_columns(out, snapshot.columns + cpu * COLUMNS)
    put_str(out, b"intr 0\nctxt 0\nbtime ")
    put_u64(out, snapshot.btime)
    put_str(out, b"\nprocesses ")
    put_u64(out, snapshot.tasks)
    put_str(out, b"\nprocs_running ")
    put_u64(out, snapshot.running)
    put_str(out, b"\nprocs_blocked ")
    put_u64(out, snapshot.blocked)
    put_str(out, b"\nsoftirq")
    for _column in range(snapshot.softirq_columns):
        put_str(out, b" 0")
    put_char(out, c"\n")


cdef void put_columns(Text *out, const uint64_t *columns) noexcept nogil:
    cdef int column
    for column in range(COLUMNS):
        put_char(out, c" ")
        put_u64(out, columns[column])
    put_char(out, c"\n")
