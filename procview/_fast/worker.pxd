"""A thread of the lane, and what all of them share. See ``_fast/worker.pyx``."""

from libc.stdint cimport uint32_t, uint64_t

from procview._fast.files cimport Files
from procview._fast.posix cimport pthread_t
from procview._fast.relay cimport Relay
from procview._fast.renderer cimport Renderer
from procview._fast.ring cimport Ring
from procview._fast.text cimport Text


cdef enum:                     # notices: bits
    NOTICE_ENDED = 1           # there is no connection any more
    NOTICE_LOADAVG = 2         # the load of one more container is watched
    NOTICE_REFUSED = 4         # too many requests for pyfuse3
    NOTICE_ABSENT = 8          # some container lacked a controller
    NOTICE_CALLERS = 16        # descriptors of callers were kept
    NOTICE_NO_RING = 32        # the kernel does not offer what a ring needs

cdef struct Node:
    uint64_t parent            # 0: not to be looked up by its name here
    uint64_t inode
    const char *name
    const char *path
    uint32_t mode
    int spec                   # -1: no file

cdef struct Road:
    # What all threads share.
    Renderer *renderer
    Files *files
    int device                 # /dev/fuse
    int socket
    int eventfd
    int notices
    int stopping
    int load_watches           # what was last notified of
    int absent
    Node *nodes
    int node_count
    uint64_t static_seconds
    uint64_t start_seconds
    uint32_t start_nanoseconds
    Relay relay

cdef struct Worker:
    Road *road
    Ring *ring                 # where its requests come from; NULL: /dev/fuse
    int cpu                    # that it is bound to; -1: none
    int entry                  # of the ring: what the request in hand came in
    pthread_t thread
    int opened                 # the ring: 0 not yet, 1, or a negative errno
    int ended
    uint64_t answered
    uint64_t turns             # odd: it has a request in hand
    char *request
    Text out
    Text scratch
    Text other


cdef bint worker_init(Worker *worker, Road *road) noexcept nogil
cdef void worker_free(Worker *worker) noexcept nogil
cdef bint begin(Worker *worker) noexcept nogil
cdef size_t take(Worker *worker, bint *ended) noexcept nogil
cdef bint reply(Worker *worker, uint64_t unique, int error, const void *body, size_t size) noexcept nogil
cdef void notify(Road *road, int notice) noexcept nogil
