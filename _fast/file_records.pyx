# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""What the next daemon is told of each open file: its record in the shared memory. Each change is one store, or is
undone by what the next daemon drops.
"""

from libc.string cimport memchr, memcpy, strlen

from procview._fast.posix cimport store_i64, store_u64
from procview._fast.state cimport KIND_FILE, link_to, object_at, object_new, object_size


cdef uint32_t file_record_new(Shared *shared, const Opening *opening, uint64_t handle, uint64_t opened) noexcept nogil:
    """Of the file ``handle``, which is the one that was ``opened`` so far. 0: there is no room, or nothing to say, and
    it is an unknown file to the next daemon.
    """
    cdef size_t length = strlen(opening.path) + 1 if opening.path != NULL else 0
    cdef FileRecord *record
    cdef uint32_t unit
    if shared == NULL or length == 0:
        return 0
    unit = object_new(shared, KIND_FILE, sizeof(FileRecord) + length)
    if unit == 0:
        return 0
    record = <FileRecord *>object_at(shared, unit)
    record.handle = 0
    record.unique = opening.unique
    record.owner = opening.owner
    record.text_bytes = -1
    record.container = opening.container.unit if opening.container != NULL else 0
    record.text = 0
    record.is_directory = opening.is_directory
    memcpy(<char *>(record + 1), opening.path, length)
    shared.head.opened = opened
    store_u64(&record.handle, handle)
    return unit


cdef FileRecord *file_record_of(Shared *shared, uint32_t unit) noexcept nogil:
    """NULL: there is none."""
    return <FileRecord *>object_at(shared, unit) if unit != 0 else NULL


cdef void file_record_text(FileRecord *record, const Block *text, int64_t text_bytes) noexcept nogil:
    """What is kept of its text has changed. While there is one, its own length counts."""
    if record != NULL:
        store_i64(&record.text_bytes, text_bytes)
        link_to(&record.text, text.unit if text != NULL else 0)


cdef FileRecord *file_record_at(const Shared *shared, uint32_t unit, const char **path) noexcept nogil:
    """The record there, whole, and its path; NULL: it is none."""
    cdef size_t size = object_size(shared, unit, KIND_FILE)
    cdef FileRecord *record = <FileRecord *>object_at(shared, unit)
    if size <= sizeof(FileRecord):
        return NULL
    path[0] = <const char *>(record + 1)
    if record.handle == 0 or record.unique == 0 or memchr(path[0], 0, size - sizeof(FileRecord)) == NULL:
        return NULL
    return record
