"""The host's /proc/meminfo, taken apart. See ``_fast/meminfo_host.pyx``."""

from procview._fast.host cimport Host
from procview._fast.templates cimport MeminfoText


cdef enum:  # sources of a line
    ZERO = -1
    TOTAL = -2
    FREE = -3
    AVAILABLE = -4
    ACTIVE = -5
    INACTIVE = -6
    SWAP_TOTAL = -7
    SWAP_FREE = -8
    COMMIT_LIMIT = -9
    COMMITTED = -10
    HUGE_TOTAL = -11
    HUGE_FREE = -12
    HUGE_RESERVED = -13
    HUGE_ZERO = -14
    HUGE_ALL = -15
    # 0 and up: that key of memory.stat


cdef MeminfoText *meminfo_take(Host *host) noexcept nogil
cdef void meminfo_put(MeminfoText *meminfo) noexcept nogil
cdef void meminfo_forget(Host *host) noexcept nogil
