# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""What the lane answers: OPEN, READ and RELEASE of views, LOOKUP and GETATTR of what is the same for everyone.

It knows successes only: an error, a fallback to the host's numbers, a log line, work that may wait for a container are
Python's. So each function here answers one kind of request and returns True; or it returns False, having done nothing,
and pyfuse3 is asked.
"""

from libc.stdint cimport uint64_t
from libc.string cimport memset, strcmp

from procview._fast.blocks cimport block_put
from procview._fast.caller cimport PLACED, container_of
from procview._fast.callers cimport callers_were_kept
from procview._fast.container cimport Container, container_put
from procview._fast.file_records cimport Opening
from procview._fast.files cimport (
    CLOSED,
    PART_READY,
    TO_RENDER,
    Part,
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
    first_number,
    fuse_attr,
    fuse_attr_out,
    fuse_entry_out,
    fuse_in_header,
    fuse_open_in,
    fuse_open_out,
    fuse_read_in,
    fuse_release_in,
)
from procview._fast.posix cimport ENOSYS, O_ACCMODE, O_RDONLY, O_TRUNC, count_now, store
from procview._fast.renderer cimport Renderer, is_settled, may_wait, render, whole_text
from procview._fast.snapshot cimport FAILED, NEED_PRESSURE, NO_SUCH_FILE, SCOPED
from procview._fast.text cimport text_clear, text_free
from procview._fast.views cimport ViewSpec, view_spec
from procview._fast.worker cimport (
    NOTICE_ABSENT,
    NOTICE_CALLERS,
    NOTICE_LOADAVG,
    Node,
    Road,
    Worker,
    notify,
    reply,
)


cdef enum:
    MOST_IDLE_BYTES = 1 << 20  # of a thread's text


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
    # Node 0 is none: it stands for the parent of what is not found by its name here.
    if size == 0 or name[size - 1] != 0 or header.nodeid == 0:
        return False
    for i in range(road.node_count):
        node = &road.nodes[i]
        if node.parent == header.nodeid and strcmp(node.name, name) == 0:
            memset(&out, 0, sizeof(out))
            out.nodeid = node.inode
            out.entry_valid = out.attr_valid = road.static_seconds
            fill_attributes(road, node, &out.attr)
            reply(worker, header.unique, 0, &out, sizeof(out))
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
    reply(worker, header.unique, 0, &out, sizeof(out))
    return True


cdef bint answer_open(
    Worker *worker, const fuse_in_header *header, const fuse_open_in *asked, size_t size
) noexcept nogil:
    cdef Road *road = worker.road
    cdef Renderer *renderer = road.renderer
    cdef const Node *node = node_of(road, header.nodeid)
    cdef Container *container = NULL
    cdef const ViewSpec *spec
    cdef uint64_t number
    cdef fuse_open_out out
    cdef Opening opening
    if (
        node == NULL or node.spec < 0 or size < sizeof(fuse_open_in)
        or asked.flags & O_ACCMODE != O_RDONLY or asked.flags & O_TRUNC
        or container_of(
            &renderer.containers, <int>header.pid, False, &container, &number, &worker.scratch, &worker.other
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
        if render(renderer, spec, container, number, &worker.out) != SCOPED:
            container_put(&renderer.containers, container)
            return False
    memset(&opening, 0, sizeof(opening))
    opening.owner = container.pidns
    opening.path = node.path
    opening.spec = node.spec
    opening.container = container
    opening.number = number
    opening.unique = first_number(header.unique)
    out.fh = file_open(road.files, &opening)
    if out.fh == 0:
        container_put(&renderer.containers, container)
        return False
    if not reply(worker, header.unique, 0, &out, sizeof(out)) and file_close(
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
        reply(worker, header.unique, 0, part.data, part.size)
        if part.text != NULL:
            block_put(part.text)
        return True
    if found != TO_RENDER:
        return False
    spec = view_spec(part.spec)
    text_clear(&worker.out)
    if is_settled(renderer, part.container) and not may_wait(renderer, spec, part.container):
        got = whole_text(renderer, spec, part.container, part.number, &worker.out, &verdict)
    container_put(&renderer.containers, part.container)
    if got < 0 or verdict == FAILED or verdict == NO_SUCH_FILE or worker.out.broken:
        return False
    length = <size_t>got
    # Before the reply: the next request for this file may be in another thread's hands as soon as that is written.
    file_keep(road.files, asked.fh, worker.out.data, length, asked.offset == 0 and asked.size >= length)
    if asked.offset >= length:
        reply(worker, header.unique, 0, NULL, 0)
    else:
        reply(
            worker, header.unique, 0, worker.out.data + asked.offset, min(<size_t>asked.size, length - asked.offset)
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
    reply(worker, header.unique, 0, NULL, 0)
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
        reply(worker, header.unique, ENOSYS, NULL, 0)
        return True
    return False
