# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""One thread of the lane: where its requests come from and its replies go, /dev/fuse or a ring of io_uring; and how it
tells Python of something.
"""

from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memset

from procview._fast.faults cimport fault_at
from procview._fast.fuse cimport fuse_in_header, fuse_out_header
from procview._fast.posix cimport (
    EAGAIN,
    EINTR,
    ENOENT,
    SYS_sched_setaffinity,
    count_now,
    errno,
    iovec,
    read,
    set_bits,
    store,
    syscall,
    write,
    writev,
)
from procview._fast.ring cimport RING_NO, Ring, ring_may_go, ring_open, ring_register, ring_reply, ring_take
from procview._fast.text cimport text_free, text_init


cdef enum:
    REQUEST_BYTES = 64 << 10   # FUSE_MIN_READ_BUFFER, and a page of data that nobody writes; pages have up to 64 KiB


cdef bint worker_init(Worker *worker, Road *road) noexcept nogil:
    """False: no memory. worker_free in both cases."""
    memset(worker, 0, sizeof(Worker))
    worker.road = road
    worker.cpu = -1
    text_init(&worker.out)
    text_init(&worker.scratch)
    text_init(&worker.other)
    worker.request = <char *>malloc(REQUEST_BYTES)
    return worker.request != NULL


cdef void worker_free(Worker *worker) noexcept nogil:
    free(worker.request)
    text_free(&worker.out)
    text_free(&worker.scratch)
    text_free(&worker.other)


cdef void notify(Road *road, int notice) noexcept nogil:
    cdef uint64_t one = 1
    if not set_bits(&road.notices, notice) & notice:
        write(road.eventfd, &one, sizeof(one))


cdef void bind(int cpu) noexcept nogil:
    """Run the calling thread there only. If that CPU has just gone, it runs where it likes: slower, and right."""
    cdef size_t words = <size_t>cpu // (8 * sizeof(unsigned long)) + 1
    cdef unsigned long *mask = <unsigned long *>calloc(words, sizeof(unsigned long))
    if mask != NULL:
        mask[words - 1] = <unsigned long>1 << (<size_t>cpu % (8 * sizeof(unsigned long)))
        syscall(SYS_sched_setaffinity, 0, words * sizeof(unsigned long), mask)
        free(mask)


cdef bint begin(Worker *worker) noexcept nogil:
    """In its own thread, before anything is taken. False: there is nothing to do for it."""
    cdef Ring *ring = worker.ring
    cdef int error
    if ring == NULL:
        return True
    if worker.cpu >= 0:
        bind(worker.cpu)
    error = ring_open(ring)
    store(&worker.opened, -error if error else 1)
    if error:
        return False
    if not ring_may_go(ring):
        if count_now(&ring.order) == RING_NO:
            notify(worker.road, NOTICE_NO_RING)
        return False
    ring_register(ring)
    return True


cdef size_t take(Worker *worker, bint *ended) noexcept nogil:
    """Wait for the next request. Its size; 0: there was none (a signal), or, as ``ended`` says, will be no more."""
    cdef const fuse_in_header *header = <const fuse_in_header *>worker.request
    cdef ssize_t got
    if worker.ring != NULL:
        got = ring_take(worker.ring, worker.request, REQUEST_BYTES, &worker.entry)
        if got < 0:
            ended[0] = got != -EINTR
            return 0
        return <size_t>got
    got = read(worker.road.device, worker.request, REQUEST_BYTES)
    if got <= 0:
        # ENOENT: the request was taken back while it was handed over.
        ended[0] = not (got < 0 and (errno == EINTR or errno == EAGAIN or errno == ENOENT))
        return 0
    if <size_t>got < sizeof(fuse_in_header) or header.len != <size_t>got:
        return 0               # the kernel sends no such thing
    return <size_t>got


cdef bint reply(Worker *worker, uint64_t unique, int error, const void *body, size_t size) noexcept nogil:
    """To the request in hand. False: nobody waited for it any more."""
    cdef fuse_out_header header
    cdef iovec[2] parts
    if fault_at(b"reply"):
        return True
    if worker.ring != NULL:
        ring_reply(worker.ring, worker.entry, unique, error, body, size)
        return True            # whether anybody waits is not known; nobody does only when the connection ends
    header.len = <uint32_t>(sizeof(header) + size)
    header.error = -error
    header.unique = unique
    parts[0].iov_base = &header
    parts[0].iov_len = sizeof(header)
    parts[1].iov_base = <void *>body
    parts[1].iov_len = size
    while writev(worker.road.device, parts, 2 if size else 1) < 0:
        if errno != EINTR:
            return False
    return True
