"""Finding pid 1 of a pid namespace from the host, and what is fixed about it. See ``_fast/init.pyx``."""

from libc.stdint cimport int64_t, uint64_t

from procview._fast.host cimport Host
from procview._fast.text cimport Text


cdef int find_init(Host *host, int pid, uint64_t pidns, Text *scratch, bint may_search) noexcept nogil
cdef int start_ticks_of(Host *host, int pid, uint64_t *ticks, Text *scratch) noexcept nogil
cdef bint is_exiting(Host *host, int pid, Text *scratch) noexcept nogil
cdef bint boottime_offset_of(Host *host, int pid, int64_t *offset_ns, Text *scratch) noexcept nogil
