# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""How long renders of one view took: a histogram that any number of threads count into without a lock."""

from procview._fast.posix cimport add_u64, __ATOMIC_RELAXED, count_u64, u64_now


# Renders take 5 to 50 microseconds; what takes milliseconds has waited for a processor or for the kernel.
cdef int64_t *BOUNDS_NS = [
    5000, 10000, 20000, 50000, 100000, 200000, 500000, 1000000, 5000000, 20000000, 100000000
]


cdef void latency_add(Latency *latency, int64_t took_ns) noexcept nogil:
    cdef int bucket = 0
    while bucket < LATENCY_BUCKETS - 1 and took_ns > BOUNDS_NS[bucket]:
        bucket += 1
    add_u64(&latency.total_ns, <uint64_t>took_ns if took_ns > 0 else 0, __ATOMIC_RELAXED)
    count_u64(&latency.buckets[bucket])


cdef uint64_t latency_count(const Latency *latency) noexcept nogil:
    cdef uint64_t count = 0
    cdef int i
    for i in range(LATENCY_BUCKETS):
        count += u64_now(&latency.buckets[i])
    return count


cdef int64_t latency_bound_ns(int bucket) noexcept nogil:
    """The most that counts into the bucket; of the last one there is none: 0."""
    return BOUNDS_NS[bucket] if bucket < LATENCY_BUCKETS - 1 else 0
