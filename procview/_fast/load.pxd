"""The load of a container: threads that run or wait for a disk, sampled. See ``_fast/load.pyx``."""

from libc.stdint cimport int64_t

from procview._fast.container cimport Container, Containers
from procview._fast.snapshot cimport Snapshot


cdef bint load_is_watched(Container *container) noexcept nogil
cdef int read_load(Snapshot *snapshot, Containers *containers, Container *container) noexcept nogil
cdef int sample_all(Containers *containers) noexcept nogil
