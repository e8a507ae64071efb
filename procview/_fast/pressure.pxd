"""/proc/pressure. See ``_fast/pressure.pyx``."""

from procview._fast.snapshot cimport Snapshot
from procview._fast.text cimport Text


cdef void render_pressure(const Snapshot *snapshot, Text *out) noexcept nogil
