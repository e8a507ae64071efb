# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Requests and replies through io_uring in place of read(2) and write(2) on /dev/fuse: Linux 6.14 and later.

The kernel has a queue for each CPU and puts a request into that of the caller's, so a thread that is bound to this CPU
takes it over without another one waking up; and one system call replies and waits for the next. A reply is *committed*
in the entry that its request came in, by the thread whose ring it is: what pyfuse3 replies is handed back to that.

The system calls are made here, without liburing: of its work (many rings, many operations, links, fixed files) this
needs two operations on one ring, and it would be one more library to be there at the right version.
"""

from libc.stdint cimport uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from procview._fast.fuse cimport fuse_in_header, fuse_out_header
from procview._fast.posix cimport (
    EFD_CLOEXEC,
    EINTR,
    EIO,
    ENOMEM,
    MADV_NOHUGEPAGE,
    MAP_ANONYMOUS,
    MAP_FAILED,
    MAP_NORESERVE,
    MAP_POPULATE,
    MAP_PRIVATE,
    MAP_SHARED,
    PROT_READ,
    PROT_WRITE,
    _SC_PAGESIZE,
    close,
    count_now,
    errno,
    eventfd,
    load_u32,
    madvise,
    mmap,
    munmap,
    pthread_mutex_destroy,
    pthread_mutex_init,
    pthread_mutex_lock,
    pthread_mutex_unlock,
    read,
    store,
    store_u32,
    syscall,
    sysconf,
    write,
)
from procview._fast.uring cimport (
    FUSE_IO_URING_CMD_COMMIT_AND_FETCH,
    FUSE_IO_URING_CMD_REGISTER,
    IORING_ENTER_GETEVENTS,
    IORING_FEAT_SINGLE_MMAP,
    IORING_OFF_SQ_RING,
    IORING_OFF_SQES,
    IORING_OP_READ,
    IORING_OP_URING_CMD,
    IORING_SETUP_CQSIZE,
    IORING_SETUP_DEFER_TASKRUN,
    IORING_SETUP_NO_SQARRAY,
    IORING_SETUP_SINGLE_ISSUER,
    IORING_SETUP_SQE128,
    SYS_io_uring_enter,
    SYS_io_uring_setup,
    fuse_uring_cmd_req,
    io_uring_params,
    io_uring_sqe,
)


cdef enum:
    MOST_ENTRIES = 32767       # of one ring: its submissions must have room for all, and the eventfd
    BATCH = 8                  # replies that wait for each other's system call

MOST_QUEUES = 1 + (MOST_ENTRIES - RING_DEPTH) // SPARE_DEPTH

cdef uint64_t WOKEN = <uint64_t>-1     # in place of an entry's number


cdef int ring_prepare(
    Ring *ring, int device, int cpu, const uint16_t *queues, int queue_count
) noexcept nogil:
    """Everything but the ring itself, which only its own thread can make. ``cpu``: where that will run. 0, or an errno;
    ring_free in both cases.
    """
    cdef RingEntry *entry
    cdef size_t header_bytes
    cdef int depth
    cdef int i
    cdef int _place
    cdef int number = 0
    memset(ring, 0, sizeof(Ring))
    pthread_mutex_init(&ring.lock, NULL)
    ring.descriptor = -1
    ring.device = device
    ring.payload_bytes = PAYLOAD_PAGES * <size_t>sysconf(_SC_PAGESIZE)
    ring.eventfd = eventfd(0, EFD_CLOEXEC)
    if ring.eventfd < 0:
        return errno
    for i in range(queue_count):
        ring.entry_count += RING_DEPTH if queues[i] == cpu else SPARE_DEPTH
    if ring.entry_count > MOST_ENTRIES:
        return ENOMEM
    ring.entries = <RingEntry *>calloc(ring.entry_count, sizeof(RingEntry))
    ring.handed = <int *>calloc(ring.entry_count, sizeof(int))
    if ring.entries == NULL or ring.handed == NULL:
        return ENOMEM
    # A page that is never used is never there: nothing is reserved, and no huge page comes with the first byte.
    header_bytes = ring.entry_count * sizeof(fuse_uring_req_header)
    header_bytes = (header_bytes + 65535) & ~<size_t>65535
    ring.buffer_bytes = header_bytes + ring.entry_count * ring.payload_bytes
    ring.buffers = <char *>mmap(
        NULL, ring.buffer_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0
    )
    if <void *>ring.buffers == MAP_FAILED:
        ring.buffers = NULL
        return errno
    madvise(ring.buffers, ring.buffer_bytes, MADV_NOHUGEPAGE)
    for i in range(queue_count):
        depth = RING_DEPTH if queues[i] == cpu else SPARE_DEPTH
        for _place in range(depth):
            entry = &ring.entries[number]
            entry.qid = queues[i]
            entry.depth = depth
            entry.headers = &(<fuse_uring_req_header *>ring.buffers)[number]
            entry.payload = ring.buffers + header_bytes + number * ring.payload_bytes
            entry.buffers[0].iov_base = entry.headers
            entry.buffers[0].iov_len = sizeof(fuse_uring_req_header)
            entry.buffers[1].iov_base = entry.payload
            entry.buffers[1].iov_len = ring.payload_bytes
            number += 1
    return 0


cdef uint32_t power_of_two(uint32_t least) noexcept nogil:
    cdef uint32_t power = 1
    while power < least:
        power *= 2
    return power


cdef int ring_open(Ring *ring) noexcept nogil:
    """In the ring's own thread. 0, or an errno."""
    cdef io_uring_params asked
    memset(&asked, 0, sizeof(asked))
    asked.flags = (
        IORING_SETUP_SQE128 | IORING_SETUP_CQSIZE | IORING_SETUP_NO_SQARRAY | IORING_SETUP_SINGLE_ISSUER
        | IORING_SETUP_DEFER_TASKRUN
    )
    asked.cq_entries = power_of_two(<uint32_t>ring.entry_count + 1)
    ring.descriptor = <int>syscall(SYS_io_uring_setup, <unsigned int>asked.cq_entries, &asked)
    if ring.descriptor < 0:
        return errno
    if not asked.features & IORING_FEAT_SINGLE_MMAP:
        return EIO             # since 5.4: this is no such kernel
    ring.ring_bytes = asked.cq_off.cqes + asked.cq_entries * sizeof(ring.cqes[0])
    ring.rings = mmap(
        NULL, ring.ring_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring.descriptor, IORING_OFF_SQ_RING
    )
    if ring.rings == MAP_FAILED:
        ring.rings = NULL
        return errno
    ring.sqe_bytes = asked.sq_entries * sizeof(io_uring_sqe)
    ring.sqes = <io_uring_sqe *>mmap(
        NULL, ring.sqe_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, ring.descriptor, IORING_OFF_SQES
    )
    if <void *>ring.sqes == MAP_FAILED:
        ring.sqes = NULL
        return errno
    ring.sq_tail = <uint32_t *>(<char *>ring.rings + asked.sq_off.tail)
    ring.sq_mask = asked.sq_entries - 1
    ring.cq_head = <uint32_t *>(<char *>ring.rings + asked.cq_off.head)
    ring.cq_tail = <uint32_t *>(<char *>ring.rings + asked.cq_off.tail)
    ring.cq_mask = asked.cq_entries - 1
    ring.cqes = <io_uring_cqe *>(<char *>ring.rings + asked.cq_off.cqes)
    return 0


cdef void ring_free(Ring *ring) noexcept nogil:
    """After its thread has ended."""
    if ring.descriptor >= 0:
        close(ring.descriptor)
    if ring.sqes != NULL:
        munmap(ring.sqes, ring.sqe_bytes)
    if ring.rings != NULL:
        munmap(ring.rings, ring.ring_bytes)
    if ring.buffers != NULL:
        munmap(ring.buffers, ring.buffer_bytes)
    if ring.eventfd >= 0:
        close(ring.eventfd)
    free(ring.entries)
    free(ring.handed)
    pthread_mutex_destroy(&ring.lock)


cdef io_uring_sqe *submission(Ring *ring) noexcept nogil:
    """The next one, empty. There is always room: each entry has at most one, and the eventfd."""
    cdef io_uring_sqe *sqe = &ring.sqes[(ring.sq_tail[0] + ring.queued) & ring.sq_mask]
    ring.queued += 1
    memset(sqe, 0, sizeof(io_uring_sqe))
    return sqe


cdef int enter(Ring *ring, unsigned int least) noexcept nogil:
    """Tell the kernel of what is queued, and wait for ``least`` completions. 0, or an errno."""
    cdef unsigned int told = ring.queued
    cdef long done
    store_u32(ring.sq_tail, ring.sq_tail[0] + ring.queued)
    ring.queued = 0
    while True:
        done = syscall(
            SYS_io_uring_enter, ring.descriptor, told, least, <unsigned int>IORING_ENTER_GETEVENTS, NULL, <size_t>0
        )
        if done < 0:
            return errno       # EINTR: only while it waited
        told -= <unsigned int>done
        if told == 0:
            return 0


cdef void queue_command(Ring *ring, int number, int command) noexcept nogil:
    cdef RingEntry *entry = &ring.entries[number]
    cdef io_uring_sqe *sqe = submission(ring)
    cdef fuse_uring_cmd_req *asked = <fuse_uring_cmd_req *>sqe.command
    sqe.opcode = IORING_OP_URING_CMD
    sqe.fd = ring.device
    sqe.off = <uint64_t>command
    sqe.user_data = <uint64_t>number
    if command == FUSE_IO_URING_CMD_REGISTER:
        sqe.addr = <uint64_t><size_t>entry.buffers
        sqe.len = 2
    else:
        asked.commit_id = entry.commit_id
    asked.qid = entry.qid


cdef void listen(Ring *ring) noexcept nogil:
    """Be woken up once."""
    cdef io_uring_sqe *sqe = submission(ring)
    sqe.opcode = IORING_OP_READ
    sqe.fd = ring.eventfd
    sqe.addr = <uint64_t><size_t>&ring.woken
    sqe.len = sizeof(ring.woken)
    sqe.user_data = WOKEN


cdef void ring_tell(Ring *ring, int order) noexcept nogil:
    """By any thread, once: whether it is to begin."""
    cdef uint64_t one = 1
    store(&ring.order, order)
    write(ring.eventfd, &one, sizeof(one))


cdef bint ring_may_go(Ring *ring) noexcept nogil:
    """Wait for the order to begin. False: there will be nothing to do, or a signal has come (and no order)."""
    cdef uint64_t told
    while count_now(&ring.order) == RING_WAIT:
        if read(ring.eventfd, &told, sizeof(told)) < 0:
            break
    return count_now(&ring.order) == RING_GO


cdef void ring_register(Ring *ring) noexcept nogil:
    """Offer the kernel all entries, at the next ring_take. Until the last queue of the last ring has one, all requests
    wait.
    """
    cdef int i
    for i in range(ring.entry_count):
        queue_command(ring, i, FUSE_IO_URING_CMD_REGISTER)
    listen(ring)


cdef void commit_handed(Ring *ring) noexcept nogil:
    cdef int i
    pthread_mutex_lock(&ring.lock)
    for i in range(ring.handed_count):
        queue_command(ring, ring.handed[i], FUSE_IO_URING_CMD_COMMIT_AND_FETCH)
    ring.handed_count = 0
    pthread_mutex_unlock(&ring.lock)


cdef int lay_out(Ring *ring, RingEntry *entry, char *request, size_t room) noexcept nogil:
    """The request as read(2) would give it: its header, its first argument, the others. Its size; 0: it is none."""
    cdef const fuse_in_header *header = <const fuse_in_header *>entry.headers.in_out
    cdef size_t others = entry.headers.ring_ent_in_out.payload_sz
    cdef size_t size = header.len
    cdef size_t first
    entry.commit_id = entry.headers.ring_ent_in_out.commit_id
    if size > room or others > ring.payload_bytes or size < sizeof(fuse_in_header) + others:
        return 0
    first = size - sizeof(fuse_in_header) - others
    if first > sizeof(entry.headers.op_in):
        return 0
    memcpy(request, header, sizeof(fuse_in_header))
    memcpy(request + sizeof(fuse_in_header), entry.headers.op_in, first)
    memcpy(request + sizeof(fuse_in_header) + first, entry.payload, others)
    return <int>size


cdef int ring_take(Ring *ring, char *request, size_t room, int *entry) noexcept nogil:
    """Send off the replies, wait, and lay out the next request. Its size; or a negative errno: EINTR after a signal,
    any other when there is no connection any more (``failed`` says why).
    """
    cdef const io_uring_cqe *completion
    cdef const fuse_in_header *header
    cdef uint32_t head
    cdef uint64_t number
    cdef int result
    cdef int size
    while True:
        head = ring.cq_head[0]
        if head == load_u32(ring.cq_tail) or ring.queued >= BATCH:
            result = enter(ring, 1 if head == load_u32(ring.cq_tail) else 0)
            if result == EINTR:
                return -EINTR
            if result != 0:
                ring.failed = result
                return -result
            if head == load_u32(ring.cq_tail):
                continue
        completion = &ring.cqes[head & ring.cq_mask]
        number = completion.user_data
        result = completion.res
        store_u32(ring.cq_head, head + 1)
        if result < 0:
            ring.failed = -result
            return result
        if number == WOKEN:
            commit_handed(ring)
            listen(ring)
            continue
        entry[0] = <int>number
        size = lay_out(ring, &ring.entries[entry[0]], request, room)
        if size > 0:
            return size
        header = <const fuse_in_header *>ring.entries[entry[0]].headers.in_out
        ring_reply(ring, entry[0], header.unique, EIO, NULL, 0)


cdef void ring_reply(
    Ring *ring, int entry, uint64_t unique, int error, const void *body, size_t size
) noexcept nogil:
    """To the request in ``entry``, by the ring's own thread; sent off with the next ring_take."""
    fill(ring, &ring.entries[entry], unique, -error, body, size)
    queue_command(ring, entry, FUSE_IO_URING_CMD_COMMIT_AND_FETCH)


cdef void fill(
    Ring *ring, RingEntry *entry, uint64_t unique, int error, const void *body, size_t size
) noexcept nogil:
    cdef fuse_out_header *header = <fuse_out_header *>entry.headers.in_out
    if size > ring.payload_bytes:      # the kernel does not ask for as much
        error = -EIO
        size = 0
    header.len = <uint32_t>(sizeof(fuse_out_header) + size)
    header.error = error
    header.unique = unique
    entry.headers.ring_ent_in_out.payload_sz = <uint32_t>size
    if size:
        memcpy(entry.payload, body, size)


cdef void ring_hand_back(Ring *ring, int entry, const char *reply, size_t size) noexcept nogil:
    """By any thread: a reply of pyfuse3, whose header is whole, to the request in ``entry``."""
    cdef const fuse_out_header *header = <const fuse_out_header *>reply
    cdef uint64_t one = 1
    fill(
        ring, &ring.entries[entry], header.unique, header.error, reply + sizeof(fuse_out_header),
        size - sizeof(fuse_out_header)
    )
    pthread_mutex_lock(&ring.lock)
    ring.handed[ring.handed_count] = entry
    ring.handed_count += 1
    pthread_mutex_unlock(&ring.lock)
    write(ring.eventfd, &one, sizeof(one))


def probe():
    cdef Ring ring
    cdef uint16_t queue = 0
    cdef int error = ring_prepare(&ring, -1, queue, &queue, 1)
    if error == 0:
        error = ring_open(&ring)
    ring_free(&ring)
    return error
