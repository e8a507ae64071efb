# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The fast lane: threads without the GIL that take requests from /dev/fuse and answer those that make up nearly all
traffic (OPEN, READ and RELEASE of views; LOOKUP and GETATTR of what is the same for everyone). All others, and every
one of these that is out of the ordinary, pyfuse3 answers, by ``relay``.

So the lane knows successes only: an error, a fallback to the host's numbers, a log line, work that may wait for a
container are Python's.
"""

import os

cimport cython
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memset, strcmp

from procview._fast.caller cimport PLACED, container_of
from procview._fast.callers cimport callers_were_kept
from procview._fast.container cimport Container, container_put
from procview._fast.engine cimport Engine
from procview._fast.files cimport (
    CLOSED,
    PART_READY,
    TO_RENDER,
    Files,
    OpenFiles,
    Part,
    block_put,
    file_close,
    file_keep,
    file_open,
    file_part,
)
from procview._fast.fuse cimport (
    FOPEN_DIRECT_IO,
    FOPEN_NOFLUSH,
    FUSE_BATCH_FORGET,
    FUSE_FORGET,
    FUSE_GETATTR,
    FUSE_INTERRUPT,
    FUSE_LOOKUP,
    FUSE_OPEN,
    FUSE_READ,
    FUSE_RELEASE,
    fuse_attr,
    fuse_attr_out,
    fuse_entry_out,
    fuse_in_header,
    fuse_open_in,
    fuse_open_out,
    fuse_out_header,
    fuse_read_in,
    fuse_release_in,
)
from procview._fast.posix cimport (
    EAGAIN,
    EINTR,
    ENOENT,
    ENOSYS,
    O_ACCMODE,
    O_RDONLY,
    O_TRUNC,
    SHUT_RDWR,
    SIG_SETMASK,
    SIGURG,
    close,
    count_now,
    count_u64,
    errno,
    iovec,
    pthread_create,
    pthread_join,
    pthread_kill,
    pthread_sigmask,
    pthread_t,
    read,
    set_bits,
    shutdown,
    sigaction,
    sigaction_t,
    sigdelset,
    sigfillset,
    sigset_t,
    store,
    take_all,
    u64_now,
    usleep,
    write,
    writev,
)
from procview._fast.relay cimport Relay, relay_counts, relay_free, relay_init, relay_replies, relay_request
from procview._fast.renderer cimport Renderer, may_wait, render, whole_text
from procview._fast.snapshot cimport FAILED, NEED_PRESSURE, NO_SUCH_FILE, SCOPED
from procview._fast.text cimport Text, text_clear, text_free, text_init
from procview._fast.views cimport ViewSpec, view_spec

from procview._fast.views import INDEX


cdef enum:
    REQUEST_BYTES = 64 << 10   # FUSE_MIN_READ_BUFFER, and a page of data that nobody writes; pages have up to 64 KiB
    MOST_IDLE_BYTES = 1 << 20  # of a thread's text

cdef enum:  # notices: bits
    NOTICE_ENDED = 1           # there is no connection any more
    NOTICE_LOADAVG = 2         # the load of one more container is watched
    NOTICE_REFUSED = 4         # too many requests for pyfuse3
    NOTICE_ABSENT = 8          # some container lacked a controller
    NOTICE_CALLERS = 16        # descriptors of callers were kept

ENDED = NOTICE_ENDED
LOADAVG = NOTICE_LOADAVG
REFUSED = NOTICE_REFUSED
ABSENT = NOTICE_ABSENT
CALLERS = NOTICE_CALLERS

cdef struct Node:
    uint64_t parent            # 0: not to be looked up by its name here
    uint64_t inode
    const char *name
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
    pthread_t thread
    int ended
    uint64_t answered
    char *request
    Text out
    Text scratch
    Text other


cdef void wake_up(int _signal) noexcept nogil:
    """Nothing: that it comes is what ends a read(2)."""
    pass


cdef void notify(Road *road, int notice) noexcept nogil:
    cdef uint64_t one = 1
    if not set_bits(&road.notices, notice) & notice:
        write(road.eventfd, &one, sizeof(one))


cdef void tell_news(Road *road) noexcept nogil:
    """Notify of what a render may have changed. Two threads may both do so, which does no harm."""
    cdef int watches = count_now(&road.renderer.containers.load_watches)
    cdef int absent = count_now(&road.renderer.absent)
    if watches != count_now(&road.load_watches):
        store(&road.load_watches, watches)
        notify(road, NOTICE_LOADAVG)
    if absent != count_now(&road.absent):
        store(&road.absent, absent)
        notify(road, NOTICE_ABSENT)


cdef bint reply(Road *road, uint64_t unique, int error, const void *body, size_t size) noexcept nogil:
    """Whether anybody waited for it."""
    cdef fuse_out_header header
    cdef iovec[2] parts
    header.len = <uint32_t>(sizeof(header) + size)
    header.error = -error
    header.unique = unique
    parts[0].iov_base = &header
    parts[0].iov_len = sizeof(header)
    parts[1].iov_base = <void *>body
    parts[1].iov_len = size
    while writev(road.device, parts, 2 if size else 1) < 0:
        if errno != EINTR:
            return False
    return True


# Each of the following answers one kind of request and returns True; or it returns False, having done nothing, and
# pyfuse3 is asked.

cdef const Node *node_of(const Road *road, uint64_t inode) noexcept nogil:
    cdef int i
    for i in range(road.node_count):
        if road.nodes[i].inode == inode:
            return &road.nodes[i]
    return NULL


cdef void fill_attributes(const Road *road, const Node *node, fuse_attr *attributes) noexcept nogil:
    attributes.ino = node.inode
    attributes.mode = node.mode
    attributes.nlink = 1       # of a directory: "not counted"
    attributes.blksize = 4096
    attributes.atime = attributes.mtime = attributes.ctime = road.start_seconds
    attributes.atimensec = attributes.mtimensec = attributes.ctimensec = road.start_nanoseconds


cdef bint answer_lookup(Worker *worker, const fuse_in_header *header, const char *name, size_t size) noexcept nogil:
    cdef Road *road = worker.road
    cdef fuse_entry_out out
    cdef const Node *node
    cdef int i
    if size == 0 or name[size - 1] != 0:
        return False
    for i in range(road.node_count):
        node = &road.nodes[i]
        if node.parent == header.nodeid and strcmp(node.name, name) == 0:
            memset(&out, 0, sizeof(out))
            out.nodeid = node.inode
            out.entry_valid = out.attr_valid = road.static_seconds
            fill_attributes(road, node, &out.attr)
            reply(road, header.unique, 0, &out, sizeof(out))
            return True
    return False


cdef bint answer_getattr(Worker *worker, const fuse_in_header *header) noexcept nogil:
    cdef const Node *node = node_of(worker.road, header.nodeid)
    cdef fuse_attr_out out
    if node == NULL or node.parent == 0:
        return False
    memset(&out, 0, sizeof(out))
    out.attr_valid = worker.road.static_seconds
    fill_attributes(worker.road, node, &out.attr)
    reply(worker.road, header.unique, 0, &out, sizeof(out))
    return True


cdef bint answer_open(
    Worker *worker, const fuse_in_header *header, const fuse_open_in *asked, size_t size
) noexcept nogil:
    cdef Road *road = worker.road
    cdef Renderer *renderer = road.renderer
    cdef const Node *node = node_of(road, header.nodeid)
    cdef Container *container = NULL
    cdef const ViewSpec *spec
    cdef fuse_open_out out
    if (
        node == NULL or node.spec < 0 or size < sizeof(fuse_open_in)
        or asked.flags & O_ACCMODE != O_RDONLY or asked.flags & O_TRUNC
        or container_of(
            &renderer.containers, <int>header.pid, False, &container, &worker.scratch, &worker.other
        ) != PLACED
    ):
        return False
    if callers_were_kept(&renderer.containers.callers):
        notify(road, NOTICE_CALLERS)
    spec = view_spec(node.spec)
    memset(&out, 0, sizeof(out))
    out.open_flags = FOPEN_DIRECT_IO | FOPEN_NOFLUSH
    if spec.needs & NEED_PRESSURE:
        # A render says whether this container has such a file.
        text_clear(&worker.out)
        if render(renderer, spec, container, &worker.out) != SCOPED:
            container_put(&renderer.containers, container)
            return False
    out.fh = file_open(road.files, container.pidns, node.spec, container, NULL)
    if out.fh == 0:
        container_put(&renderer.containers, container)
        return False
    if not reply(road, header.unique, 0, &out, sizeof(out)) and file_close(
        road.files, out.fh, &container, NULL
    ) == CLOSED:
        container_put(&renderer.containers, container)   # it will not be released: nobody has got it
    return True


cdef bint answer_read(
    Worker *worker, const fuse_in_header *header, const fuse_read_in *asked, size_t size
) noexcept nogil:
    cdef Road *road = worker.road
    cdef Renderer *renderer = road.renderer
    cdef const ViewSpec *spec
    cdef Part part
    cdef ssize_t got = -1
    cdef size_t length
    cdef int verdict = FAILED
    cdef int found
    if size < sizeof(fuse_read_in):
        return False
    found = file_part(road.files, asked.fh, asked.offset, asked.size, &part)
    if found == PART_READY:
        reply(road, header.unique, 0, part.data, part.size)
        if part.text != NULL:
            block_put(part.text)
        return True
    if found != TO_RENDER:
        return False
    spec = view_spec(part.spec)
    text_clear(&worker.out)
    if not may_wait(renderer, spec, part.container):
        got = whole_text(renderer, spec, part.container, &worker.out, &verdict)
    container_put(&renderer.containers, part.container)
    if got < 0 or verdict == FAILED or verdict == NO_SUCH_FILE or worker.out.broken:
        return False
    length = <size_t>got
    # Before the reply: the next request for this file may be in another thread's hands as soon as that is written.
    file_keep(road.files, asked.fh, worker.out.data, length, asked.offset == 0 and asked.size >= length)
    if asked.offset >= length:
        reply(road, header.unique, 0, NULL, 0)
    else:
        reply(
            road, header.unique, 0, worker.out.data + asked.offset, min(<size_t>asked.size, length - asked.offset)
        )
    tell_news(road)
    if worker.out.capacity > MOST_IDLE_BYTES:
        text_free(&worker.out)
    return True


cdef bint answer_release(
    Worker *worker, const fuse_in_header *header, const fuse_release_in *asked, size_t size
) noexcept nogil:
    cdef Container *container = NULL
    if size < sizeof(fuse_release_in) or file_close(worker.road.files, asked.fh, &container, NULL) != CLOSED:
        return False
    if container != NULL:
        container_put(&worker.road.renderer.containers, container)
    reply(worker.road, header.unique, 0, NULL, 0)
    return True


cdef bint answer(Worker *worker, const fuse_in_header *header, const char *body, size_t size) noexcept nogil:
    if header.opcode == FUSE_READ:
        return answer_read(worker, header, <const fuse_read_in *>body, size)
    if header.opcode == FUSE_OPEN:
        return answer_open(worker, header, <const fuse_open_in *>body, size)
    if header.opcode == FUSE_RELEASE:
        return answer_release(worker, header, <const fuse_release_in *>body, size)
    if header.opcode == FUSE_LOOKUP:
        return answer_lookup(worker, header, body, size)
    if header.opcode == FUSE_GETATTR:
        return answer_getattr(worker, header)
    if header.opcode == FUSE_FORGET or header.opcode == FUSE_BATCH_FORGET:
        return True            # there is nothing to forget, and no reply
    if header.opcode == FUSE_INTERRUPT:
        # Every request ends by itself, within a second. ENOSYS: the kernel does not say so again.
        reply(worker.road, header.unique, ENOSYS, NULL, 0)
        return True
    return False


cdef void *work(void *argument) noexcept nogil:
    """One thread's life: until the connection ends, or it is told to stop."""
    cdef Worker *worker = <Worker *>argument
    cdef Road *road = worker.road
    cdef const fuse_in_header *header = <const fuse_in_header *>worker.request
    cdef ssize_t got
    cdef int error
    while not count_now(&road.stopping):
        got = read(road.device, worker.request, REQUEST_BYTES)
        if got <= 0:
            # ENOENT: the request was taken back while it was handed over.
            if got < 0 and (errno == EINTR or errno == EAGAIN or errno == ENOENT):
                continue
            notify(road, NOTICE_ENDED)
            break
        if <size_t>got < sizeof(fuse_in_header) or header.len != <size_t>got:
            continue           # the kernel sends no such thing
        if answer(worker, header, worker.request + sizeof(fuse_in_header), <size_t>got - sizeof(fuse_in_header)):
            count_u64(&worker.answered)
            continue
        error = relay_request(&road.relay, worker.request, <size_t>got)
        if error != 0:
            reply(road, header.unique, error, NULL, 0)
            notify(road, NOTICE_REFUSED)
    store(&worker.ended, 1)
    return NULL


cdef void *carry_back(void *argument) noexcept nogil:
    """The other thread's: replies of pyfuse3. Without them there is no file system any more."""
    cdef Road *road = <Road *>argument
    relay_replies(&road.relay)
    notify(road, NOTICE_ENDED)
    return NULL


@cython.final
cdef class Lane:
    cdef Road _road
    cdef Worker *_workers
    cdef pthread_t _carrier
    cdef int _thread_count
    cdef int _started
    cdef bint _carries
    cdef bint _has_relay
    cdef object _kept_alive

    def __cinit__(
        self, Engine engine, OpenFiles files, *, int device, int socket, nodes, uint64_t static_seconds,
        uint64_t start_ns, int threads
    ):
        cdef Road *road = &self._road
        cdef Node *node
        cdef int i
        road.device = device
        road.socket = socket
        road.eventfd = -1
        if threads < 1:
            raise ValueError("a lane has at least one thread")
        road.renderer = &engine._renderer
        road.files = &files._files
        road.absent = engine._renderer.absent
        road.load_watches = engine._renderer.containers.load_watches
        road.static_seconds = static_seconds
        road.start_seconds = start_ns // 1000000000
        road.start_nanoseconds = <uint32_t>(start_ns % 1000000000)
        self._kept_alive = [engine, files]
        road.nodes = <Node *>calloc(len(nodes) + 1, sizeof(Node))
        self._workers = <Worker *>calloc(threads, sizeof(Worker))
        if road.nodes == NULL or self._workers == NULL:
            raise MemoryError
        for parent, name, inode, mode, path in nodes:
            encoded = os.fsencode(name)
            self._kept_alive.append(encoded)
            node = &road.nodes[road.node_count]
            node.parent = parent
            node.inode = inode
            node.name = encoded
            node.mode = mode
            node.spec = INDEX.get(path, -1)
            road.node_count += 1
        self._thread_count = threads
        for i in range(threads):
            self._workers[i].road = road
            text_init(&self._workers[i].out)
            text_init(&self._workers[i].scratch)
            text_init(&self._workers[i].other)
            self._workers[i].request = <char *>malloc(REQUEST_BYTES)
            if self._workers[i].request == NULL:
                raise MemoryError
        relay_init(&road.relay, device, socket, &road.renderer.host)
        self._has_relay = True
        road.eventfd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def __dealloc__(self):
        cdef Road *road = &self._road
        cdef int i
        self._stop()
        if self._workers != NULL:
            for i in range(self._thread_count):
                free(self._workers[i].request)
                text_free(&self._workers[i].out)
                text_free(&self._workers[i].scratch)
                text_free(&self._workers[i].other)
        free(self._workers)
        free(road.nodes)
        if self._has_relay:
            relay_free(&road.relay)
        if road.eventfd >= 0:
            close(road.eventfd)
        close(road.device)
        close(road.socket)

    def start(self):
        cdef sigaction_t action
        cdef sigset_t all_but_one
        cdef sigset_t before
        cdef int error = 0
        if self._started or count_now(&self._road.stopping):
            raise RuntimeError("a lane is started once")
        memset(&action, 0, sizeof(action))
        action.sa_handler = wake_up      # without SA_RESTART
        sigaction(SIGURG, &action, NULL)
        # Threads inherit the mask: all signals but this one are for Python's main thread.
        sigfillset(&all_but_one)
        sigdelset(&all_but_one, SIGURG)
        pthread_sigmask(SIG_SETMASK, &all_but_one, &before)
        error = pthread_create(&self._carrier, NULL, carry_back, &self._road)
        self._carries = error == 0
        while error == 0 and self._started < self._thread_count:
            error = pthread_create(
                &self._workers[self._started].thread, NULL, work, &self._workers[self._started]
            )
            if error == 0:
                self._started += 1
        pthread_sigmask(SIG_SETMASK, &before, NULL)
        if error != 0:
            self.stop()
            raise OSError(error, f"no thread: {os.strerror(error)}")

    def stop(self):
        with nogil:
            self._stop()

    cdef void _stop(self) noexcept nogil:
        """A signal that comes just before its read(2) is lost, so it comes again until the thread has ended."""
        cdef int i
        store(&self._road.stopping, 1)
        for i in range(self._started):
            while not count_now(&self._workers[i].ended):
                pthread_kill(self._workers[i].thread, SIGURG)
                usleep(1000)
            pthread_join(self._workers[i].thread, NULL)
        self._started = 0
        if self._carries:
            shutdown(self._road.socket, SHUT_RDWR)
            pthread_join(self._carrier, NULL)
            self._carries = False

    def fileno(self):
        return self._road.eventfd

    def take_notices(self):
        try:
            os.eventfd_read(self._road.eventfd)
        except BlockingIOError:
            pass
        return take_all(&self._road.notices)

    def counters(self):
        cdef uint64_t answered = 0
        cdef uint64_t relayed = 0
        cdef uint64_t refused = 0
        cdef int pending = 0
        cdef int i
        for i in range(self._thread_count):
            answered += u64_now(&self._workers[i].answered)
        relay_counts(&self._road.relay, &relayed, &refused, &pending)
        return {"answered": answered, "relayed": relayed, "refused": refused, "pending": pending}
