"""The files that are open, and what was read of each. See ``_fast/files.pyx``."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from procview._fast.blocks cimport Block
from procview._fast.container cimport Container
from procview._fast.file_records cimport Opening
from procview._fast.posix cimport pthread_mutex_t
from procview._fast.state cimport Shared


cdef struct Owner:
    Owner *next
    uint64_t pidns
    int open_count
    size_t text_bytes
    File *first                # of its files with texts: the next to lose its own
    File *last

cdef struct File:
    uint64_t handle            # 0: not open
    int spec                   # of views; -1: ``view`` says all
    Container *container       # counted; NULL where ``view`` is not
    uint64_t number            # as in Opening, until it is rendered for the first time; then 0
    void *view                 # a Python object, counted; NULL for a file that no Python has seen
    Owner *owner
    uint32_t unit              # of its record; 0: none
    int64_t text_bytes         # length of the last rendering; -1: none yet
    Block *text                # counted; NULL: none kept
    File *before
    File *after

cdef struct Files:
    pthread_mutex_t lock
    File **chunks              # of FILES_PER_CHUNK; files do not move
    int capacity
    int *unused
    int unused_count
    int open_count
    int most
    int most_per_owner
    size_t budget_bytes
    size_t text_bytes
    uint64_t opened            # so far
    Owner **owners             # by pid namespace
    Owner *free_owners
    Shared *shared             # memory that outlives the process; NULL: there is none

cdef enum:
    CLOSED
    # What a file has for a reader
    NOT_OPEN
    OF_PYTHON                  # its view is a Python object
    TO_RENDER
    PART_READY                 # nothing to render

cdef struct Part:
    int spec
    Container *container       # counted, with TO_RENDER
    uint64_t number            # with TO_RENDER: as in Opening
    Block *text                # counted, with PART_READY; NULL: past the end
    const char *data
    size_t size


cdef enum:
    FILES_PER_CHUNK = 256
    PLACE_BITS = 24            # of a handle


cdef bint files_init(
    Files *files, int most, int most_per_owner, size_t budget_bytes, Shared *shared
) noexcept nogil
cdef void files_free(Files *files) noexcept nogil
cdef File *file_at(Files *files, int place) noexcept nogil
cdef File *file_of(Files *files, uint64_t handle) noexcept nogil
cdef uint64_t file_open(Files *files, const Opening *opening) noexcept nogil
cdef void file_answered(Files *files, uint64_t handle, uint64_t unique) noexcept nogil
cdef uint64_t file_opened_by(Files *files, uint64_t unique) noexcept nogil
cdef bint file_inherit(Files *files, uint32_t unit, int spec, Container *container) noexcept nogil
cdef void file_inherit_end(Files *files) noexcept nogil
cdef bint file_give(Files *files, uint64_t handle, void *view) noexcept nogil
cdef int file_part(Files *files, uint64_t handle, uint64_t offset, size_t size, Part *part) noexcept nogil
cdef void file_keep(Files *files, uint64_t handle, const char *data, size_t size, bint delivered) noexcept nogil
cdef int file_close(Files *files, uint64_t handle, Container **container, void **view) noexcept nogil
