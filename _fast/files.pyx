# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The files that are open, and what was read of each: one table for the event loop and for the lane's threads.

A reader at another offset must get a slice of what offset 0 gave, so that chunks fit together. Texts are therefore kept
while there is room. Beyond the budget the *owner* (pid namespace) that holds most of it loses texts first, so that a
container with thousands of open files spoils its own reads and nobody else's. Within an owner those go first that a
single read delivered whole, then the least recently used. A reader whose text is gone gets a fresh rendering from its
offset on.

A handle is never given out twice: its low bits are a place in the table, the others count the files opened so far.
"""

import errno as errnos

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset

from procview._fast.container cimport container_put, container_ref
from procview._fast.engine cimport Engine, View
from procview._fast.posix cimport (
    count_down,
    count_up,
    pthread_mutex_destroy,
    pthread_mutex_init,
    pthread_mutex_lock,
    pthread_mutex_unlock,
)

from procview._fast.views import PATHS


cdef enum:
    FILES_PER_CHUNK = 256
    PLACE_BITS = 24            # of a handle
    OWNER_BUCKETS = 1024       # a power of two

MAX_OPEN = 32768
"""Open files and directories of all containers together; some 200 bytes each."""
MAX_OPEN_PER_OWNER = 4096
"""The same for one pid namespace."""
TEXT_BUDGET_BYTES = 16 << 20
"""Enough for some thousand meminfo texts, or 40 of cpuinfo on a host of 256 CPUs."""


cdef char *block_data(Block *block) noexcept nogil:
    return <char *>block + sizeof(Block)


cdef Block *block_new(const char *data, size_t size) noexcept nogil:
    cdef Block *block = <Block *>malloc(sizeof(Block) + size)
    if block != NULL:
        block.references = 1
        block.length = size
        memcpy(block_data(block), data, size)
    return block


cdef void block_put(Block *block) noexcept nogil:
    if count_down(&block.references) == 0:
        free(block)


# The functions from here to the next line of dashes want the table's lock held.

cdef File *file_at(Files *files, int place) noexcept nogil:
    return &files.chunks[place // FILES_PER_CHUNK][place % FILES_PER_CHUNK]


cdef File *file_of(Files *files, uint64_t handle) noexcept nogil:
    cdef int place = <int>(handle & ((1 << PLACE_BITS) - 1))
    cdef File *file
    if place >= files.capacity:
        return NULL
    file = file_at(files, place)
    return file if file.handle == handle and handle != 0 else NULL


cdef bint grow(Files *files) noexcept nogil:
    """One more chunk. False when memory ran out."""
    cdef int i
    cdef File *chunk
    if files.capacity + FILES_PER_CHUNK > 1 << PLACE_BITS:
        return False
    chunk = <File *>calloc(FILES_PER_CHUNK, sizeof(File))
    if chunk == NULL:
        return False
    files.chunks[files.capacity // FILES_PER_CHUNK] = chunk
    for i in range(FILES_PER_CHUNK):
        files.unused[files.unused_count] = files.capacity + FILES_PER_CHUNK - 1 - i
        files.unused_count += 1
    files.capacity += FILES_PER_CHUNK
    return True


cdef Owner *owner_of(Files *files, uint64_t pidns) noexcept nogil:
    """Its entry, made if need be. NULL when memory ran out."""
    cdef Owner **bucket = &files.owners[pidns & (OWNER_BUCKETS - 1)]
    cdef Owner *owner = bucket[0]
    while owner != NULL and owner.pidns != pidns:
        owner = owner.next
    if owner != NULL:
        return owner
    owner = files.free_owners
    if owner != NULL:
        files.free_owners = owner.next
    else:
        owner = <Owner *>malloc(sizeof(Owner))
        if owner == NULL:
            return NULL
    memset(owner, 0, sizeof(Owner))
    owner.pidns = pidns
    owner.next = bucket[0]
    bucket[0] = owner
    return owner


cdef void tidy_owner(Files *files, Owner *owner) noexcept nogil:
    """Away with it, if it has nothing open."""
    cdef Owner **link = &files.owners[owner.pidns & (OWNER_BUCKETS - 1)]
    if owner.open_count > 0:
        return
    while link[0] != owner:
        link = &link[0].next
    link[0] = owner.next
    owner.next = files.free_owners
    files.free_owners = owner


cdef Owner *charge(Files *files, uint64_t pidns) noexcept nogil:
    """One more open file of this owner; NULL where that is one too many."""
    cdef Owner *owner
    if files.open_count >= files.most:
        return NULL
    owner = owner_of(files, pidns)
    if owner == NULL:
        return NULL
    if owner.open_count >= files.most_per_owner:
        tidy_owner(files, owner)
        return NULL
    owner.open_count += 1
    files.open_count += 1
    return owner


cdef void discharge(Files *files, Owner *owner) noexcept nogil:
    owner.open_count -= 1
    files.open_count -= 1
    tidy_owner(files, owner)


cdef void unlink_text(File *file) noexcept nogil:
    """Out of its owner's list of texts."""
    if file.before != NULL:
        file.before.after = file.after
    else:
        file.owner.first = file.after
    if file.after != NULL:
        file.after.before = file.before
    else:
        file.owner.last = file.before


cdef void link_text(File *file, bint first) noexcept nogil:
    cdef Owner *owner = file.owner
    file.before = NULL if first else owner.last
    file.after = owner.first if first else NULL
    if file.before != NULL:
        file.before.after = file
    else:
        owner.first = file
    if file.after != NULL:
        file.after.before = file
    else:
        owner.last = file


cdef void drop_text(Files *files, File *file) noexcept nogil:
    if file.text == NULL:
        return
    unlink_text(file)
    files.text_bytes -= file.text.length
    file.owner.text_bytes -= file.text.length
    block_put(file.text)
    file.text = NULL


cdef Owner *greediest(Files *files) noexcept nogil:
    cdef Owner *found = NULL
    cdef Owner *owner
    cdef int i
    for i in range(OWNER_BUCKETS):
        owner = files.owners[i]
        while owner != NULL:
            if found == NULL or owner.text_bytes > found.text_bytes:
                found = owner
            owner = owner.next
    return found

# ---------------------------------------------------------------------------------------------------------------------


cdef uint64_t file_open(Files *files, uint64_t owner, int spec, Container *container, void *view) noexcept nogil:
    """A handle for one more open file, which takes over ``container`` and ``view``; 0, and nothing is taken over, where
    that is one too many.
    """
    cdef Owner *charged
    cdef File *file
    cdef int place
    cdef uint64_t handle = 0
    pthread_mutex_lock(&files.lock)
    if files.unused_count > 0 or grow(files):
        charged = charge(files, owner)
        if charged != NULL:
            files.unused_count -= 1
            place = files.unused[files.unused_count]
            files.opened += 1
            handle = files.opened << PLACE_BITS | <uint64_t>place
            file = file_at(files, place)
            memset(file, 0, sizeof(File))
            file.handle = handle
            file.spec = spec
            file.container = container
            file.view = view
            file.owner = charged
            file.text_bytes = -1
    pthread_mutex_unlock(&files.lock)
    return handle


cdef int file_part(Files *files, uint64_t handle, uint64_t offset, size_t size, Part *part) noexcept nogil:
    """What there is for a read of ``size`` bytes at ``offset``. With TO_RENDER give ``part.container`` back by
    container_put; with PART_READY ``part.text``, unless it is NULL, by block_put.
    """
    cdef int found = NOT_OPEN
    cdef File *file
    memset(part, 0, sizeof(Part))
    pthread_mutex_lock(&files.lock)
    file = file_of(files, handle)
    if file != NULL:
        if offset > 0 and file.text_bytes >= 0 and offset >= <uint64_t>file.text_bytes:
            found = PART_READY
        elif offset > 0 and file.text != NULL:
            found = PART_READY
            count_up(&file.text.references)
            part.text = file.text
            part.data = block_data(file.text) + offset
            part.size = min(size, file.text.length - <size_t>offset)
            unlink_text(file)
            link_text(file, False)
        elif file.container != NULL:
            found = TO_RENDER
            container_ref(file.container)
            part.container = file.container
            part.spec = file.spec
        else:
            found = OF_PYTHON
    pthread_mutex_unlock(&files.lock)
    return found


cdef void file_keep(Files *files, uint64_t handle, const char *data, size_t size, bint delivered) noexcept nogil:
    """Remember what was rendered for a file, instead of what it had. ``delivered``: its reader has it all, and hardly
    comes back.
    """
    cdef Block *block = block_new(data, size) if size <= files.budget_bytes else NULL
    cdef File *file
    pthread_mutex_lock(&files.lock)
    file = file_of(files, handle)
    if file != NULL:
        drop_text(files, file)
        file.text_bytes = <int64_t>size
        if block != NULL:
            file.text = block
            block = NULL
            link_text(file, delivered)
            files.text_bytes += size
            file.owner.text_bytes += size
            while files.text_bytes > files.budget_bytes:
                drop_text(files, greediest(files).first)
    pthread_mutex_unlock(&files.lock)
    if block != NULL:
        block_put(block)


cdef int file_close(Files *files, uint64_t handle, Container **container, void **view) noexcept nogil:
    """CLOSED: what it held is the caller's. NOT_OPEN. Or, without ``view``, OF_PYTHON: only Python can close it."""
    cdef int result = CLOSED
    cdef File *file
    pthread_mutex_lock(&files.lock)
    file = file_of(files, handle)
    if file == NULL:
        result = NOT_OPEN
    elif file.view != NULL and view == NULL:
        result = OF_PYTHON
    else:
        drop_text(files, file)
        container[0] = file.container
        if view != NULL:
            view[0] = file.view
        discharge(files, file.owner)
        file.handle = 0
        files.unused[files.unused_count] = <int>(handle & ((1 << PLACE_BITS) - 1))
        files.unused_count += 1
    pthread_mutex_unlock(&files.lock)
    return result


@cython.final
cdef class OpenFiles:
    def __cinit__(
        self, engine, *, int most=MAX_OPEN, int most_per_owner=MAX_OPEN_PER_OWNER,
        size_t budget_bytes=TEXT_BUDGET_BYTES
    ):
        cdef Files *files = &self._files
        cdef int chunks = (min(most, (1 << PLACE_BITS) - FILES_PER_CHUNK) + FILES_PER_CHUNK - 1) // FILES_PER_CHUNK
        self._engine = engine
        if isinstance(engine, Engine):
            self._renderer = &(<Engine>engine)._renderer
        files.most = min(most, chunks * FILES_PER_CHUNK)
        files.most_per_owner = most_per_owner
        files.budget_bytes = budget_bytes
        files.chunks = <File **>calloc(chunks, sizeof(File *))
        files.unused = <int *>calloc(chunks * FILES_PER_CHUNK, sizeof(int))
        files.owners = <Owner **>calloc(OWNER_BUCKETS, sizeof(Owner *))
        pthread_mutex_init(&files.lock, NULL)
        self._ready = True
        if files.chunks == NULL or files.unused == NULL or files.owners == NULL:
            raise MemoryError

    def __dealloc__(self):
        cdef Files *files = &self._files
        cdef Owner *owner
        cdef int place
        if not self._ready:
            return
        for place in range(files.capacity):
            if file_at(files, place).handle != 0:
                self._close(file_at(files, place).handle)
        for place in range(0, files.capacity, FILES_PER_CHUNK):
            free(file_at(files, place))
        while files.free_owners != NULL:
            owner = files.free_owners
            files.free_owners = owner.next
            free(owner)
        free(files.chunks)
        free(files.unused)
        free(files.owners)
        pthread_mutex_destroy(&files.lock)

    cdef bint _close(self, uint64_t handle):
        cdef Container *container = NULL
        cdef void *view = NULL
        if file_close(&self._files, handle, &container, &view) != CLOSED:
            return False
        if view != NULL:
            Py_DECREF(<object>view)
        if container != NULL:
            container_put(&self._renderer.containers, container)
        return True

    def open(self, uint64_t owner, view):
        cdef uint64_t handle
        Py_INCREF(view)
        handle = file_open(&self._files, owner, -1, NULL, <void *>view)
        if handle == 0:
            Py_DECREF(view)
            self._refuse()
        return handle

    def charge(self, uint64_t owner):
        cdef Owner *charged
        pthread_mutex_lock(&self._files.lock)
        charged = charge(&self._files, owner)
        pthread_mutex_unlock(&self._files.lock)
        if charged == NULL:
            self._refuse()

    def discharge(self, uint64_t owner):
        cdef Owner *charged
        pthread_mutex_lock(&self._files.lock)
        charged = owner_of(&self._files, owner)
        if charged != NULL and charged.open_count > 0:
            discharge(&self._files, charged)
        pthread_mutex_unlock(&self._files.lock)

    def _refuse(self):
        raise OSError(errnos.ENFILE, "too many open files")

    def view(self, uint64_t handle):
        cdef Container *container = NULL
        cdef int spec = -1
        cdef File *file
        cdef object view = None
        cdef View made
        pthread_mutex_lock(&self._files.lock)
        file = file_of(&self._files, handle)
        if file != NULL and file.view != NULL:
            view = <object>file.view
        elif file != NULL:
            container = file.container
            spec = file.spec
            container_ref(container)
        pthread_mutex_unlock(&self._files.lock)
        if container == NULL:
            return view
        made = View.__new__(View)
        made._engine = self._engine
        made._path = PATHS[spec]
        made._spec = spec
        made._container = container
        return made

    def part(self, uint64_t handle, uint64_t offset, size_t size):
        cdef Part part
        cdef int found = file_part(&self._files, handle, offset, size, &part)
        if part.container != NULL:
            container_put(&self._renderer.containers, part.container)
        if found != PART_READY:
            return None
        if part.text == NULL:
            return b""
        try:
            return PyBytes_FromStringAndSize(part.data, <Py_ssize_t>part.size)
        finally:
            block_put(part.text)

    def keep(self, uint64_t handle, bytes text, *, bint delivered):
        file_keep(&self._files, handle, PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text), delivered)

    def close(self, uint64_t handle):
        return self._close(handle)

    @property
    def open_count(self):
        return self._files.open_count

    @property
    def text_bytes(self):
        return self._files.text_bytes
