"""What the next daemon is told of open files. See ``_fast/file_records.pyx``."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from procview._fast.blocks cimport Block
from procview._fast.container cimport Container
from procview._fast.state cimport Shared


cdef struct FileRecord:
    # An open file in memory that outlives the process; behind it its path, with a NUL.
    uint64_t handle            # 0: it is none; written last
    uint64_t unique            # of the request that opened it; 0: not answered yet
    uint64_t owner
    int64_t text_bytes         # where no text is kept
    uint32_t container         # links; 0: none
    uint32_t text
    uint32_t is_directory

cdef struct Opening:
    # One more open file, as it is asked for
    uint64_t owner
    const char *path
    int spec                   # of views; -1: ``view`` says all
    Container *container       # of a view: its own, for the record only
    uint64_t number            # of the changes since which its container is as it was; 0: nobody has asked
    void *view
    bint is_directory
    uint64_t unique            # of a request that is answered with it at once; else 0, and file_answered


cdef uint32_t file_record_new(Shared *shared, const Opening *opening, uint64_t handle, uint64_t opened) noexcept nogil
cdef FileRecord *file_record_of(Shared *shared, uint32_t unit) noexcept nogil
cdef void file_record_text(FileRecord *record, const Block *text, int64_t text_bytes) noexcept nogil
cdef FileRecord *file_record_at(const Shared *shared, uint32_t unit, const char **path) noexcept nogil
