"""/proc/partitions. See ``_fast/partitions.pyx``."""

from procview._fast.snapshot cimport Snapshot
from procview._fast.text cimport Text


cdef void render_partitions(const Snapshot *snapshot, Text *out) noexcept nogil
