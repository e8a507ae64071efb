"""A container's CPU time in ticks, by visible CPU. See ``_fast/cputime.pyx``."""

from procview._fast.cgroup cimport Groups
from procview._fast.container cimport Container
from procview._fast.host cimport Host
from procview._fast.scope cimport Scope
from procview._fast.snapshot cimport Snapshot


cdef int read_cpus_and_time(
    Snapshot *snapshot, Host *host, Groups *groups, Container *container, const Scope *scope
) noexcept nogil
cdef void read_tasks(
    Snapshot *snapshot, Host *host, Groups *groups, Container *container, const Scope *scope
) noexcept nogil
