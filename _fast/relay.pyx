# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Requests that pyfuse3 answers: from /dev/fuse to its end of a SOCK_SEQPACKET pair, and its replies back.

Each message is one request or one reply, byte for byte as the kernel or libfuse wrote it; only the reply to INIT is
changed. How many may be with pyfuse3 at a time is bounded, in all and for each pid namespace: beyond that a request is
answered EAGAIN. So no container can keep another's requests waiting for long, nor the guard's question, which decides
whether this daemon is taken for hung. Not so a request to close something: the kernel sends it once and heeds no error,
so what is refused would stay open for ever.
"""

from libc.stdint cimport uint32_t
from libc.stdio cimport snprintf
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from procview._fast.fuse cimport (
    FUSE_INIT,
    FUSE_MAX_PAGES,
    FUSE_RELEASE,
    FUSE_RELEASEDIR,
    fuse_in_header,
    fuse_init_out,
    fuse_out_header,
)
from procview._fast.host cimport namespace_of
from procview._fast.posix cimport (
    EAGAIN,
    EINTR,
    EIO,
    MSG_DONTWAIT,
    MSG_NOSIGNAL,
    MSG_TRUNC,
    errno,
    pthread_mutex_destroy,
    pthread_mutex_init,
    pthread_mutex_lock,
    pthread_mutex_unlock,
    recv,
    send,
    usleep,
    write,
)


cdef enum:
    MOST_RELAYED_PER_OWNER = 96
    CLOSING_MILLISECONDS = 1000    # that a request to close waits for room in the socket
    MAX_WRITE_BYTES = 4096         # nobody writes; it decides how large the kernel wants a buffer for requests to be
    # The largest is a READ of 32 pages, what the kernel asks for without FUSE_MAX_PAGES; pages have up to 64 KiB.
    REPLY_BYTES = (32 << 16) + 4096


cdef void relay_init(Relay *relay, int device, int socket, Host *host) noexcept nogil:
    memset(relay, 0, sizeof(Relay))
    relay.device = device
    relay.socket = socket
    relay.host = host
    pthread_mutex_init(&relay.lock, NULL)


cdef void relay_free(Relay *relay) noexcept nogil:
    pthread_mutex_destroy(&relay.lock)


cdef bint admit(Relay *relay, uint64_t unique, uint64_t pidns, bint closes) noexcept nogil:
    """Note one more as pending, unless that is one too many."""
    cdef Relayed *one
    cdef int of_owner = 0
    cdef int others = 0
    cdef int most = MOST_RELAYED
    cdef int i
    cdef bint admitted
    if pidns == relay.host.pidns:
        most += MOST_OF_HOST
    pthread_mutex_lock(&relay.lock)
    for i in range(relay.pending_count):
        one = &relay.pending[i]
        if not one.closes:
            others += 1
            of_owner += one.pidns == pidns
    admitted = relay.pending_count < MOST_PENDING and (
        closes or (others < most and of_owner < MOST_RELAYED_PER_OWNER)
    )
    if admitted:
        one = &relay.pending[relay.pending_count]
        one.unique = unique
        one.pidns = pidns
        one.closes = closes
        relay.pending_count += 1
        relay.relayed += 1
    else:
        relay.refused += 1
    pthread_mutex_unlock(&relay.lock)
    return admitted


cdef bint settle(Relay *relay, uint64_t unique, bint *is_init) noexcept nogil:
    """It is pending no longer. False if it was not."""
    cdef bint found = False
    cdef int i
    pthread_mutex_lock(&relay.lock)
    for i in range(relay.pending_count):
        if relay.pending[i].unique == unique:
            relay.pending_count -= 1
            relay.pending[i] = relay.pending[relay.pending_count]
            found = True
            break
    is_init[0] = found and unique == relay.init_unique
    if is_init[0]:
        relay.init_unique = 0
    pthread_mutex_unlock(&relay.lock)
    return found


cdef int relay_request(Relay *relay, const char *request, size_t size) noexcept nogil:
    """Hand a request, whose header is whole, to pyfuse3. 0, or the errno that its reader is to get instead."""
    cdef const fuse_in_header *header = <const fuse_in_header *>request
    cdef char path[32]
    cdef uint64_t pidns = 0
    cdef bint closes = header.opcode == FUSE_RELEASE or header.opcode == FUSE_RELEASEDIR
    cdef int patience = CLOSING_MILLISECONDS if closes else 0
    cdef bint _is_init
    snprintf(path, sizeof(path), b"%u", header.pid)
    if header.pid == 0 or not namespace_of(relay.host, path, b"pid", &pidns):
        pidns = 0
    if not admit(relay, header.unique, pidns, closes):
        return EAGAIN
    if header.opcode == FUSE_INIT:
        pthread_mutex_lock(&relay.lock)
        relay.init_unique = header.unique
        pthread_mutex_unlock(&relay.lock)
    while send(relay.socket, request, size, MSG_DONTWAIT | MSG_NOSIGNAL) < 0:
        if errno == EINTR:
            continue
        if errno == EAGAIN and patience > 0:
            patience -= 1
            usleep(1000)
            continue
        settle(relay, header.unique, &_is_init)
        return EAGAIN if errno == EAGAIN else EIO
    return 0


cdef void adjust_init(fuse_init_out *init) noexcept nogil:
    """What pyfuse3 answered to INIT is kept but for sizes: requests fit into the lane's buffers, replies through the
    socket, and releases are not held up.
    """
    # RELEASE is a background request. With the kernel's twelve at a time a container of many threads opens faster than
    # its files are released, and comes to its bound of open files with few of them open.
    init.max_background = MAX_BACKGROUND
    init.congestion_threshold = MAX_BACKGROUND // 4 * 3
    init.max_write = MAX_WRITE_BYTES
    init.flags &= ~<uint32_t>FUSE_MAX_PAGES


cdef void relay_replies(Relay *relay) noexcept nogil:
    """Hand replies back to the kernel, until the other end is closed or says what is no reply."""
    cdef char *reply = <char *>malloc(REPLY_BYTES)
    cdef fuse_out_header *header = <fuse_out_header *>reply
    cdef ssize_t got
    cdef bint is_init
    while reply != NULL:
        got = recv(relay.socket, reply, REPLY_BYTES, MSG_TRUNC)
        if got < 0 and errno == EINTR:
            continue
        if got < <ssize_t>sizeof(fuse_out_header) or got > REPLY_BYTES:
            break
        # A notification has no request.
        if header.unique != 0 and not settle(relay, header.unique, &is_init):
            continue
        if header.unique != 0 and is_init and <size_t>got >= sizeof(fuse_out_header) + sizeof(fuse_init_out):
            adjust_init(<fuse_init_out *>(reply + sizeof(fuse_out_header)))
        while write(relay.device, reply, <size_t>got) < 0:
            # ENOENT: nobody waits for it any more. Others are the end of the connection, which the readers of requests
            # find out for themselves.
            if errno != EINTR:
                break
    free(reply)


cdef void relay_counts(Relay *relay, uint64_t *relayed, uint64_t *refused, int *pending) noexcept nogil:
    pthread_mutex_lock(&relay.lock)
    relayed[0] = relay.relayed
    refused[0] = relay.refused
    pending[0] = relay.pending_count
    pthread_mutex_unlock(&relay.lock)
