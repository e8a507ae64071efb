"""Requests that pyfuse3 answers. See ``_fast/relay.pyx``."""

from libc.stdint cimport uint32_t, uint64_t

from procview._fast.host cimport Host
from procview._fast.posix cimport pthread_mutex_t
from procview._fast.ring cimport Ring


cdef enum:
    MOST_RELAYED = 224         # of all containers
    MOST_OF_HOST = 32          # more, for the daemon's own pid namespace: the guard's and the watchdog's questions
    MAX_BACKGROUND = 256       # of the kernel's background requests; all requests to close are such
    MOST_PENDING = MOST_RELAYED + MOST_OF_HOST + MAX_BACKGROUND

cdef struct Relayed:
    uint64_t unique
    uint64_t pidns             # of who asks; 0: not known
    Ring *ring                 # that it came by; NULL: /dev/fuse
    int entry
    int queue
    bint closes                # it is a request to close something: never refused
    bint is_init

cdef struct Relay:
    int device                 # /dev/fuse
    int socket                 # our end of the pair
    Host *host
    Ring *rings                # to be told how INIT ended
    int ring_count
    int offered                # by the kernel: a ring
    pthread_mutex_t lock       # of what follows
    Relayed pending[MOST_PENDING]
    int pending_count
    uint64_t relayed           # so far
    uint64_t refused


cdef void relay_init(
    Relay *relay, int device, int socket, Host *host, Ring *rings, int ring_count
) noexcept nogil
cdef void relay_free(Relay *relay) noexcept nogil
cdef int relay_request(Relay *relay, const char *request, size_t size, Ring *ring, int entry) noexcept nogil
cdef void relay_replies(Relay *relay) noexcept nogil
cdef void relay_counts(Relay *relay, uint64_t *relayed, uint64_t *refused, int *pending) noexcept nogil
