# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Requests that pyfuse3 answers: to its end of a SOCK_SEQPACKET pair, and its replies back to /dev/fuse or the ring.

Each message is one request or one reply, byte for byte as the kernel or libfuse wrote it; only the reply to INIT is
changed. How many may be with pyfuse3 at a time is bounded, in all and for each pid namespace: beyond that a request is
answered EAGAIN. So no container can keep another's requests waiting for long, nor the guard's question, which decides
whether this daemon is taken for hung. In a ring each of them keeps a place of its queue, so there are bounds for a
queue as well: some places are always left for what the lane itself answers. Not so a request to close something: the
kernel sends it once and heeds no error, so what is refused would stay open for ever.
"""

from libc.stdint cimport uint32_t
from libc.stdio cimport snprintf
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy, memset

from procview._fast.faults cimport fault_at
from procview._fast.files cimport file_answered
from procview._fast.fuse cimport (
    FUSE_INIT,
    FUSE_INIT_EXT,
    FUSE_HAS_RESEND_2,
    FUSE_MAX_PAGES,
    FUSE_OPEN,
    FUSE_OPENDIR,
    FUSE_RELEASE,
    FUSE_RELEASEDIR,
    fuse_in_header,
    fuse_init_in,
    fuse_init_out,
    fuse_open_out,
    fuse_out_header,
    first_number,
)
from procview._fast.host cimport namespace_of
from procview._fast.posix cimport (
    EAGAIN,
    EINTR,
    EINVAL,
    EIO,
    MSG_DONTWAIT,
    MSG_NOSIGNAL,
    MSG_TRUNC,
    count_now,
    errno,
    pthread_mutex_destroy,
    pthread_mutex_init,
    pthread_mutex_lock,
    pthread_mutex_unlock,
    recv,
    send,
    store,
    usleep,
    write,
)
from procview._fast.ring cimport PAYLOAD_PAGES, RING_GO, RING_NO, Ring, ring_hand_back, ring_tell
from procview._fast.state cimport KIND_AGREEMENT, link_to, object_at, object_new, object_size
from procview._fast.uring cimport FUSE_OVER_IO_URING_2


cdef enum:
    MOST_RELAYED_PER_OWNER = 96
    MOST_CLOSING_OF_RING = 128     # which may all be of one queue
    CLOSING_MILLISECONDS = 1000    # that a request to close waits for room in the socket
    MAX_WRITE_BYTES = 4096         # nobody writes; it decides how large the kernel wants a buffer for requests to be
    # The largest is a READ of 32 pages, what the kernel asks for without FUSE_MAX_PAGES; pages have up to 64 KiB.
    REPLY_BYTES = (32 << 16) + 4096


cdef void relay_init(
    Relay *relay, int device, int socket, Host *host, Files *files, Ring *rings, int ring_count
) noexcept nogil:
    memset(relay, 0, sizeof(Relay))
    relay.device = device
    relay.rings = rings
    relay.ring_count = ring_count
    relay.socket = socket
    relay.host = host
    relay.files = files
    relay.shared = files.shared
    pthread_mutex_init(&relay.lock, NULL)


cdef void relay_free(Relay *relay) noexcept nogil:
    pthread_mutex_destroy(&relay.lock)


cdef int most_relayed_of(const Relayed *new) noexcept nogil:
    """How many places of its queue may be taken by requests that are with pyfuse3."""
    if new.ring == NULL:
        return MOST_PENDING
    return (new.ring.entries[new.entry].depth - MOST_CLOSING_OF_RING) // 5 * 4


cdef bint admit(Relay *relay, const Relayed *new) noexcept nogil:
    """Note one more as pending, unless that is one too many."""
    cdef const Relayed *one
    cdef int others = 0
    cdef int of_owner = 0
    cdef int of_queue = 0
    cdef int of_both = 0
    cdef int most = MOST_RELAYED
    cdef int most_of_queue = most_relayed_of(new)
    cdef int i
    cdef bint same_queue
    cdef bint admitted
    if new.pidns == relay.host.pidns:
        most += MOST_OF_HOST
    pthread_mutex_lock(&relay.lock)
    for i in range(relay.pending_count):
        one = &relay.pending[i]
        if not one.closes:
            same_queue = new.ring != NULL and one.ring == new.ring and one.queue == new.queue
            others += 1
            of_owner += one.pidns == new.pidns
            of_queue += same_queue
            of_both += same_queue and one.pidns == new.pidns
    admitted = relay.pending_count < MOST_PENDING and (
        new.closes or (
            others < most and of_owner < MOST_RELAYED_PER_OWNER
            and of_queue < most_of_queue and of_both < most_of_queue // 2
        )
    )
    if admitted:
        relay.pending[relay.pending_count] = new[0]
        relay.pending_count += 1
        relay.relayed += 1
    else:
        relay.refused += 1
    pthread_mutex_unlock(&relay.lock)
    return admitted


cdef bint settle(Relay *relay, uint64_t unique, Relayed *it) noexcept nogil:
    """It is pending no longer; what it was. False if it was not."""
    cdef bint found = False
    cdef int i
    pthread_mutex_lock(&relay.lock)
    for i in range(relay.pending_count):
        if relay.pending[i].unique == unique:
            it[0] = relay.pending[i]
            relay.pending_count -= 1
            relay.pending[i] = relay.pending[relay.pending_count]
            found = True
            break
    pthread_mutex_unlock(&relay.lock)
    return found


cdef int relay_request(Relay *relay, const char *request, size_t size, Ring *ring, int entry) noexcept nogil:
    """Hand a request, whose header is whole, to pyfuse3; it came in ``entry`` of ``ring``, unless that is NULL. 0, or
    the errno that its reader is to get instead.
    """
    cdef const fuse_in_header *header = <const fuse_in_header *>request
    cdef char path[32]
    cdef Relayed new
    cdef int patience = 0
    memset(&new, 0, sizeof(new))
    new.unique = header.unique
    new.closes = header.opcode == FUSE_RELEASE or header.opcode == FUSE_RELEASEDIR
    new.opens = header.opcode == FUSE_OPEN or header.opcode == FUSE_OPENDIR
    new.is_init = header.opcode == FUSE_INIT
    new.ring = ring
    if ring != NULL:
        new.entry = entry
        new.queue = ring.entries[entry].qid
    snprintf(path, sizeof(path), b"%u", header.pid)
    if header.pid == 0 or not namespace_of(relay.host, path, b"pid", &new.pidns):
        new.pidns = 0
    if not admit(relay, &new):
        return EAGAIN
    if new.is_init:
        hear_init(relay, request, size)
    if new.closes:
        patience = CLOSING_MILLISECONDS
    while send(relay.socket, request, size, MSG_DONTWAIT | MSG_NOSIGNAL) < 0:
        if errno == EINTR:
            continue
        if errno == EAGAIN and patience > 0:
            patience -= 1
            usleep(1000)
            continue
        settle(relay, header.unique, &new)
        return EAGAIN if errno == EAGAIN else EIO
    return 0


cdef void hear_init(Relay *relay, const char *request, size_t size) noexcept nogil:
    """What the kernel offers. Kernels before 5.17 send no flags2."""
    cdef const fuse_init_in *asked = <const fuse_init_in *>(request + sizeof(fuse_in_header))
    cdef uint32_t flags2 = 0
    if size >= sizeof(fuse_in_header) + sizeof(fuse_init_in) and asked.flags & FUSE_INIT_EXT != 0:
        flags2 = asked.flags2
    store(&relay.offered, flags2 & FUSE_OVER_IO_URING_2 != 0)
    store(&relay.can_resend, flags2 & FUSE_HAS_RESEND_2 != 0 and size <= MOST_INIT_BYTES)
    if size <= MOST_INIT_BYTES:
        memcpy(relay.agreement.asked, request, size)
        relay.agreement.asked_size = <uint32_t>size


cdef void agree(Relay *relay, const fuse_out_header *reply, size_t size) noexcept nogil:
    """Remember the reply to INIT, for the next daemon."""
    cdef size_t body_size = size - sizeof(fuse_out_header)
    cdef uint32_t unit
    if reply.error != 0 or body_size > MOST_INIT_BYTES:
        store(&relay.can_resend, 0)
    else:
        relay.agreement.replied_size = <uint32_t>body_size
        memcpy(relay.agreement.replied, reply + 1, body_size)
        if relay.shared != NULL:
            unit = object_new(relay.shared, KIND_AGREEMENT, sizeof(Agreement))
            if unit != 0:
                memcpy(object_at(relay.shared, unit), &relay.agreement, sizeof(Agreement))
                link_to(&relay.shared.head.agreement, unit)
    store(&relay.agreed, 1)


cdef bint is_as_agreed(const Relay *relay, const fuse_out_header *reply, size_t size) noexcept nogil:
    """Whether this reply to INIT, which the kernel does not get, is the one that it got from another daemon."""
    cdef size_t body_size = size - sizeof(fuse_out_header)
    return (
        reply.error == 0 and body_size == relay.agreement.replied_size
        and memcmp(reply + 1, relay.agreement.replied, body_size) == 0
    )


cdef int relay_again(Relay *relay) noexcept nogil:
    """Have pyfuse3 answer the INIT that another daemon has answered. Before anything else is handed on. 0, or an errno:
    EINVAL where that is not known.
    """
    cdef uint32_t unit = relay.shared.head.agreement
    cdef const fuse_in_header *header = <const fuse_in_header *>relay.agreement.asked
    cdef Relayed new
    if object_size(relay.shared, unit, KIND_AGREEMENT) < sizeof(Agreement):
        return EINVAL
    memcpy(&relay.agreement, object_at(relay.shared, unit), sizeof(Agreement))
    if (
        relay.agreement.asked_size > MOST_INIT_BYTES or relay.agreement.replied_size > MOST_INIT_BYTES
        or relay.agreement.asked_size < sizeof(fuse_in_header) or header.opcode != FUSE_INIT
    ):
        return EINVAL
    hear_init(relay, relay.agreement.asked, relay.agreement.asked_size)
    memset(&new, 0, sizeof(new))
    new.unique = header.unique
    new.is_init = new.is_again = True
    admit(relay, &new)
    if send(relay.socket, relay.agreement.asked, relay.agreement.asked_size, MSG_DONTWAIT | MSG_NOSIGNAL) < 0:
        return errno
    return 0


cdef bint adjust_init(Relay *relay, fuse_out_header *reply, size_t size) noexcept nogil:
    """What pyfuse3 answered to INIT is kept but for sizes: requests fit into the lane's buffers, replies through the
    socket, and releases are not held up; and for the ring. True: there will be one.
    """
    cdef fuse_init_out *init = <fuse_init_out *>(reply + 1)
    cdef bint with_ring = relay.ring_count > 0 and count_now(&relay.offered)
    if reply.error != 0 or size < sizeof(fuse_out_header) + sizeof(fuse_init_out):
        return False
    # RELEASE is a background request. With the kernel's twelve at a time a container of many threads opens faster than
    # its files are released, and comes to its bound of open files with few of them open.
    init.max_background = MOST_CLOSING_OF_RING if with_ring else MAX_BACKGROUND
    init.congestion_threshold = init.max_background // 4 * 3
    init.max_write = MAX_WRITE_BYTES
    init.flags &= ~<uint32_t>FUSE_MAX_PAGES
    if with_ring:
        init.flags |= <uint32_t>(FUSE_INIT_EXT | FUSE_MAX_PAGES)
        init.max_pages = PAYLOAD_PAGES
        init.flags2 |= <uint32_t>FUSE_OVER_IO_URING_2
    return with_ring


cdef void relay_replies(Relay *relay) noexcept nogil:
    """Hand replies back to the kernel, until the other end is closed or says what is no reply."""
    cdef char *reply = <char *>malloc(REPLY_BYTES)
    cdef fuse_out_header *header = <fuse_out_header *>reply
    cdef Relayed to
    cdef ssize_t got
    cdef bint with_ring
    cdef int i
    while reply != NULL:
        got = recv(relay.socket, reply, REPLY_BYTES, MSG_TRUNC)
        if got < 0 and errno == EINTR:
            continue
        if got < <ssize_t>sizeof(fuse_out_header) or got > REPLY_BYTES:
            break
        memset(&to, 0, sizeof(to))
        # A notification has no request.
        if header.unique != 0 and not settle(relay, header.unique, &to):
            continue
        if to.ring != NULL:
            ring_hand_back(to.ring, to.entry, reply, <size_t>got)
            continue
        with_ring = to.is_init and adjust_init(relay, header, <size_t>got)
        if to.is_again:
            store(&relay.agreed, 1 if is_as_agreed(relay, header, <size_t>got) else -1)
            if count_now(&relay.agreed) < 0:
                break
            continue
        if to.is_init:
            agree(relay, header, <size_t>got)
        if to.opens and header.error == 0 and got >= <ssize_t>(sizeof(fuse_out_header) + sizeof(fuse_open_out)):
            # Before the kernel has it, or a daemon after us would not know that it may have.
            file_answered(relay.files, (<const fuse_open_out *>(header + 1)).fh, first_number(to.unique))
        if fault_at(b"relay"):
            continue
        while write(relay.device, reply, <size_t>got) < 0:
            # ENOENT: nobody waits for it any more. Others are the end of the connection, which the readers of requests
            # find out for themselves.
            if errno != EINTR:
                break
        if to.is_init:
            for i in range(relay.ring_count):
                ring_tell(&relay.rings[i], RING_GO if with_ring else RING_NO)
    free(reply)


cdef void relay_counts(Relay *relay, uint64_t *relayed, uint64_t *refused, int *pending) noexcept nogil:
    pthread_mutex_lock(&relay.lock)
    relayed[0] = relay.relayed
    refused[0] = relay.refused
    pending[0] = relay.pending_count
    pthread_mutex_unlock(&relay.lock)
