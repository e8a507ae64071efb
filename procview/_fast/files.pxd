"""The files that are open, and what was read of each. See ``_fast/files.pyx``."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from procview._fast.container cimport Container
from procview._fast.posix cimport pthread_mutex_t
from procview._fast.renderer cimport Renderer
from procview._fast.state cimport Shared


cdef struct Block:
    # A text that was handed out; nobody changes it.
    int references
    size_t length
    const char *data           # behind this, or in memory that outlives the process
    Shared *shared             # with unit: that memory
    uint32_t unit              # 0: none of it

cdef struct FileRecord:
    # An open file in memory that outlives the process; behind it its path, with a NUL.
    uint64_t handle            # 0: it is none; written last
    uint64_t unique            # of the request that opened it; 0: not answered yet
    uint64_t owner
    int64_t text_bytes         # where no text is kept
    uint32_t container         # links; 0: none
    uint32_t text
    uint32_t is_directory

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
    Block *text                # counted, with PART_READY; NULL: past the end
    const char *data
    size_t size


cdef enum:
    FILES_PER_CHUNK = 256
    PLACE_BITS = 24            # of a handle

cdef struct Opening:
    # One more open file, as it is asked for
    uint64_t owner
    const char *path
    int spec                   # of views; -1: ``view`` says all
    Container *container       # of a view: its own, for the record only
    void *view
    bint is_directory
    uint64_t unique            # of a request that is answered with it at once; else 0, and file_answered


cdef uint64_t file_open(Files *files, const Opening *opening) noexcept nogil
cdef void file_answered(Files *files, uint64_t handle, uint64_t unique) noexcept nogil
cdef uint64_t file_opened_by(Files *files, uint64_t unique) noexcept nogil
cdef bint file_inherit(Files *files, uint32_t unit, int spec, Container *container) noexcept nogil
cdef void file_inherit_end(Files *files) noexcept nogil
cdef bint file_give(Files *files, uint64_t handle, void *view) noexcept nogil
cdef FileRecord *file_record_at(const Shared *shared, uint32_t unit, const char **path) noexcept nogil
cdef int file_part(Files *files, uint64_t handle, uint64_t offset, size_t size, Part *part) noexcept nogil
cdef void file_keep(Files *files, uint64_t handle, const char *data, size_t size, bint delivered) noexcept nogil
cdef int file_close(Files *files, uint64_t handle, Container **container, void **view) noexcept nogil
cdef void block_put(Block *block) noexcept nogil


cdef class OpenFiles:
    cdef Files _files
    cdef object _engine
    cdef object _state
    cdef Renderer *_renderer   # of the engine; NULL: no file was opened without Python
    cdef bint _ready

    cdef bint _close(self, uint64_t handle)
