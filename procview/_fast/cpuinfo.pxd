"""/proc/cpuinfo. See ``_fast/cpuinfo.pyx``."""

from procview._fast.snapshot cimport Snapshot
from procview._fast.text cimport Text


cdef void render_cpuinfo(const Snapshot *snapshot, Text *out) noexcept nogil
