"""Memory that outlives the daemon. See ``_fast/state.pyx``."""

from libc.stdint cimport uint32_t, uint64_t

from procview._fast.posix cimport pthread_mutex_t


cdef enum:
    UNIT_BYTES = 256
    UNITS = 196608                # 48 MiB; only what was used takes memory

cdef enum Kind:                   # of an object; what is no root lives while one leads to it
    KIND_FREE
    KIND_AGREEMENT                # a root: what was negotiated by INIT
    KIND_CONTAINER                # a root
    KIND_FILE                     # a root
    KIND_NODE                     # a root: a path that some callers have
    KIND_PAIR
    KIND_TEXT

cdef struct Head:
    uint64_t magic
    uint32_t version
    uint32_t units
    uint64_t opened               # the number of the last file that was opened
    uint64_t start_ns             # of the file system: what its files' times are
    uint32_t agreement            # unit; 0: not negotiated yet
    char device[32]               # the mount's number, "0:53"

cdef struct Shared:
    int fd
    char *base
    Head *head
    uint32_t *table               # for each unit: kind << 24 | units, where an object begins; else 0
    char *units
    pthread_mutex_t lock          # of what follows, which is this process's own
    uint64_t *used                # a bit for each unit
    uint32_t lowest               # below it no unit is free

cdef struct Draft:
    # The side of a pair that is being written
    Shared *shared
    uint32_t *link
    uint32_t unit
    uint32_t side


cdef uint32_t object_new(Shared *shared, int kind, size_t size) noexcept nogil
cdef void object_drop(Shared *shared, uint32_t unit) noexcept nogil
cdef void *object_at(const Shared *shared, uint32_t unit) noexcept nogil
cdef size_t object_size(const Shared *shared, uint32_t unit, int kind) noexcept nogil
cdef uint32_t object_after(const Shared *shared, uint32_t unit, int kind) noexcept nogil
cdef void link_to(uint32_t *link, uint32_t unit) noexcept nogil

cdef char *pair_begin(Draft *draft, Shared *shared, uint32_t *link, size_t size) noexcept nogil
cdef void pair_end(Draft *draft) noexcept nogil
cdef const char *pair_now(const Shared *shared, uint32_t unit, size_t *size) noexcept nogil


cdef class State:
    cdef Shared _shared
    cdef bint _found
