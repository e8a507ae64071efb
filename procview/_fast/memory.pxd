"""A container's memory, swap and huge pages. See ``_fast/memory.pyx``."""

from procview._fast.cgroup cimport Groups
from procview._fast.host cimport Host
from procview._fast.scope cimport Scope
from procview._fast.snapshot cimport Snapshot


cdef int read_memory(Snapshot *snapshot, Host *host, Groups *groups, const Scope *scope) noexcept nogil
