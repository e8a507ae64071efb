"""Containers and their numbers as Python objects. See ``_fast/report.pyx``."""

from procview._fast.container cimport Container
from procview._fast.renderer cimport Renderer


cdef list known_containers(Renderer *renderer)
cdef dict numbers_of(Renderer *renderer, Container *container)
cdef dict latencies_of(Renderer *renderer)
