"""What a limit's file said, for as long as nothing was written to any cgroup. See ``_fast/noted.pyx``."""

from libc.stdint cimport int64_t, uint64_t

from procview._fast.posix cimport ssize_t
from procview._fast.text cimport Text


cdef enum:
    NOTED_WORDS = 5   # of eight bytes: with them a Noted is a cache line


cdef struct Noted:
    int stamp         # atomic; odd while it is written
    uint64_t number   # of the changes (and the CPUs) that the rest goes with; 0: nothing is noted
    int64_t got       # bytes, or -ENOENT
    uint64_t words[NOTED_WORDS]


cdef void noted_init(Noted *noted) noexcept nogil
cdef bint noted_copy(const Noted *noted, uint64_t number, Text *into, ssize_t *got) noexcept nogil
cdef void noted_store(Noted *noted, uint64_t number, const Text *text, ssize_t got) noexcept nogil
