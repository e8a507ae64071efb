"""What a container's cgroups count, by the names of /proc/vmstat. See ``_fast/events.pyx``."""

from procview._fast.cgroup cimport Groups
from procview._fast.container cimport Container
from procview._fast.host cimport Host
from procview._fast.scope cimport Scope
from procview._fast.snapshot cimport Snapshot


cdef int read_events(
    Snapshot *snapshot, Host *host, Groups *groups, Container *container, const Scope *scope
) noexcept nogil
