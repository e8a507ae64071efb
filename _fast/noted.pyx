# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""What a limit's file said, for as long as nothing was written to any cgroup.

Limits change by writing only, and of that the kernel tells (``changes``): what was read after a number of theirs was
current is still true when that number is found to be so. A note that is used says so for the moment at which its reader
has asked; who has not asked reads the file.

Several threads read and write notes without a lock: a writer makes the stamp odd, and a reader that finds another
stamp afterwards has read nothing. A note that cannot be written now, or is too long, is left: it saves one read(2).
"""

from libc.string cimport memcpy

from procview._fast.posix cimport ENOENT, count_now, exchange, store, store_u64, u64_read
from procview._fast.text cimport text_clear, text_reserve


cdef void noted_init(Noted *noted) noexcept nogil:
    noted.stamp = 0
    noted.number = 0


cdef bint noted_copy(const Noted *noted, uint64_t number, Text *into, ssize_t *got) noexcept nogil:
    """The file as group_read() would give it, where the note goes with this ``number``. False: read it."""
    cdef int stamp = count_now(&noted.stamp)
    cdef uint64_t words[NOTED_WORDS]
    cdef int i
    text_clear(into)
    if stamp & 1 or u64_read(&noted.number) != number:
        return False
    got[0] = <ssize_t>u64_read(<const uint64_t *>&noted.got)
    for i in range(NOTED_WORDS):
        words[i] = u64_read(&noted.words[i])
    if count_now(&noted.stamp) != stamp:
        return False
    if got[0] < 0:
        return True
    if not text_reserve(into, <size_t>got[0]):
        return False
    memcpy(into.data, words, <size_t>got[0])
    into.length = <size_t>got[0]
    into.data[into.length] = 0
    return True


cdef void noted_store(Noted *noted, uint64_t number, const Text *text, ssize_t got) noexcept nogil:
    """Note what reading the file gave, begun when ``number`` was current. Errors but -ENOENT say nothing of it."""
    cdef int stamp = count_now(&noted.stamp)
    cdef uint64_t words[NOTED_WORDS]
    cdef int i
    if stamp & 1 or got > <ssize_t>sizeof(words) or got < 0 and got != -ENOENT:
        return
    if not exchange(&noted.stamp, &stamp, stamp | 1):
        return
    if got > 0:
        memcpy(words, text.data, <size_t>got)
    else:
        words[0] = 0
    store_u64(&noted.number, number)
    store_u64(<uint64_t *>&noted.got, <uint64_t>got)
    for i in range(NOTED_WORDS):
        if i * 8 < got:
            store_u64(&noted.words[i], words[i])
    # As unsigned, which may wrap: all that counts is that it changes.
    store(&noted.stamp, <int>(<unsigned int>stamp + 2))
