# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The kernel's word that nothing was written to any cgroup since.

Which cgroup a process is in, and what limits a cgroup has, changes only when somebody writes to a file of the cgroup
file systems, or renames or removes a directory there. All of that is watched with fanotify(7), one mark for each
hierarchy, whoever does it and through whichever mount. The kernel queues its report before the system call returns:
what was read after the queue was last empty is still true as long as it is empty. Asking costs one poll(2), where
reading anew costs a pread for every file.

``number`` stands for one such stretch of time. Who reads something takes the number first, keeps it beside what was
read, and may use that again as long as changes_none_since() says so. While reports are taken out of the queue the
number is odd, and nothing counts: else somebody could find an empty queue and the number from before.

What the kernel does of itself is not reported: a CPU or a memory node that goes offline is no longer granted by any
cpuset, and a v1 cpuset that has none left hands its processes to the cgroup above it.
"""

from libc.stdint cimport uint64_t

from procview._fast.kept cimport read_path
from procview._fast.posix cimport (
    AT_FDCWD,
    EINTR,
    ENODEV,
    ENOENT,
    FAN_CLASS_NOTIF,
    FAN_CLOEXEC,
    FAN_DELETE,
    FAN_MARK_ADD,
    FAN_MARK_FILESYSTEM,
    FAN_MODIFY,
    FAN_MOVED_FROM,
    FAN_NONBLOCK,
    FAN_ONDIR,
    FAN_REPORT_FID,
    O_CLOEXEC,
    O_DIRECTORY,
    O_RDONLY,
    POLLIN,
    PROC_SUPER_MAGIC,
    close,
    dev_t,
    errno,
    exchange,
    fanotify_init,
    fanotify_mark,
    fstat,
    fstatfs,
    makedev,
    openat,
    poll,
    pollfd,
    read,
    ssize_t,
    stat_t,
    statfs_t,
    store,
    store_u64,
    u64_read,
)
from procview._fast.scan cimport (
    Span,
    next_line,
    scan_u64,
    scan_word,
    span,
    span_is,
    unescape_octal,
)
from procview._fast.text cimport Text, text_free, text_init


cdef enum:
    MOUNTINFO_BYTES = 16 << 20
    MOST_HIERARCHIES = 32
    REPORT_BYTES = 4096
    MOST_TAKEN = 64   # reads of the queue at a time: who writes on and on is not waited for

cdef struct Marks:
    int count
    dev_t device[MOST_HIERARCHIES]
    bint marked[MOST_HIERARCHIES]


cdef void changes_init(Changes *changes) noexcept nogil:
    changes.watch = -1
    changes.number = 0
    changes.taking = False


cdef void changes_free(Changes *changes) noexcept nogil:
    if changes.watch >= 0:
        close(changes.watch)
    changes.watch = -1


cdef int changes_watch(Changes *changes, const Host *host) noexcept nogil:
    """Watch all hierarchies in /proc/self/mountinfo. 0, or a negative errno, and nothing is watched: the kernel has no
    marks of that kind (Linux 6.1 has none for cgroups, 6.12 has), the daemon may not set them, or a
    hierarchy cannot be reached.
    """
    cdef statfs_t info
    cdef Text text
    cdef ssize_t got
    cdef int watch
    cdef int result
    if fstatfs(host.proc_fd, &info) < 0:
        return -errno
    if info.f_type != PROC_SUPER_MAGIC:
        return -ENODEV   # a recording of a host
    watch = fanotify_init(FAN_CLASS_NOTIF | FAN_REPORT_FID | FAN_CLOEXEC | FAN_NONBLOCK, O_RDONLY)
    if watch < 0:
        return -errno
    text_init(&text)
    got = read_path(host.proc_fd, b"self/mountinfo", &text, MOUNTINFO_BYTES)
    result = <int>got if got < 0 else mark_all(watch, span(text.data, text.length))
    text_free(&text)
    if result < 0:
        close(watch)
        return result
    changes.watch = watch
    store_u64(&changes.number, 2)
    return 0


cdef int mark_all(int watch, Span mounts) noexcept nogil:
    """Each hierarchy by one of its mounts. 0 or a negative errno."""
    cdef Marks marks
    cdef Span line
    cdef int result
    cdef int worst = 0
    cdef int i
    marks.count = 0
    while next_line(&mounts, &line):
        result = mark(watch, line, &marks)
        if result < 0:
            worst = result
    if marks.count == 0:
        return -ENODEV
    for i in range(marks.count):
        if not marks.marked[i]:
            return worst if worst < 0 else -ENOENT
    return 0


cdef int mark(int watch, Span line, Marks *marks) noexcept nogil:
    """One line of mountinfo (proc(5)). 0 or a negative errno, of what need not be the last mount of its hierarchy."""
    cdef Span device
    cdef Span point
    cdef Span word
    cdef dev_t number
    cdef int place = 0
    cdef int fd
    cdef int result
    scan_word(&line, &word)
    scan_word(&line, &word)
    if not scan_word(&line, &device) or not scan_word(&line, &word) or not scan_word(&line, &point):
        return 0
    while scan_word(&line, &word) and not span_is(word, b"-", 1):
        pass
    if not scan_word(&line, &word) or not span_is(word, b"cgroup", 6) and not span_is(word, b"cgroup2", 7):
        return 0
    if not device_number(device, &number):
        return 0
    while place < marks.count and marks.device[place] != number:
        place += 1
    if place == marks.count:
        if place == MOST_HIERARCHIES:
            return -ENODEV
        marks.device[place] = number
        marks.marked[place] = False
        marks.count += 1
    if marks.marked[place]:
        return 0
    # The blank behind the word becomes its end: the text is ours.
    (<char *>point.at)[unescape_octal(<char *>point.at, <size_t>(point.end - point.at))] = 0
    fd = openat(AT_FDCWD, point.at, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    if fd < 0:
        return -errno
    result = mark_here(watch, fd, number)
    close(fd)
    marks.marked[place] = result == 0
    return result


cdef int mark_here(int watch, int fd, dev_t number) noexcept nogil:
    cdef stat_t info
    if fstat(fd, &info) < 0:
        return -errno
    if info.st_dev != number:
        return -ENOENT   # something else is mounted over it
    if fanotify_mark(
        watch, FAN_MARK_ADD | FAN_MARK_FILESYSTEM, FAN_MODIFY | FAN_DELETE | FAN_MOVED_FROM | FAN_ONDIR, fd, NULL
    ) < 0:
        return -errno
    return 0


cdef bint device_number(Span text, dev_t *number) noexcept nogil:
    """``major:minor`` of mountinfo."""
    cdef uint64_t of_major
    cdef uint64_t of_minor
    if not scan_u64(&text, &of_major) or text.at == text.end or text.at[0] != c":":
        return False
    text.at += 1
    if not scan_u64(&text, &of_minor):
        return False
    number[0] = makedev(<unsigned int>of_major, <unsigned int>of_minor)
    return True


cdef uint64_t changes_number(Changes *changes) noexcept nogil:
    """To be taken before anything is read that is to be kept. 0: what is read now must not be kept."""
    cdef uint64_t number = u64_read(&changes.number)
    return 0 if number & 1 else number


cdef bint changes_none_since(Changes *changes, uint64_t number, int pidfd) noexcept nogil:
    """Whether what was read when ``number`` was current is so still, and the process (or thread) behind ``pidfd`` has
    not ended: its number is nobody else's.
    """
    cdef pollfd asked[2]
    if number == 0 or u64_read(&changes.number) != number:
        return False
    asked[0].fd = changes.watch
    asked[0].events = POLLIN
    asked[0].revents = 0
    asked[1].fd = pidfd
    asked[1].events = POLLIN
    asked[1].revents = 0
    if poll(asked, 2, 0) == 0:
        return u64_read(&changes.number) == number
    if asked[0].revents != 0:
        take_reports(changes)
    return False


cdef void take_reports(Changes *changes) noexcept nogil:
    """Empty the queue, and begin with a new number. What is in it does not matter: things have changed."""
    cdef char report[REPORT_BYTES]
    cdef int free = False
    cdef int _i
    if not exchange(&changes.taking, &free, True):
        return   # another thread is at it
    store_u64(&changes.number, changes.number + 1)
    for _i in range(MOST_TAKEN):
        if read(changes.watch, report, REPORT_BYTES) < 0 and errno != EINTR:
            break
    store_u64(&changes.number, changes.number + 1)
    store(&changes.taking, False)
