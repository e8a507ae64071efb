"""The table of containers. See ``_fast/containers.pyx``."""

from libc.stdint cimport uint64_t

from procview._fast.cgroup cimport Groups
from procview._fast.container cimport Container, Containers
from procview._fast.host cimport Host
from procview._fast.state cimport Shared


cdef int containers_init(Containers *containers, Host *host, Groups *groups) noexcept nogil
cdef void containers_free(Containers *containers) noexcept nogil
cdef Container *container_find(Containers *containers, uint64_t pidns, const char *key, size_t length) noexcept nogil
cdef Container *container_add(Containers *containers, Container *container) noexcept nogil
cdef void containers_record(Containers *containers, Shared *shared) noexcept nogil
cdef Container **containers_all(Containers *containers, size_t *count) noexcept nogil
cdef void container_remove(Containers *containers, Container *container) noexcept nogil
