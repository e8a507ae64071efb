"""Kernel files kept open and read again with pread, least recently used first to go. See ``_fast/kept.pyx``."""

from procview._fast.posix cimport pthread_mutex_t, ssize_t
from procview._fast.text cimport Text


cdef struct Kept:
    int fd         # -1: not open now
    int readers    # threads reading through fd right now; never closed under them
    Kept *newer
    Kept *older


cdef struct Keeper:
    pthread_mutex_t lock
    Kept *newest
    Kept *oldest
    int open_count
    int most_open


cdef enum:
    READ_ONCE = 0    # a single_open file: one pread returns all of it
    READ_WHOLE = 1   # a file of many records: pread until nothing more comes


cdef void keeper_init(Keeper *keeper, int most_open) noexcept nogil
cdef void keeper_free(Keeper *keeper) noexcept nogil
cdef void kept_init(Kept *kept) noexcept nogil
cdef ssize_t kept_read(
    Keeper *keeper, Kept *kept, int directory, const char *path, Text *into, int how, bint *reopened
) noexcept nogil
cdef void kept_drop(Keeper *keeper, Kept *kept) noexcept nogil
cdef ssize_t read_path(int directory, const char *path, Text *into, size_t most) noexcept nogil
cdef ssize_t read_record(int directory, const char *path, Text *into) noexcept nogil
