# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Texts that were handed out: counted, and never changed. With a shared memory they are there, for the next daemon."""

from libc.stdint cimport uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from procview._fast.posix cimport count_down
from procview._fast.state cimport KIND_TEXT, object_at, object_drop, object_new, object_size


cdef struct TextHead:
    uint64_t length            # bytes that follow


cdef Block *block_new(Shared *shared, const char *data, size_t size) noexcept nogil:
    cdef uint32_t unit = 0
    cdef TextHead *head
    cdef Block *block
    if shared != NULL:
        unit = object_new(shared, KIND_TEXT, sizeof(TextHead) + size)
    block = <Block *>malloc(sizeof(Block) + (0 if unit != 0 else size))
    if block == NULL:
        object_drop(shared, unit)
        return NULL
    block.references = 1
    block.length = size
    block.shared = shared
    block.unit = unit
    if unit != 0:
        head = <TextHead *>object_at(shared, unit)
        head.length = size
        block.data = <const char *>(head + 1)
    else:
        block.data = <const char *>(block + 1)
    memcpy(<char *>block.data, data, size)
    return block


cdef Block *block_inherit(Shared *shared, uint32_t unit) noexcept nogil:
    """The text there; NULL: there is none."""
    cdef size_t room = object_size(shared, unit, KIND_TEXT)
    cdef TextHead *head = <TextHead *>object_at(shared, unit)
    cdef Block *block
    if room < sizeof(TextHead) or head.length > room - sizeof(TextHead):
        return NULL
    block = <Block *>malloc(sizeof(Block))
    if block == NULL:
        return NULL
    block.references = 1
    block.length = <size_t>head.length
    block.shared = shared
    block.unit = unit
    block.data = <const char *>(head + 1)
    return block


cdef void block_put(Block *block) noexcept nogil:
    if count_down(&block.references) == 0:
        if block.unit != 0:
            object_drop(block.shared, block.unit)
        free(block)
