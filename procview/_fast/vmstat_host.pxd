"""The host's /proc/vmstat, taken apart. See ``_fast/vmstat_host.pyx``."""

from procview._fast.host cimport Host
from procview._fast.scan cimport Span
from procview._fast.templates cimport VmstatText


cdef enum:  # kinds of a line
    NAMELESS
    AMOUNT_UNKNOWN   # nr_*, and no cgroup counts it
    AMOUNT
    EVENT
    PAGES_IN
    PAGES_OUT
    KILLS

cdef enum:  # sources of an amount
    FREE = -1
    WRITE_PENDING = -2
    HOST_LIMIT = -3
    # 0 and up: that key of memory.stat

cdef enum:  # units of an amount
    PAGES
    KIB
    HUGE_PAGES   # as large as a transparent one


cdef VmstatText *vmstat_take(Host *host) noexcept nogil
cdef void vmstat_put(VmstatText *vmstat) noexcept nogil
cdef void vmstat_forget(Host *host) noexcept nogil
cdef int bucket_of(Span name) noexcept nogil
