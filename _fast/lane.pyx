# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The fast lane: threads without the GIL that take requests from the kernel and answer those that make up nearly all
traffic. All others, and every one of these that is out of the ordinary, pyfuse3 answers, by ``relay``.
"""

import os
from array import array

cimport cython
from cpython.ref cimport Py_DECREF
from libc.stdint cimport uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from procview._fast.answers cimport answer
from procview._fast.container cimport Container, container_put
from procview._fast.engine cimport Engine
from procview._fast.faults cimport fault_at
from procview._fast.files cimport CLOSED, file_close, file_opened_by
from procview._fast.fuse cimport (
    FUSE_NOTIFY_RESEND,
    FUSE_OPEN,
    FUSE_OPENDIR,
    first_number,
    fuse_in_header,
    fuse_out_header,
    is_resent,
)
from procview._fast.open_files cimport OpenFiles
from procview._fast.posix cimport (
    SHUT_RDWR,
    SIG_SETMASK,
    SIGURG,
    close,
    count_now,
    count_u64,
    errno,
    pthread_create,
    pthread_join,
    pthread_kill,
    pthread_sigmask,
    pthread_t,
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
)
from procview._fast.relay cimport relay_counts, relay_again, relay_free, relay_init, relay_replies, relay_request
from procview._fast.ring cimport Ring, ring_free, ring_prepare
from procview._fast.worker cimport (
    NOTICE_ABSENT,
    NOTICE_CALLERS,
    NOTICE_ENDED,
    NOTICE_LOADAVG,
    NOTICE_NO_RING,
    NOTICE_REFUSED,
    Node,
    Road,
    Worker,
    begin,
    notify,
    reply,
    take,
    worker_free,
    worker_init,
)

from procview._fast.faults import passing
from procview._fast.views import INDEX


ENDED = NOTICE_ENDED
LOADAVG = NOTICE_LOADAVG
REFUSED = NOTICE_REFUSED
ABSENT = NOTICE_ABSENT
CALLERS = NOTICE_CALLERS
NO_RING = NOTICE_NO_RING


cdef void wake_up(int _signal) noexcept nogil:
    """Nothing: that it comes is what ends a wait."""
    pass


cdef void forget_opened(Road *road, uint64_t unique) noexcept nogil:
    """What a daemon before us has opened for this request, whose reply nobody has seen: it is opened once more."""
    cdef Container *container = NULL
    cdef void *view = NULL
    cdef uint64_t handle = file_opened_by(road.files, unique)
    if handle == 0 or file_close(road.files, handle, &container, &view) != CLOSED:
        return
    if container != NULL:
        container_put(&road.renderer.containers, container)
    if view != NULL:
        with gil:
            Py_DECREF(<object>view)


cdef void serve(Worker *worker, size_t size) noexcept nogil:
    """The request in hand, of that size: answered here, or handed on."""
    cdef Road *road = worker.road
    cdef const fuse_in_header *header = <const fuse_in_header *>worker.request
    cdef const char *body = worker.request + sizeof(fuse_in_header)
    cdef int error = fault_at(b"read")
    if error == 0:
        if is_resent(header.unique) and (header.opcode == FUSE_OPEN or header.opcode == FUSE_OPENDIR):
            forget_opened(road, first_number(header.unique))
        if answer(worker, header, body, size - sizeof(fuse_in_header)):
            count_u64(&worker.answered)
            return
        error = relay_request(&road.relay, worker.request, size, worker.ring, worker.entry)
        if error == 0:
            return
        notify(road, NOTICE_REFUSED)
    reply(worker, header.unique, error, NULL, 0)


cdef void *work(void *argument) noexcept nogil:
    """One thread's life: until the connection ends, or it is told to stop."""
    cdef Worker *worker = <Worker *>argument
    cdef Road *road = worker.road
    cdef bint ended = not begin(worker)
    cdef size_t size
    while not ended and not count_now(&road.stopping):
        size = take(worker, &ended)
        if size:
            count_u64(&worker.turns)
            serve(worker, size)
            count_u64(&worker.turns)
        elif ended:
            notify(road, NOTICE_ENDED)
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
    cdef Ring *_rings
    cdef pthread_t _carrier
    cdef int _thread_count
    cdef int _ring_count
    cdef int _started
    cdef bint _carries
    cdef bint _has_relay
    cdef bint _inherited
    cdef object _kept_alive

    def __cinit__(
        self, Engine engine, OpenFiles files, *, int device, int socket, nodes, uint64_t static_seconds,
        uint64_t start_ns, int threads, rings=(), bint inherited=False
    ):
        cdef Road *road = &self._road
        cdef Node *node
        cdef Worker *worker
        cdef uint16_t[:] queues
        cdef int error
        cdef int i
        road.device = road.socket = road.eventfd = -1      # not the lane's until nothing can fail
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
        self._inherited = inherited
        road.nodes = <Node *>calloc(len(nodes) + 1, sizeof(Node))
        self._workers = <Worker *>calloc(threads + len(rings), sizeof(Worker))
        self._rings = <Ring *>calloc(len(rings) + 1, sizeof(Ring))
        if road.nodes == NULL or self._workers == NULL or self._rings == NULL:
            raise MemoryError
        for parent, name, inode, mode, path in nodes:
            encoded = os.fsencode(name)
            encoded_path = os.fsencode(path)
            self._kept_alive += [encoded, encoded_path]
            node = &road.nodes[road.node_count]
            node.parent = parent
            node.inode = inode
            node.name = encoded
            node.path = encoded_path
            node.mode = mode
            node.spec = INDEX.get(path, -1)
            road.node_count += 1
        for i in range(threads + len(rings)):
            self._thread_count += 1
            if not worker_init(&self._workers[i], road):
                raise MemoryError
        for cpu, numbers in rings:
            worker = &self._workers[threads + self._ring_count]
            worker.ring = &self._rings[self._ring_count]
            worker.cpu = cpu
            queues = array("H", numbers)
            self._ring_count += 1
            error = ring_prepare(worker.ring, device, cpu, &queues[0], len(numbers))
            if error:
                raise OSError(error, os.strerror(error))
        relay_init(&road.relay, device, socket, &road.renderer.host, road.files, self._rings, self._ring_count)
        self._has_relay = True
        road.eventfd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        road.device = device
        road.socket = socket

    def __dealloc__(self):
        cdef Road *road = &self._road
        cdef int i
        self._stop()
        if self._workers != NULL:
            for i in range(self._thread_count):
                worker_free(&self._workers[i])
        if self._rings != NULL:
            for i in range(self._ring_count):
                ring_free(&self._rings[i])
        free(self._workers)
        free(self._rings)
        free(road.nodes)
        if self._has_relay:
            relay_free(&road.relay)
        if road.eventfd >= 0:
            close(road.eventfd)
        close(road.device)
        close(road.socket)

    def start(self):
        cdef Worker *worker
        cdef sigaction_t action
        cdef sigset_t all_but_one
        cdef sigset_t before
        cdef int error = 0
        if self._started or count_now(&self._road.stopping):
            raise RuntimeError("a lane is started once")
        if self._inherited:
            error = relay_again(&self._road.relay)
            if error:
                raise OSError(error, f"it is not known what was negotiated: {os.strerror(error)}")
            passing("negotiate")
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
        for i in range(self._thread_count):
            worker = &self._workers[i]
            while worker.ring != NULL and count_now(&worker.opened) == 0:
                usleep(100)
            if worker.ring != NULL and count_now(&worker.opened) < 0:
                error = -count_now(&worker.opened)
                self.stop()
                raise OSError(error, f"no io_uring: {os.strerror(error)}")
        if self._inherited:
            error = fault_at(b"resend") or self._have_resent() or fault_at(b"resent")
            if error:
                self.stop()
                raise OSError(error, f"FUSE_NOTIFY_RESEND: {os.strerror(error)}")

    cdef int _have_resent(self) noexcept nogil:
        """Have the kernel send again what the daemon before us has read and not answered. 0 or an errno."""
        cdef fuse_out_header notification
        memset(&notification, 0, sizeof(notification))
        notification.len = sizeof(notification)
        notification.error = FUSE_NOTIFY_RESEND
        return 0 if write(self._road.device, &notification, sizeof(notification)) >= 0 else errno

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
        cdef uint64_t by_ring = 0
        cdef uint64_t relayed = 0
        cdef uint64_t refused = 0
        cdef int pending = 0
        cdef int i
        for i in range(self._thread_count):
            answered += u64_now(&self._workers[i].answered)
            if self._workers[i].ring != NULL:
                by_ring += u64_now(&self._workers[i].answered)
        relay_counts(&self._road.relay, &relayed, &refused, &pending)
        return {
            "answered": answered, "by_ring": by_ring, "relayed": relayed, "refused": refused, "pending": pending
        }

    def in_hand(self):
        cdef uint64_t turn
        cdef int i
        found = {}
        for i in range(self._thread_count):
            turn = u64_now(&self._workers[i].turns)
            if turn & 1:
                found[i] = turn
        return found

    @property
    def device(self):
        return self._road.device

    @property
    def can_be_continued(self):
        return count_now(&self._road.relay.agreed) > 0 and count_now(&self._road.relay.can_resend) != 0

    @property
    def disagrees(self):
        return count_now(&self._road.relay.agreed) < 0

    def ring_errors(self):
        return [self._rings[i].failed for i in range(self._ring_count) if self._rings[i].failed]
