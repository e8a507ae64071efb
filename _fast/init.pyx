# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Finding pid 1 of a pid namespace from the host, and what is fixed about it.

Linux 6.11 translates pids by an ioctl on the namespace. Before that: up the parents, and where these leave the
namespace (an exec'd process), through all of /proc, once for each container.
"""

from libc.stdint cimport int64_t, uint64_t
from libc.stdio cimport snprintf
from libc.string cimport strlen

from procview._fast.host cimport namespace_of
from procview._fast.kept cimport read_record
from procview._fast.posix cimport (
    DIR,
    EINVAL,
    ENOENT,
    ESRCH,
    O_CLOEXEC,
    O_DIRECTORY,
    O_RDONLY,
    close,
    closedir,
    dirent,
    fdopendir,
    ioctl,
    memrchr,
    openat,
    readdir,
    ssize_t,
)
from procview._fast.scan cimport Span, next_line, scan_u64, scan_word, span, span_is, span_starts


cdef enum:
    NS_GET_TGID_FROM_PIDNS = 0x8004B707   # _IOR(0xb7, 0x7, int), linux/nsfs.h
    MOST_PARENTS = 256
    PF_EXITING = 4   # linux/sched.h


cdef int find_init(Host *host, int pid, uint64_t pidns, Text *scratch, bint may_search) noexcept nogil:
    """The host's pid of init of ``pidns``, in which ``pid`` lives. 0: none found; -1: only a search of /proc could
    tell.
    """
    cdef char path[32]
    cdef int fd
    cdef int init
    cdef int parent
    cdef int steps = 0
    cdef uint64_t inode
    snprintf(path, sizeof(path), b"%d/ns/pid", pid)
    fd = openat(host.proc_fd, path, O_RDONLY | O_CLOEXEC)
    if fd >= 0:
        init = ioctl(fd, NS_GET_TGID_FROM_PIDNS, <unsigned long>1)
        close(fd)
        if init > 0 and is_init_of(host, init, pidns, scratch, &parent):
            return init
    init = pid
    while steps < MOST_PARENTS:
        if is_init_of(host, init, pidns, scratch, &parent):
            return init
        if parent <= 0:
            break
        snprintf(path, sizeof(path), b"%d", parent)
        if not namespace_of(host, path, b"pid", &inode) or inode != pidns:
            break
        init = parent
        steps += 1
    if not may_search:
        return -1
    return search(host, pidns, scratch)


cdef bint is_init_of(Host *host, int pid, uint64_t pidns, Text *scratch, int *parent) noexcept nogil:
    """Whether ``pid`` is pid 1 in ``pidns``; its parent's pid on the host besides (0: unknown)."""
    cdef char path[32]
    cdef uint64_t inode
    cdef uint64_t number = 0
    cdef Span rest
    cdef Span line
    parent[0] = 0
    snprintf(path, sizeof(path), b"%d/status", pid)
    if read_record(host.proc_fd, path, scratch) <= 0:
        return False
    rest = span(scratch.data, scratch.length)
    # "Name:" comes first and the kernel escapes newlines in it, so no name can pass for one of these lines.
    while next_line(&rest, &line):
        if span_starts(line, b"PPid:", 5):
            line.at += 5
            if scan_u64(&line, &number):
                parent[0] = <int>number
        elif span_starts(line, b"NSpid:", 6):
            line.at += 6
            number = 0
            while scan_u64(&line, &number):
                pass
            if number != 1:
                return False
            snprintf(path, sizeof(path), b"%d", pid)
            return namespace_of(host, path, b"pid", &inode) and inode == pidns
    return False


cdef int search(Host *host, uint64_t pidns, Text *scratch) noexcept nogil:
    cdef int fd = openat(host.proc_fd, b".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    cdef DIR *directory
    cdef dirent *entry
    cdef uint64_t inode
    cdef uint64_t pid
    cdef Span name
    cdef int parent
    cdef int found = 0
    if fd < 0:
        return 0
    directory = fdopendir(fd)
    if directory == NULL:
        close(fd)
        return 0
    while found == 0:
        entry = readdir(directory)
        if entry == NULL:
            break
        if not c"1" <= entry.d_name[0] <= c"9":
            continue
        if not namespace_of(host, entry.d_name, b"pid", &inode) or inode != pidns:
            continue
        name = span(entry.d_name, strlen(entry.d_name))
        if scan_u64(&name, &pid) and is_init_of(host, <int>pid, pidns, scratch, &parent):
            found = <int>pid
    closedir(directory)
    return found


cdef int field_of_stat(Host *host, int pid, int field, uint64_t *value, Text *scratch) noexcept nogil:
    """A number in /proc/<pid>/stat, counted as in proc(5), from 4 on. 0 or a negative errno.

    The name in field 2 holds what its owner likes, brackets and newlines too: fields are counted from the last ``)``.
    """
    cdef char path[32]
    cdef const char *bracket
    cdef Span rest
    cdef Span word
    cdef ssize_t got
    cdef int _field
    snprintf(path, sizeof(path), b"%d/stat", pid)
    got = read_record(host.proc_fd, path, scratch)
    if got < 0:
        return <int>got
    bracket = NULL
    if got > 0:
        bracket = <const char *>memrchr(scratch.data, c")", scratch.length)
    if bracket == NULL:
        return -EINVAL
    rest.at = bracket + 1
    rest.end = scratch.data + scratch.length
    for _field in range(3, field):
        if not scan_word(&rest, &word):
            return -EINVAL
    return 0 if scan_u64(&rest, value) else -EINVAL


cdef int start_ticks_of(Host *host, int pid, uint64_t *ticks, Text *scratch) noexcept nogil:
    """When the process started, in ticks since the host's boot. 0 or a negative errno."""
    return field_of_stat(host, pid, 22, ticks, scratch)


cdef bint is_exiting(Host *host, int pid, Text *scratch) noexcept nogil:
    """Whether the process, or only its first thread, is on its way out, a zombie, or gone since. v1 shows "/" for every
    cgroup of it from the first of these on, while other threads may live on.
    """
    cdef uint64_t flags = 0
    cdef int result = field_of_stat(host, pid, 9, &flags, scratch)
    return result == -ENOENT or result == -ESRCH or result == 0 and flags & PF_EXITING != 0


cdef bint boottime_offset_of(Host *host, int pid, int64_t *offset_ns, Text *scratch) noexcept nogil:
    """The boottime offset of the time namespace that the process lives in (time_namespaces(7)); False where it is
    the host's.
    """
    cdef char path[40]
    cdef uint64_t own
    cdef uint64_t children
    cdef uint64_t hosts
    cdef uint64_t seconds
    cdef uint64_t nanoseconds = 0
    cdef bint negative = False
    cdef Span rest
    cdef Span line
    cdef Span word
    snprintf(path, sizeof(path), b"%d", pid)
    if not namespace_of(host, path, b"time", &own) or not namespace_of(host, b"self", b"time", &hosts) or own == hosts:
        return False
    # The file shows the offsets of the namespace that its children will get; they are its own unless it unshared since.
    if not namespace_of(host, path, b"time_for_children", &children) or own != children:
        return False
    snprintf(path, sizeof(path), b"%d/timens_offsets", pid)
    if read_record(host.proc_fd, path, scratch) <= 0:
        return False
    rest = span(scratch.data, scratch.length)
    while next_line(&rest, &line):
        if not scan_word(&line, &word) or not span_is(word, b"boottime", 8):
            continue
        while line.at < line.end and (line.at[0] == c" " or line.at[0] == c"\t"):
            line.at += 1
        if line.at < line.end and line.at[0] == c"-":
            negative = True
            line.at += 1
        if not scan_u64(&line, &seconds):
            return False
        scan_u64(&line, &nanoseconds)
        if seconds > <uint64_t>1 << 32 or nanoseconds >= 1000000000:
            return False
        offset_ns[0] = <int64_t>(seconds * 1000000000)
        # The kernel keeps nanoseconds positive, below a second, also when seconds are negative.
        offset_ns[0] = -offset_ns[0] + <int64_t>nanoseconds if negative else offset_ns[0] + <int64_t>nanoseconds
        return offset_ns[0] != 0
    return False
