"""/proc/swaps. See ``_fast/swaps.pyx``."""

from procview._fast.snapshot cimport Snapshot
from procview._fast.text cimport Text


cdef void render_swaps(const Snapshot *snapshot, Text *out) noexcept nogil
