# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Kernel files kept open and read again with pread.

Opening and closing a cgroup file costs several times what reading it costs. A `Kept` is one such file; a `Keeper`
bounds how many are open at once and closes the least recently used. A file that says ENODEV (its cgroup was
removed) or ESRCH (its process is gone) is dead: nobody begins to read through it, its last reader closes it, and its
path is opened anew once, since something of the same name may be there now.

A kept descriptor pins a kernfs node or a struct pid, never a mount namespace: keep nothing below /proc/<pid> here
that would.
"""

from procview._fast.posix cimport (
    EBADF,
    EINTR,
    EMFILE,
    ENFILE,
    ENODEV,
    ENOMEM,
    ESRCH,
    O_CLOEXEC,
    O_NOFOLLOW,
    O_NONBLOCK,
    O_RDONLY,
    close,
    count_now,
    count_up,
    errno,
    openat,
    pread,
    pthread_mutex_destroy,
    pthread_mutex_init,
    pthread_mutex_lock,
    pthread_mutex_unlock,
    read,
)
from procview._fast.text cimport text_clear, text_reserve


cdef void keeper_init(Keeper *keeper, int most_open) noexcept nogil:
    pthread_mutex_init(&keeper.lock, NULL)
    keeper.newest = NULL
    keeper.oldest = NULL
    keeper.open_count = 0
    keeper.most_open = most_open if most_open > 8 else 8
    keeper.starved = 0


cdef void keeper_free(Keeper *keeper) noexcept nogil:
    """Close what is still open. Nobody may be reading."""
    while keeper.newest != NULL:
        shut(keeper, keeper.newest)
    pthread_mutex_destroy(&keeper.lock)


cdef void keeper_close_idle(Keeper *keeper) noexcept nogil:
    """Close all that nobody is reading now, and keep no more than the least from now on."""
    pthread_mutex_lock(&keeper.lock)
    keeper.most_open = 0
    shut_oldest(keeper, 0)
    pthread_mutex_unlock(&keeper.lock)


cdef int keeper_starved(Keeper *keeper) noexcept nogil:
    """Differs from an earlier answer where a file was not read since, though it may be there."""
    return count_now(&keeper.starved)


cdef bint is_starvation(ssize_t error) noexcept nogil:
    """Errors that say nothing about the file: a limit behind one must not be taken for absent."""
    return error == -EMFILE or error == -ENFILE or error == -ENOMEM


cdef void kept_init(Kept *kept) noexcept nogil:
    kept.fd = -1
    kept.readers = 0
    kept.dead = False
    kept.deaths = 0
    kept.newer = NULL
    kept.older = NULL


# --- below, down to the next such line: the keeper's lock is held --------------------------------------------------

cdef void link_newest(Keeper *keeper, Kept *kept) noexcept nogil:
    kept.newer = NULL
    kept.older = keeper.newest
    if keeper.newest != NULL:
        keeper.newest.newer = kept
    keeper.newest = kept
    if keeper.oldest == NULL:
        keeper.oldest = kept


cdef void unlink_kept(Keeper *keeper, Kept *kept) noexcept nogil:
    if kept.newer != NULL:
        kept.newer.older = kept.older
    else:
        keeper.newest = kept.older
    if kept.older != NULL:
        kept.older.newer = kept.newer
    else:
        keeper.oldest = kept.newer
    kept.newer = NULL
    kept.older = NULL


cdef void shut(Keeper *keeper, Kept *kept) noexcept nogil:
    unlink_kept(keeper, kept)
    close(kept.fd)
    kept.fd = -1
    kept.dead = False
    keeper.open_count -= 1


cdef void shut_oldest(Keeper *keeper, int down_to) noexcept nogil:
    cdef Kept *candidate = keeper.oldest
    cdef Kept *following
    while candidate != NULL and keeper.open_count > down_to:
        following = candidate.newer
        if candidate.readers == 0:
            shut(keeper, candidate)
        candidate = following

# --- the keeper's lock is not held ---------------------------------------------------------------------------------


cdef ssize_t note(Keeper *keeper, ssize_t result) noexcept nogil:
    if is_starvation(result):
        count_up(&keeper.starved)
    return result


cdef int kept_open(Keeper *keeper, int directory, const char *path) noexcept nogil:
    """A new descriptor or a negative errno. Out of descriptors: a quarter of the kept ones make room, once."""
    # O_NONBLOCK and O_NOFOLLOW mean nothing to kernel files; a recorded tree could hold a fifo or a link.
    cdef int fd = openat(directory, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)
    if fd >= 0:
        return fd
    if errno == EMFILE or errno == ENFILE:
        pthread_mutex_lock(&keeper.lock)
        shut_oldest(keeper, keeper.open_count - keeper.open_count // 4 - 1)
        pthread_mutex_unlock(&keeper.lock)
        fd = openat(directory, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)
        if fd >= 0:
            return fd
    return <int>note(keeper, -errno)


cdef ssize_t read_from_start(int fd, Text *into, int how) noexcept nogil:
    """All of the file into ``into``; its length or a negative errno."""
    cdef ssize_t got
    cdef size_t room
    text_clear(into)
    while True:
        if not text_reserve(into, 4095):
            return -ENOMEM
        room = into.capacity - into.length - 1
        got = pread(fd, into.data + into.length, room, <long>into.length)
        if got < 0:
            if errno == EINTR:
                continue
            return -errno
        if how == READ_ONCE and <size_t>got == room:
            # A second pread would take the rest from another moment, where other threads read through fd, too.
            if not text_reserve(into, 4 * into.capacity):
                return -ENOMEM
            continue
        into.length += <size_t>got
        if got == 0 or how == READ_ONCE:
            into.data[into.length] = 0
            return <ssize_t>into.length


cdef bint begin(Keeper *keeper, Kept *kept) noexcept nogil:
    """Become a reader of an open descriptor. False, and no reader, where there is none or it is dead. The keeper's
    lock is held.
    """
    if kept.fd < 0 or kept.dead:
        return False
    kept.readers += 1
    if keeper.newest != kept:
        unlink_kept(keeper, kept)
        link_newest(keeper, kept)
    return True


cdef ssize_t read_and_end(Keeper *keeper, Kept *kept, Text *into, int how) noexcept nogil:
    """What follows begin()."""
    # As long as there is a reader, fd stays what it is.
    cdef ssize_t got = read_from_start(kept.fd, into, how)
    pthread_mutex_lock(&keeper.lock)
    if (got == -ENODEV or got == -ESRCH) and not kept.dead:
        kept.dead = True
        count_up(&kept.deaths)
    kept.readers -= 1
    if kept.readers == 0 and (kept.dead or keeper.open_count > keeper.most_open):
        shut(keeper, kept)
    pthread_mutex_unlock(&keeper.lock)
    return note(keeper, got)


cdef ssize_t kept_read_open(Keeper *keeper, Kept *kept, Text *into, int how) noexcept nogil:
    """Read through the descriptor that is open. -EBADF where there is none now."""
    cdef bint begun
    pthread_mutex_lock(&keeper.lock)
    begun = begin(keeper, kept)
    pthread_mutex_unlock(&keeper.lock)
    if not begun:
        text_clear(into)
        return -EBADF
    return read_and_end(keeper, kept, into, how)


cdef ssize_t kept_adopt(Keeper *keeper, Kept *kept, int fd, Text *into, int how) noexcept nogil:
    """Read through ``fd``, which kept_open gave, and keep it for the next time."""
    cdef ssize_t got
    pthread_mutex_lock(&keeper.lock)
    if kept.fd < 0:
        kept.fd = fd
        keeper.open_count += 1
        kept.readers += 1
        link_newest(keeper, kept)
        shut_oldest(keeper, keeper.most_open)
        pthread_mutex_unlock(&keeper.lock)
        return read_and_end(keeper, kept, into, how)
    # Another thread was faster, or reads through a dead one still: no room for this one.
    pthread_mutex_unlock(&keeper.lock)
    got = read_from_start(fd, into, how)
    close(fd)
    return note(keeper, got)


cdef ssize_t kept_read(
    Keeper *keeper, Kept *kept, int directory, const char *path, Text *into, int how
) noexcept nogil:
    """Read ``path`` below ``directory`` from its start, through the kept descriptor if there is one.

    Returns the length in bytes or a negative errno.
    """
    cdef ssize_t got = kept_read_open(keeper, kept, into, how)
    cdef int fd
    if got != -EBADF and got != -ENODEV and got != -ESRCH:
        return got
    fd = kept_open(keeper, directory, path)
    if fd < 0:
        text_clear(into)
        return fd
    return kept_adopt(keeper, kept, fd, into, how)


cdef void kept_drop(Keeper *keeper, Kept *kept) noexcept nogil:
    """Close it. The owner says nobody reads it any more."""
    pthread_mutex_lock(&keeper.lock)
    if kept.fd >= 0:
        shut(keeper, kept)
    pthread_mutex_unlock(&keeper.lock)


cdef ssize_t read_path(int directory, const char *path, Text *into, size_t most) noexcept nogil:
    """Open, read to the end (at most ``most`` bytes, then as if it ended there), close. Length or negative errno."""
    return open_and_read(directory, path, into, most, READ_WHOLE)


cdef ssize_t read_record(int directory, const char *path, Text *into) noexcept nogil:
    """The same for a file that one read(2) gives whole (seq_file's single_open): saves the read that finds the end."""
    return open_and_read(directory, path, into, <size_t>-1, READ_ONCE)


cdef ssize_t open_and_read(int directory, const char *path, Text *into, size_t most, int how) noexcept nogil:
    cdef int fd = openat(directory, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    cdef ssize_t got
    cdef size_t room
    text_clear(into)
    if fd < 0:
        return -errno
    while into.length < most:
        if not text_reserve(into, 4095):
            close(fd)
            return -ENOMEM
        room = into.capacity - into.length - 1
        got = read(fd, into.data + into.length, room)
        if got < 0:
            if errno == EINTR:
                continue
            got = -errno
            close(fd)
            return got
        into.length += <size_t>got
        if got == 0 or (how == READ_ONCE and <size_t>got < room):
            break
    close(fd)
    if not text_reserve(into, 0):
        return -ENOMEM
    into.data[into.length] = 0
    return <ssize_t>into.length
