"""Counters of a container that never go back. See ``_fast/counters.pyx``."""

from libc.stdint cimport uint64_t


cdef struct Counters:
    int count
    int capacity
    uint64_t source   # where the kernel's numbers came from last
    uint64_t *shown
    uint64_t *start   # shown = start + the kernel's, in numbers that may wrap


cdef void counters_resume(
    Counters *counters, uint64_t source, int count, const uint64_t *shown, const uint64_t *start
) noexcept nogil
cdef bint counters_settle(
    Counters *counters, uint64_t source, int count, uint64_t *values, const int *touched, int touched_count
) noexcept nogil
cdef void counters_free(Counters *counters) noexcept nogil
