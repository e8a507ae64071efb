"""/proc/stat. See ``_fast/stat.pyx``."""

from procview._fast.snapshot cimport Snapshot
from procview._fast.text cimport Text


cdef void render_stat(const Snapshot *snapshot, Text *out) noexcept nogil
