"""Callers that come again: their /proc/<tid>/cgroup, kept open. See ``_fast/callers.pyx``."""

from libc.stdint cimport uint64_t

from procview._fast.changes cimport Changes
from procview._fast.host cimport Host
from procview._fast.kept cimport Kept
from procview._fast.posix cimport pthread_mutex_t, ssize_t
from procview._fast.text cimport Text


cdef enum:
    CALLER_SETS = 512       # a power of two
    CALLERS_OF_SET = 4
    CALLERS_SEEN = 4096     # a power of two

cdef struct Caller:
    int tid                 # atomic; whose file it is, as long as it is open
    uint64_t pidns
    Kept cgroup
    Kept life               # a pidfd of the same thread; only where changes are watched
    uint64_t seen_at        # atomic; the number of Changes at which it was found in the scope below
    uint64_t scope_number   # atomic; of its pid namespace's container

cdef struct Callers:
    Host *host
    bint keeps              # only where proc says when a process has gone
    int fresh               # atomic; whether one was kept since callers_were_kept() last said so
    pthread_mutex_t lock    # of who becomes one of them
    Caller of[CALLER_SETS][CALLERS_OF_SET]
    int seen[CALLERS_SEEN]  # atomic; the last of the threads that share a place

cdef struct Asking:
    # One caller, from being found to its cgroups being read.
    int tid
    uint64_t pidns
    Caller *known           # counted as a reader of its file, until asking_end()
    ssize_t got             # what reading that gave
    int fd                  # else its file, just opened; negative errno: it could not be


cdef void callers_init(Callers *callers, Host *host) noexcept nogil
cdef void callers_free(Callers *callers) noexcept nogil
cdef bint callers_were_kept(Callers *callers) noexcept nogil
cdef bint callers_forget_gone(Callers *callers) noexcept nogil
cdef bint asking_known(Callers *callers, int tid, Asking *asking) noexcept nogil
cdef int asking_anew(Callers *callers, int tid, Asking *asking) noexcept nogil
cdef ssize_t asking_read(Callers *callers, Asking *asking, Text *into) noexcept nogil
cdef void asking_watch(Callers *callers, const Asking *asking) noexcept nogil
cdef void asking_seen(const Asking *asking, uint64_t number, uint64_t scope_number) noexcept nogil
cdef bint asking_is_as_seen(
    Callers *callers, const Asking *asking, Changes *changes, uint64_t number, uint64_t scope_number
) noexcept nogil
cdef void asking_end(Callers *callers, Asking *asking) noexcept nogil
