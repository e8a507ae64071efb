"""Faults on purpose, for tests. See ``_fast/faults.pyx``."""

cdef int armed_folder          # -1: none
cdef int meet(const char *point) noexcept nogil


cdef inline int fault_at(const char *point) noexcept nogil:
    """0; or, at a point that a test has armed, the errno of a failure, or no return."""
    return 0 if armed_folder < 0 else meet(point)
