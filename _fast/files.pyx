# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The files that are open, and what was read of each: one table for the event loop and for the lane's threads.

A reader at another offset must get a slice of what offset 0 gave, so that chunks fit together. Texts are therefore kept
while there is room. Beyond the budget the *owner* (pid namespace) that holds most of it loses texts first, so that a
container with thousands of open files spoils its own reads and nobody else's. Within an owner those go first that a
single read delivered whole, then the least recently used. A reader whose text is gone gets a fresh rendering from its
offset on.

A handle is never given out twice: its low bits are a place in the table, the others count the files opened so far.

With a shared memory (``state``) each open file has a record there (``file_records``), and texts are there too
(``blocks``), so that the next daemon can go on with both.
"""

from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memset

from procview._fast.blocks cimport block_inherit, block_new, block_put
from procview._fast.container cimport container_ref
from procview._fast.file_records cimport FileRecord, file_record_new, file_record_of, file_record_text
from procview._fast.posix cimport (
    count_up,
    pthread_mutex_destroy,
    pthread_mutex_init,
    pthread_mutex_lock,
    pthread_mutex_unlock,
    store_u64,
)
from procview._fast.state cimport link_to, object_at, object_drop


cdef enum:
    OWNER_BUCKETS = 1024       # a power of two


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
    # Nothing may link to it when it goes; who keeps another one says so next.
    if file.unit != 0:
        link_to(&file_record_of(files.shared, file.unit).text, 0)
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


cdef uint64_t file_open(Files *files, const Opening *opening) noexcept nogil:
    """A handle for one more open file, which takes over its view or else its container; 0, and nothing is taken over,
    where that is one too many.
    """
    cdef Owner *charged
    cdef File *file
    cdef int place
    cdef uint64_t handle = 0
    pthread_mutex_lock(&files.lock)
    if files.unused_count > 0 or grow(files):
        charged = charge(files, opening.owner)
        if charged != NULL:
            files.unused_count -= 1
            place = files.unused[files.unused_count]
            files.opened += 1
            handle = files.opened << PLACE_BITS | <uint64_t>place
            file = file_at(files, place)
            memset(file, 0, sizeof(File))
            file.handle = handle
            file.spec = opening.spec
            file.container = opening.container if opening.view == NULL else NULL
            file.number = opening.number
            file.view = opening.view
            file.owner = charged
            file.text_bytes = -1
            file.unit = file_record_new(files.shared, opening, handle, files.opened)
    pthread_mutex_unlock(&files.lock)
    return handle


cdef void file_answered(Files *files, uint64_t handle, uint64_t unique) noexcept nogil:
    """The request to open it is about to be answered with the handle: should it come once more, that is known."""
    cdef File *file
    pthread_mutex_lock(&files.lock)
    file = file_of(files, handle)
    if file != NULL and file.unit != 0:
        store_u64(&file_record_of(files.shared, file.unit).unique, unique)
    pthread_mutex_unlock(&files.lock)


cdef uint64_t file_opened_by(Files *files, uint64_t unique) noexcept nogil:
    """The handle that this request was to be answered with, by us or a daemon before us; 0: it was not yet."""
    cdef uint64_t handle = 0
    cdef File *file
    cdef int place
    pthread_mutex_lock(&files.lock)
    for place in range(files.capacity):
        file = file_at(files, place)
        if file.handle != 0 and file.unit != 0 and file_record_of(files.shared, file.unit).unique == unique:
            handle = file.handle
            break
    pthread_mutex_unlock(&files.lock)
    return handle


cdef bint file_inherit(Files *files, uint32_t unit, int spec, Container *container) noexcept nogil:
    """Go on with the file of the record at ``unit``, which is one. Takes over ``container``. False, and nothing is
    taken over: it cannot be.

    Before anything is opened; file_inherit_end when all are there.
    """
    cdef FileRecord *record = <FileRecord *>object_at(files.shared, unit)
    cdef int place = <int>(record.handle & ((1 << PLACE_BITS) - 1))
    cdef Owner *owner
    cdef File *file
    if record.handle >> PLACE_BITS > files.shared.head.opened or place >= files.most:
        return False
    while place >= files.capacity:
        if not grow(files):
            return False
    file = file_at(files, place)
    owner = owner_of(files, record.owner)
    if file.handle != 0 or owner == NULL:
        return False
    memset(file, 0, sizeof(File))
    file.handle = record.handle
    file.spec = spec
    file.container = container
    file.unit = unit
    file.owner = owner
    file.text_bytes = record.text_bytes if record.text_bytes >= -1 else -1
    owner.open_count += 1
    files.open_count += 1
    link_to(&record.container, container.unit if container != NULL else 0)
    file.text = block_inherit(files.shared, record.text) if record.text != 0 else NULL
    if file.text == NULL:
        link_to(&record.text, 0)
    else:
        file.text_bytes = <int64_t>file.text.length
        link_text(file, False)
        files.text_bytes += file.text.length
        owner.text_bytes += file.text.length
    return True


cdef void file_inherit_end(Files *files) noexcept nogil:
    """All that were open are: new ones get numbers and places behind theirs."""
    cdef int place
    files.opened = files.shared.head.opened
    files.unused_count = 0
    for place in range(files.capacity - 1, -1, -1):
        if file_at(files, place).handle == 0:
            files.unused[files.unused_count] = place
            files.unused_count += 1


cdef bint file_give(Files *files, uint64_t handle, void *view) noexcept nogil:
    """Let an inherited file have its Python object. False, and it is not taken over: there is no such file."""
    cdef File *file
    cdef bint given = False
    pthread_mutex_lock(&files.lock)
    file = file_of(files, handle)
    if file != NULL and file.view == NULL and file.container == NULL:
        file.view = view
        given = True
    pthread_mutex_unlock(&files.lock)
    return given


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
            part.data = file.text.data + offset
            part.size = min(size, file.text.length - <size_t>offset)
            unlink_text(file)
            link_text(file, False)
        elif file.container != NULL:
            found = TO_RENDER
            container_ref(file.container)
            part.container = file.container
            part.spec = file.spec
            # A reader who comes again has not asked again: it is shown what is now.
            part.number = file.number
            file.number = 0
        else:
            found = OF_PYTHON
    pthread_mutex_unlock(&files.lock)
    return found


cdef void file_keep(Files *files, uint64_t handle, const char *data, size_t size, bint delivered) noexcept nogil:
    """Remember what was rendered for a file, instead of what it had. ``delivered``: its reader has it all, and hardly
    comes back.
    """
    cdef Block *block = block_new(files.shared, data, size) if size <= files.budget_bytes else NULL
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
        file_record_text(file_record_of(files.shared, file.unit), file.text, file.text_bytes)
        if file.text != NULL:
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
        if file.unit != 0:
            store_u64(&file_record_of(files.shared, file.unit).handle, 0)
        drop_text(files, file)
        object_drop(files.shared, file.unit)
        file.unit = 0
        container[0] = file.container
        if view != NULL:
            view[0] = file.view
        discharge(files, file.owner)
        file.handle = 0
        files.unused[files.unused_count] = <int>(handle & ((1 << PLACE_BITS) - 1))
        files.unused_count += 1
    pthread_mutex_unlock(&files.lock)
    return result


cdef bint files_init(
    Files *files, int most, int most_per_owner, size_t budget_bytes, Shared *shared
) noexcept nogil:
    """False: memory ran out. files_free in both cases."""
    cdef int chunks = (min(most, (1 << PLACE_BITS) - FILES_PER_CHUNK) + FILES_PER_CHUNK - 1) // FILES_PER_CHUNK
    memset(files, 0, sizeof(Files))
    files.shared = shared
    files.most = min(most, chunks * FILES_PER_CHUNK)
    files.most_per_owner = most_per_owner
    files.budget_bytes = budget_bytes
    files.chunks = <File **>calloc(chunks, sizeof(File *))
    files.unused = <int *>calloc(chunks * FILES_PER_CHUNK, sizeof(int))
    files.owners = <Owner **>calloc(OWNER_BUCKETS, sizeof(Owner *))
    pthread_mutex_init(&files.lock, NULL)
    return files.chunks != NULL and files.unused != NULL and files.owners != NULL


cdef void files_free(Files *files) noexcept nogil:
    """When all of them are closed."""
    cdef Owner *owner
    cdef int chunk
    for chunk in range(files.capacity // FILES_PER_CHUNK):
        free(files.chunks[chunk])
    while files.free_owners != NULL:
        owner = files.free_owners
        files.free_owners = owner.next
        free(owner)
    free(files.chunks)
    free(files.unused)
    free(files.owners)
    pthread_mutex_destroy(&files.lock)
