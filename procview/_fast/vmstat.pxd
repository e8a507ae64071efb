"""/proc/vmstat. See ``_fast/vmstat.pyx``."""

from procview._fast.snapshot cimport Snapshot
from procview._fast.text cimport Text


cdef void render_vmstat(const Snapshot *snapshot, Text *out) noexcept nogil
