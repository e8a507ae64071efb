"""Texts that were handed out. See ``_fast/blocks.pyx``."""

from libc.stdint cimport uint32_t

from procview._fast.state cimport Shared


cdef struct Block:
    # A text that was handed out; nobody changes it.
    int references
    size_t length
    const char *data           # behind this, or in memory that outlives the process
    Shared *shared             # with unit: that memory
    uint32_t unit              # 0: none of it


cdef Block *block_new(Shared *shared, const char *data, size_t size) noexcept nogil
cdef Block *block_inherit(Shared *shared, uint32_t unit) noexcept nogil
cdef void block_put(Block *block) noexcept nogil
