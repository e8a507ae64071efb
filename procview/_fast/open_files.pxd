"""The table of open files, for Python. See ``_fast/open_files.pyx``."""

from libc.stdint cimport uint64_t

from procview._fast.files cimport Files
from procview._fast.renderer cimport Renderer


cdef class OpenFiles:
    cdef Files _files
    cdef object _engine
    cdef object _state
    cdef Renderer *_renderer   # of the engine; NULL: no file was opened without Python
    cdef bint _ready

    cdef bint _close(self, uint64_t handle)
