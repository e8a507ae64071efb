"""/proc/uptime. See ``_fast/uptime.pyx``."""

from procview._fast.snapshot cimport Snapshot
from procview._fast.text cimport Text


cdef void render_uptime(const Snapshot *snapshot, Text *out) noexcept nogil
