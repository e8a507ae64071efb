# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Counters of a container that never go back, though the cgroup that counts may be another one than before.

From one *source* (a cgroup, for as long as it lives) each counter is shown as ``start`` + what the kernel says, and
never less than before. With another source, start is set so that counting goes on from what was shown last; so a thread
that asked the old one before the change, and ends after it, does no harm.
"""

from libc.stdint cimport uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memset


cdef void counters_free(Counters *counters) noexcept nogil:
    free(counters.shown)
    free(counters.start)


cdef bint make_room(Counters *counters, int count) noexcept nogil:
    cdef uint64_t *larger
    if counters.capacity >= count:
        return True
    larger = <uint64_t *>realloc(counters.shown, <size_t>count * sizeof(uint64_t))
    if larger == NULL:
        return False
    counters.shown = larger
    larger = <uint64_t *>realloc(counters.start, <size_t>count * sizeof(uint64_t))
    if larger == NULL:
        return False
    counters.start = larger
    counters.capacity = count
    return True


cdef void counters_resume(
    Counters *counters, uint64_t source, int count, const uint64_t *shown, const uint64_t *start
) noexcept nogil:
    """Of a container whose last numbers another process has shown: go on from there."""
    if not make_room(counters, count):
        return
    memcpy(counters.shown, shown, <size_t>count * sizeof(uint64_t))
    memcpy(counters.start, start, <size_t>count * sizeof(uint64_t))
    counters.count = count
    counters.source = source


cdef void settle(Counters *counters, int which, uint64_t value) noexcept nogil:
    value += counters.start[which]
    # As a signed distance: start may have wrapped, and a counter that stands still is not behind.
    if <long long>(value - counters.shown[which]) > 0:
        counters.shown[which] = value


cdef bint counters_settle(
    Counters *counters, uint64_t source, int count, uint64_t *values, const int *touched, int touched_count
) noexcept nogil:
    """Turn the kernel's ``values`` into those to show, in place. False when memory ran out.

    Another ``count`` than before means other counters. ``touched`` are those that may be anything but 0 (a count of -1:
    all may be). With the same source as before the others have not moved: most names of vmstat nobody counts here.
    The owner holds the lock.
    """
    cdef int which
    cdef int i
    if counters.count != count:
        if not make_room(counters, count):
            return False
        memset(counters.start, 0, <size_t>count * sizeof(uint64_t))
        memcpy(counters.shown, values, <size_t>count * sizeof(uint64_t))
        counters.count = count
        counters.source = source
    elif source != counters.source:
        for i in range(count):
            counters.start[i] = counters.shown[i] - values[i]
        counters.source = source
    else:
        for i in range(count if touched_count < 0 else touched_count):
            which = i if touched_count < 0 else touched[i]
            settle(counters, which, values[which])
    memcpy(values, counters.shown, <size_t>count * sizeof(uint64_t))
    return True
