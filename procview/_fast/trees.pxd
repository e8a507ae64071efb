"""The trees of CPUs and of memory nodes, for a caller's container. See ``_fast/trees.pyx``."""

from procview._fast.container cimport Container
from procview._fast.renderer cimport Renderer


cdef class Trees:
    cdef Renderer *_renderer    # of the engine that has made this, and outlives it
    cdef object _cpus
    cdef object _nodes

    @staticmethod
    cdef Trees below(str sys, Renderer *renderer)
    cdef bint has_nodes(self) except *
    cdef list cpus_of(self, Container *container)
    cdef str kind(self, Container *container, str path)
    cdef list listdir(self, Container *container, str path)
    cdef bytes text_of(self, Container *container, str path, bint *failed)
    cdef object _place_of(self, Container *container)
    cdef object _node_of_cpu(self, Container *container, int cpu)


cdef bint is_below(str path) except *
