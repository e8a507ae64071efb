"""Requests that pyfuse3 answers. See ``_fast/relay.pyx``."""

from libc.stdint cimport uint32_t, uint64_t

from procview._fast.host cimport Host
from procview._fast.posix cimport pthread_mutex_t


cdef enum:
    MOST_RELAYED = 224         # of all containers
    MOST_OF_HOST = 32          # more, for the daemon's own pid namespace: the guard's and the watchdog's questions
    MAX_BACKGROUND = 256       # of the kernel's background requests; all requests to close are such
    MOST_PENDING = MOST_RELAYED + MOST_OF_HOST + MAX_BACKGROUND

cdef struct Relayed:
    uint64_t unique
    uint64_t pidns             # of who asks; 0: not known
    bint closes                # it is a request to close something: never refused

cdef struct Relay:
    int device                 # /dev/fuse
    int socket                 # our end of the pair
    Host *host
    pthread_mutex_t lock       # of what follows
    Relayed pending[MOST_PENDING]
    int pending_count
    uint64_t init_unique       # of the INIT that pyfuse3 is answering; 0: none
    uint64_t relayed           # so far
    uint64_t refused


cdef void relay_init(Relay *relay, int device, int socket, Host *host) noexcept nogil
cdef void relay_free(Relay *relay) noexcept nogil
cdef int relay_request(Relay *relay, const char *request, size_t size) noexcept nogil
cdef void relay_replies(Relay *relay) noexcept nogil
cdef void relay_counts(Relay *relay, uint64_t *relayed, uint64_t *refused, int *pending) noexcept nogil
