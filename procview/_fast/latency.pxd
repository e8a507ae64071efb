"""How long renders of one view took. See ``_fast/latency.pyx``."""

from libc.stdint cimport int64_t, uint64_t


cdef enum:
    LATENCY_BUCKETS = 12   # the last is for all above the highest bound

cdef struct Latency:
    # each of them atomic
    uint64_t total_ns
    uint64_t buckets[LATENCY_BUCKETS]


cdef void latency_add(Latency *latency, int64_t took_ns) noexcept nogil
cdef uint64_t latency_count(const Latency *latency) noexcept nogil
cdef int64_t latency_bound_ns(int bucket) noexcept nogil
