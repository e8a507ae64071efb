"""Messages between the kernel and a FUSE file system, as linux/fuse.h has them (protocol 7).

Documentation/filesystems/fuse.rst and the comments of that header say how they are used.
"""

from libc.stdint cimport int32_t, uint16_t, uint32_t, uint64_t

cdef extern from "<linux/fuse.h>" nogil:
    enum:
        FUSE_LOOKUP
        FUSE_FORGET
        FUSE_GETATTR
        FUSE_OPEN
        FUSE_OPENDIR
        FUSE_READ
        FUSE_RELEASE
        FUSE_RELEASEDIR
        FUSE_INIT
        FUSE_INTERRUPT
        FUSE_BATCH_FORGET
        FOPEN_DIRECT_IO
        FOPEN_NOFLUSH
        FUSE_MAX_PAGES

    struct fuse_in_header:
        uint32_t len
        uint32_t opcode
        uint64_t unique
        uint64_t nodeid
        uint32_t pid

    struct fuse_out_header:
        uint32_t len
        int32_t error          # negative
        uint64_t unique

    struct fuse_attr:
        uint64_t ino
        uint64_t atime
        uint64_t mtime
        uint64_t ctime
        uint32_t atimensec
        uint32_t mtimensec
        uint32_t ctimensec
        uint32_t mode
        uint32_t nlink
        uint32_t blksize

    struct fuse_entry_out:
        uint64_t nodeid
        uint64_t entry_valid   # seconds
        uint64_t attr_valid
        fuse_attr attr

    struct fuse_attr_out:
        uint64_t attr_valid
        fuse_attr attr

    struct fuse_open_in:
        uint32_t flags

    struct fuse_open_out:
        uint64_t fh
        uint32_t open_flags

    struct fuse_read_in:
        uint64_t fh
        uint64_t offset
        uint32_t size

    struct fuse_release_in:
        uint64_t fh

cdef enum:                     # older headers lack these
    FUSE_INIT_EXT = 1 << 30    # of flags: there are flags2 (Linux 5.17)
    FUSE_HAS_RESEND_2 = 1 << 7   # of flags2 (Linux 6.9)
    FUSE_NOTIFY_RESEND = 7       # a notification's code (Linux 6.9)


cdef inline bint is_resent(uint64_t unique) noexcept nogil:
    """FUSE_UNIQUE_RESEND: a daemon before this one may have answered the request of this number."""
    return unique >> 63 != 0


cdef inline uint64_t first_number(uint64_t unique) noexcept nogil:
    """The one it came with the first time."""
    return unique << 1 >> 1


cdef struct fuse_init_in:      # as much of it as is looked at
    uint32_t major
    uint32_t minor
    uint32_t max_readahead
    uint32_t flags
    uint32_t flags2

cdef struct fuse_init_out:
    uint32_t major
    uint32_t minor
    uint32_t max_readahead
    uint32_t flags
    uint16_t max_background
    uint16_t congestion_threshold
    uint32_t max_write
    uint32_t time_gran
    uint16_t max_pages
    uint16_t map_alignment
    uint32_t flags2
    uint32_t unused[7]
