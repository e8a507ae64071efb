"""FUSE over io_uring. See ``_fast/ring.pyx``."""

from libc.stdint cimport int32_t, uint16_t, uint32_t, uint64_t

from procview._fast.posix cimport iovec, pthread_mutex_t
from procview._fast.uring cimport fuse_uring_req_header, io_uring_cqe, io_uring_sqe


cdef enum:
    # Requests of one CPU that may be in hand at a time; each costs the kernel some memory.
    RING_DEPTH = 448           # of the CPU that the thread is bound to: more than may be with pyfuse3
    SPARE_DEPTH = 224          # of a CPU that the daemon does not run on, or that is not there yet
    # Of a READ at most. Memory of a place is there once a reply has been in it: at most 14 MiB of a CPU.
    PAYLOAD_PAGES = 8

cdef enum RingOrder:
    RING_WAIT                  # until INIT is answered
    RING_GO
    RING_NO                    # the kernel does not offer it

cdef struct RingEntry:
    # One place for a request and its reply.
    uint64_t commit_id         # of the request in hand
    fuse_uring_req_header *headers
    char *payload
    iovec[2] buffers           # what is registered: the two above
    uint16_t qid
    int depth                  # of this queue: how many such places it has

cdef struct Ring:
    # One thread's. Only ``order`` and what follows ``lock`` are others' as well.
    int descriptor             # -1: not open
    int device                 # /dev/fuse
    int eventfd                # wakes the thread up: an order, or replies of pyfuse3
    uint64_t woken             # what was read from it
    RingEntry *entries
    int entry_count
    char *buffers              # headers, then payloads
    size_t buffer_bytes
    size_t payload_bytes
    # Shared with the kernel.
    void *rings
    size_t ring_bytes
    io_uring_sqe *sqes
    size_t sqe_bytes
    uint32_t *sq_tail
    uint32_t sq_mask
    uint32_t queued            # submissions that the kernel has not been told of
    uint32_t *cq_head
    uint32_t *cq_tail
    uint32_t cq_mask
    io_uring_cqe *cqes
    int32_t failed             # the errno that ended it
    int order                  # RingOrder
    pthread_mutex_t lock       # of what follows
    int *handed                # entries whose reply pyfuse3 has written
    int handed_count


cdef int ring_prepare(
    Ring *ring, int device, int cpu, const uint16_t *queues, int queue_count
) noexcept nogil
cdef int ring_open(Ring *ring) noexcept nogil
cdef bint ring_may_go(Ring *ring) noexcept nogil
cdef void ring_register(Ring *ring) noexcept nogil
cdef int ring_take(Ring *ring, char *request, size_t room, int *entry) noexcept nogil
cdef void ring_reply(
    Ring *ring, int entry, uint64_t unique, int error, const void *body, size_t size
) noexcept nogil
cdef void ring_hand_back(Ring *ring, int entry, const char *reply, size_t size) noexcept nogil
cdef void ring_tell(Ring *ring, int order) noexcept nogil
cdef void ring_free(Ring *ring) noexcept nogil
