"""What the lane answers. See ``_fast/answers.pyx``."""

from procview._fast.fuse cimport fuse_in_header
from procview._fast.worker cimport Worker


cdef bint answer(Worker *worker, const fuse_in_header *header, const char *body, size_t size) noexcept nogil
