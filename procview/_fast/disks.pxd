"""Which disks a container has, under which names, and its I/O on them. See ``_fast/disks.pyx``."""

from libc.stdint cimport int64_t

from procview._fast.container cimport Container, Containers
from procview._fast.host cimport Host
from procview._fast.scope cimport Scope
from procview._fast.snapshot cimport Snapshot


cdef bint devices_are_fresh(const Host *host, Container *container) noexcept nogil
cdef int read_disks(
    Snapshot *snapshot, Containers *containers, Container *container, const Scope *scope
) noexcept nogil
