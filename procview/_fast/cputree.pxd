"""/sys/devices/system/cpu. See ``_fast/cputree.pyx``."""

from procview._fast.snapshot cimport Snapshot
from procview._fast.text cimport Text


cdef void render_online(const Snapshot *snapshot, Text *out) noexcept nogil
cdef void render_offline(const Snapshot *snapshot, Text *out) noexcept nogil
