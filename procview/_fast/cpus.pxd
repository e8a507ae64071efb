"""How many CPUs a container has and which, and of which nodes it may have memory. See ``_fast/cpus.pyx``."""

from procview._fast.cgroup cimport Groups
from procview._fast.host cimport CpuSet, Host
from procview._fast.scope cimport Scope
from procview._fast.text cimport Text


cdef int count_cpus(
    Host *host, Groups *groups, const Scope *scope, bint by_quota, CpuSet *allowed, Text *scratch
) noexcept nogil
cdef bint find_mems(Groups *groups, const Scope *scope, CpuSet *nodes, Text *scratch) noexcept nogil
