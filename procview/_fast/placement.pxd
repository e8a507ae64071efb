"""Where a container is. See ``_fast/placement.pyx``."""

from libc.stdint cimport uint64_t

from procview._fast.container cimport Container, Containers
from procview._fast.scope cimport Scope
from procview._fast.text cimport Text


cdef bint place_init(
    Containers *containers, Container *container, Text *paths_text, Text *mountinfo, uint64_t before
) noexcept nogil
cdef int place_again(
    Containers *containers, Container *container, uint64_t number, Text *scratch, Text *other
) noexcept nogil
cdef bint is_inside(Container *container, const Text *paths) noexcept nogil
cdef void remember_inside(Container *container, const Scope *scope, const Text *paths) noexcept nogil
cdef bint mounts_are_due(const Container *container) noexcept nogil
cdef bint mounts_say_the_same(const Containers *containers, Container *container) noexcept nogil
