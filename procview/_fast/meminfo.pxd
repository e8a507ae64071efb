"""/proc/meminfo. See ``_fast/meminfo.pyx``."""

from procview._fast.snapshot cimport Snapshot
from procview._fast.text cimport Text


cdef void render_meminfo(const Snapshot *snapshot, Text *out) noexcept nogil
