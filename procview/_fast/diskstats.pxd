"""/proc/diskstats. See ``_fast/diskstats.pyx``."""

from procview._fast.snapshot cimport Snapshot
from procview._fast.text cimport Text


cdef void render_diskstats(const Snapshot *snapshot, Text *out) noexcept nogil
