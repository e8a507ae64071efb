"""How many CPUs a container has and which, and of which nodes it may have memory. See ``_fast/cpus.pyx``."""

from libc.stdint cimport uint64_t

from procview._fast.cgroup cimport Group, Groups
from procview._fast.host cimport CpuSet, Host
from procview._fast.scope cimport Scope
from procview._fast.text cimport Text


cdef struct Quota:
    uint64_t quota_usec
    uint64_t period_usec   # 0: there is no quota


cdef int count_cpus(
    Host *host, Groups *groups, const Scope *scope, bint by_quota, uint64_t number, CpuSet *allowed, Text *scratch
) noexcept nogil
cdef Quota smallest_quota(Groups *groups, Group *group, uint64_t number, Text *scratch) noexcept nogil
cdef bint find_mems(Groups *groups, const Scope *scope, CpuSet *nodes, Text *scratch) noexcept nogil
