"""From a caller's pid to its container. See ``_fast/caller.pyx``."""

from libc.stdint cimport uint64_t

from procview._fast.container cimport Container, Containers
from procview._fast.scan cimport Span
from procview._fast.text cimport Text


cdef enum:  # placements
    PLACED = 0
    UNKNOWN_CALLER       # pid 0, or gone
    UNREADABLE_CALLER    # its namespace or cgroup could not be read
    UNKNOWN_INIT         # nobody in sight is pid 1 of its pid namespace
    SEARCH_NEEDED        # only a search of /proc could tell, and the caller did not want one
    OUT_OF_MEMORY        # or of descriptors


cdef int container_of(
    Containers *containers, int pid, bint may_search, Container **found, uint64_t *number, Text *scratch, Text *other
) noexcept nogil
cdef Container *container_again(
    Containers *containers, uint64_t pidns, int init, uint64_t init_start_ticks, Span key, Text *scratch, Text *other
) noexcept nogil
cdef bint container_is_known(Containers *containers, int pid) noexcept nogil
