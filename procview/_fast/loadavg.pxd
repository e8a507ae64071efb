"""/proc/loadavg. See ``_fast/loadavg.pyx``."""

from procview._fast.snapshot cimport Snapshot
from procview._fast.text cimport Text


cdef void render_loadavg(const Snapshot *snapshot, Text *out) noexcept nogil
