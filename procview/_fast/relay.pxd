"""Requests that pyfuse3 answers. See ``_fast/relay.pyx``."""

from libc.stdint cimport uint32_t, uint64_t

from procview._fast.files cimport Files
from procview._fast.host cimport Host
from procview._fast.posix cimport pthread_mutex_t
from procview._fast.ring cimport Ring
from procview._fast.state cimport Shared


cdef enum:
    MOST_RELAYED = 224         # of all containers
    MOST_OF_HOST = 32          # more, for the daemon's own pid namespace: the guard's and the watchdog's questions
    MAX_BACKGROUND = 256       # of the kernel's background requests; all requests to close are such
    MOST_PENDING = MOST_RELAYED + MOST_OF_HOST + MAX_BACKGROUND
    MOST_INIT_BYTES = 256      # of a request or a reply: several times what this kernel's have

cdef struct Relayed:
    uint64_t unique
    uint64_t pidns             # of who asks; 0: not known
    Ring *ring                 # that it came by; NULL: /dev/fuse
    int entry
    int queue
    bint closes                # it is a request to close something: never refused
    bint opens                 # a file or a directory
    bint is_init
    bint is_again              # INIT, which another daemon has answered: the kernel gets no other reply

cdef struct Agreement:
    # What was negotiated, in memory that outlives the process: INIT as it was asked, and the body of the reply.
    uint32_t asked_size
    uint32_t replied_size
    char asked[MOST_INIT_BYTES]
    char replied[MOST_INIT_BYTES]

cdef struct Relay:
    int device                 # /dev/fuse
    int socket                 # our end of the pair
    Host *host
    Ring *rings                # to be told how INIT ended
    int ring_count
    int offered                # by the kernel: a ring
    int agreed                 # on INIT; -1: on something else than the daemon before
    int can_resend             # the kernel: requests that a daemon has read, to the next one (Linux 6.9)
    Files *files
    Shared *shared             # memory that outlives the process; NULL: there is none
    Agreement agreement
    pthread_mutex_t lock       # of what follows
    Relayed pending[MOST_PENDING]
    int pending_count
    uint64_t relayed           # so far
    uint64_t refused


cdef void relay_init(
    Relay *relay, int device, int socket, Host *host, Files *files, Ring *rings, int ring_count
) noexcept nogil
cdef int relay_again(Relay *relay) noexcept nogil
cdef void relay_free(Relay *relay) noexcept nogil
cdef int relay_request(Relay *relay, const char *request, size_t size, Ring *ring, int entry) noexcept nogil
cdef void relay_replies(Relay *relay) noexcept nogil
cdef void relay_counts(Relay *relay, uint64_t *relayed, uint64_t *refused, int *pending) noexcept nogil
