"""Kernel files kept open and read again with pread, those not used of late first to go. See ``_fast/kept.pyx``."""

from procview._fast.posix cimport pthread_mutex_t, ssize_t
from procview._fast.text cimport Text


cdef struct Kept:
    int state      # atomic: IS_OPEN, IS_DEAD, how many threads read through fd now, how often it died
    int used       # atomic: somebody has read through it since the keeper last looked
    int fd         # as long as IS_OPEN
    Kept *newer
    Kept *older


cdef struct Keeper:
    pthread_mutex_t lock   # of the list, and of who opens and closes
    Kept *newest
    Kept *oldest
    int open_count         # written with the lock held, as is the next
    int most_open
    int starved   # how often a file could not be opened or read for want of descriptors or memory


cdef enum:
    READ_ONCE = 0    # a single_open file: one pread returns all of it
    READ_WHOLE = 1   # a file of many records: pread until nothing more comes


cdef void keeper_init(Keeper *keeper, int most_open) noexcept nogil
cdef void keeper_free(Keeper *keeper) noexcept nogil
cdef void keeper_close_idle(Keeper *keeper) noexcept nogil
cdef int keeper_starved(Keeper *keeper) noexcept nogil
cdef bint is_starvation(ssize_t error) noexcept nogil
cdef void kept_init(Kept *kept) noexcept nogil
cdef bint kept_begin(Kept *kept) noexcept nogil
cdef ssize_t kept_end(Keeper *keeper, Kept *kept, ssize_t got) noexcept nogil
cdef ssize_t kept_read_begun(Keeper *keeper, Kept *kept, Text *into, int how) noexcept nogil
cdef bint kept_is_open(const Kept *kept) noexcept nogil
cdef bint kept_offer(Keeper *keeper, Kept *kept, int fd) noexcept nogil
cdef ssize_t kept_read(
    Keeper *keeper, Kept *kept, int directory, const char *path, Text *into, int how
) noexcept nogil
cdef int kept_open(Keeper *keeper, int directory, const char *path) noexcept nogil
cdef int kept_deaths(const Kept *kept) noexcept nogil
cdef ssize_t kept_read_open(Keeper *keeper, Kept *kept, Text *into, int how) noexcept nogil
cdef ssize_t kept_read_anew(
    Keeper *keeper, Kept *kept, int directory, const char *path, Text *into, int how
) noexcept nogil
cdef ssize_t kept_adopt(Keeper *keeper, Kept *kept, int fd, Text *into, int how) noexcept nogil
cdef bint kept_drop(Keeper *keeper, Kept *kept) noexcept nogil
cdef ssize_t read_open(int fd, Text *into, int how) noexcept nogil
cdef ssize_t read_path(int directory, const char *path, Text *into, size_t most) noexcept nogil
cdef ssize_t read_list(int directory, const char *path, Text *into, size_t most) noexcept nogil
cdef ssize_t read_record(int directory, const char *path, Text *into) noexcept nogil
