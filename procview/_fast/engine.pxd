"""The hot path as Python sees it. See ``_fast/engine.pyx``."""

from libc.stdint cimport uint64_t

from procview._fast.container cimport Container
from procview._fast.renderer cimport Renderer
from procview._fast.trees cimport Trees


cdef class Engine:
    cdef Renderer _renderer
    cdef bint _ready
    cdef bint _closed
    cdef Trees _trees
    cdef dict _fallbacks
    cdef object _ask            # see configure; None: all have the same settings
    cdef object _generation     # of _ask

    cdef int _check(self) except -1
    cdef int _place(self, int pid, View view, bint search) except -1
    cdef View _opened(self, pid, str path, bint search)
    cdef View _caller(self, pid)
    cdef void _count_fallback(self, View view)
    cdef int _settle(self, Container *container) except -1
    cdef int _ask_for(self, Container *container) except -1


cdef class View:
    cdef Engine _engine
    cdef str _path
    cdef int _spec              # -1: a file of one CPU, or of the node tree
    cdef Container *_container  # counted; NULL: the host's file
    cdef uint64_t _number       # as File.number
    cdef int _reason

    cdef void _is_unscopable(self)
