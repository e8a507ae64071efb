"""The kernel's word that nothing was written to any cgroup since. See ``_fast/changes.pyx``."""

from libc.stdint cimport uint64_t

from procview._fast.host cimport Host


cdef struct Changes:
    int watch         # a fanotify group; -1: nobody watches, and nothing may be taken for unchanged
    uint64_t number   # atomic; odd while what was reported is taken away
    int taking        # atomic; somebody takes it away


cdef void changes_init(Changes *changes) noexcept nogil
cdef int changes_watch(Changes *changes, const Host *host) noexcept nogil
cdef void changes_free(Changes *changes) noexcept nogil
cdef uint64_t changes_number(Changes *changes) noexcept nogil
cdef bint changes_none_since(Changes *changes, uint64_t number, int pidfd) noexcept nogil
