"""The table of views. See ``_fast/views.pyx``."""

from procview._fast.snapshot cimport Snapshot
from procview._fast.text cimport Text


ctypedef void (*Render)(const Snapshot *snapshot, Text *out) noexcept nogil

cdef enum:
    VIEWS = 16              # there may be

cdef struct ViewSpec:
    int number              # in the table
    const char *host_path   # below proc or sys
    bint of_sys
    int needs
    int which               # of the pressure files
    Render render


cdef const ViewSpec *view_spec(int index) noexcept nogil
