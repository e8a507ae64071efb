"""memory.stat, taken apart. See ``_fast/memory_stat.pyx``."""

from libc.stdint cimport uint64_t

from procview._fast.scan cimport Span
from procview._fast.templates cimport StatLine, StatLines
from procview._fast.text cimport Text


cdef void stat_lines_free(StatLines *stat) noexcept nogil
cdef bint stat_lines_read(StatLines *stat, const Text *text, int version, uint64_t *numbers, bint *known) noexcept nogil
cdef Span stat_line_name(const StatLine *line) noexcept nogil
