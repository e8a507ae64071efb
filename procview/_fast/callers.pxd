"""Callers that come again: their /proc/<tid>/cgroup, kept open. See ``_fast/callers.pyx``."""

from libc.stdint cimport uint64_t

from procview._fast.host cimport Host
from procview._fast.kept cimport Kept
from procview._fast.posix cimport pthread_mutex_t, ssize_t
from procview._fast.text cimport Text


cdef enum:
    CALLER_SETS = 128       # a power of two
    CALLERS_OF_SET = 4
    CALLERS_SEEN = 1024     # a power of two

cdef struct Caller:
    int tid                 # atomic; whose file it is, as long as it is open
    uint64_t pidns
    Kept cgroup

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
    Caller *known           # counted as a reader of its file
    int fd                  # else its file, just opened; negative errno: it could not be


cdef void callers_init(Callers *callers, Host *host) noexcept nogil
cdef void callers_free(Callers *callers) noexcept nogil
cdef bint callers_were_kept(Callers *callers) noexcept nogil
cdef bint callers_forget_gone(Callers *callers) noexcept nogil
cdef bint asking_known(Callers *callers, int tid, Asking *asking) noexcept nogil
cdef int asking_anew(Callers *callers, int tid, Asking *asking) noexcept nogil
cdef ssize_t asking_read(Callers *callers, Asking *asking, Text *into) noexcept nogil
cdef void asking_end(Callers *callers, Asking *asking) noexcept nogil
