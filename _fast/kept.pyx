# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Kernel files kept open and read again with pread.

Opening and closing a cgroup file costs several times what reading it costs. A `Kept` is one such file; a `Keeper`
bounds how many are open at once and closes those that were not used of late. A file that says ENODEV (its cgroup was
removed) or ESRCH (its process is gone) is dead: nobody begins to read through it, its last reader closes it, and its
path is opened anew once, since something of the same name may be there now.

A kept descriptor pins a kernfs node or a struct pid, never a mount namespace: keep nothing below /proc/<pid> here
that would.

Several threads read all the time, and each render reads a dozen files: reading takes no lock. Who reads counts itself
into ``state`` while the file is open and not dead; only who finds no reader in it may close, with the keeper's lock.
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
    exchange,
    errno,
    openat,
    pread,
    pthread_mutex_destroy,
    pthread_mutex_init,
    pthread_mutex_lock,
    pthread_mutex_unlock,
    read,
    store,
)
from procview._fast.text cimport text_clear, text_reserve


cdef enum:
    READ_LIST = 2
    LIST_END_BYTES = 2048   # seq_read() stops early only where a record does not fit into a page any more


cdef enum:  # of Kept.state; readers and deaths are counted in units of these
    IS_OPEN = 1
    IS_DEAD = 2   # it said ENODEV or ESRCH: nobody begins to read through it, and its last reader closes it
    READER = 4
    READERS = 0x3FFF * READER
    DEATH = 0x10000   # may wrap: all that counts is that it changes


cdef void keeper_init(Keeper *keeper, int most_open) noexcept nogil:
    pthread_mutex_init(&keeper.lock, NULL)
    keeper.newest = NULL
    keeper.oldest = NULL
    keeper.open_count = 0
    keeper.most_open = most_open if most_open > 8 else 8
    keeper.starved = 0


cdef void keeper_free(Keeper *keeper) noexcept nogil:
    """Close what is still open. Nobody may be reading."""
    while keeper.newest != NULL and shut(keeper, keeper.newest):
        pass
    pthread_mutex_destroy(&keeper.lock)


cdef void keeper_close_idle(Keeper *keeper) noexcept nogil:
    """Close all that nobody is reading now, and keep no more than the least from now on."""
    pthread_mutex_lock(&keeper.lock)
    store(&keeper.most_open, 0)
    shut_oldest(keeper, 0)
    pthread_mutex_unlock(&keeper.lock)


cdef int keeper_starved(Keeper *keeper) noexcept nogil:
    """Differs from an earlier answer where a file was not read since, though it may be there."""
    return count_now(&keeper.starved)


cdef bint is_starvation(ssize_t error) noexcept nogil:
    """Errors that say nothing about the file: a limit behind one must not be taken for absent."""
    return error == -EMFILE or error == -ENFILE or error == -ENOMEM


cdef void kept_init(Kept *kept) noexcept nogil:
    kept.state = 0
    kept.used = False
    kept.fd = -1
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


cdef bint shut(Keeper *keeper, Kept *kept) noexcept nogil:
    """Close it; False where somebody reads it, or where it is not open."""
    cdef int state = count_now(&kept.state)
    while state & IS_OPEN and not state & READERS:
        if exchange(&kept.state, &state, state & ~(IS_OPEN | IS_DEAD)):
            unlink_kept(keeper, kept)
            close(kept.fd)
            kept.fd = -1
            store(&keeper.open_count, keeper.open_count - 1)
            return True
    return False


cdef void shut_oldest(Keeper *keeper, int down_to) noexcept nogil:
    """In the order in which they were opened; one that was used since the last look gets a second chance."""
    cdef Kept *candidate = keeper.oldest
    cdef Kept *following
    cdef int looks = 2 * keeper.open_count
    while candidate != NULL and keeper.open_count > down_to and looks > 0:
        looks -= 1
        following = candidate.newer
        if not count_now(&candidate.used):
            shut(keeper, candidate)
        else:
            store(&candidate.used, False)
            unlink_kept(keeper, candidate)
            link_newest(keeper, candidate)
            if following == NULL:
                following = candidate
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


cdef ssize_t read_open(int fd, Text *into, int how) noexcept nogil:
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


cdef bint kept_begin(Kept *kept) noexcept nogil:
    """Become a reader of an open descriptor. False, and no reader, where there is none or it is dead."""
    cdef int state = count_now(&kept.state)
    while state & IS_OPEN and not state & IS_DEAD:
        if exchange(&kept.state, &state, state + READER):
            if not count_now(&kept.used):
                store(&kept.used, True)
            return True
    return False


cdef ssize_t kept_end(Keeper *keeper, Kept *kept, ssize_t got) noexcept nogil:
    """What follows kept_begin(), with what reading gave (0: nothing was read)."""
    cdef bint died = got == -ENODEV or got == -ESRCH
    cdef int state = count_now(&kept.state)
    cdef int after
    while True:
        after = state - READER
        if died and not state & IS_DEAD:
            # In one step: who finds it dead, and reads what is at its path now, finds the death counted as well.
            after = <int>(<unsigned int>after + IS_DEAD + DEATH)
        if exchange(&kept.state, &state, after):
            break
    if not after & READERS and (after & IS_DEAD or count_now(&keeper.open_count) > count_now(&keeper.most_open)):
        pthread_mutex_lock(&keeper.lock)
        shut(keeper, kept)
        pthread_mutex_unlock(&keeper.lock)
    return note(keeper, got)


cdef ssize_t kept_read_begun(Keeper *keeper, Kept *kept, Text *into, int how) noexcept nogil:
    """Read between kept_begin() and kept_end(), which this calls."""
    # As long as there is a reader, fd stays what it is.
    return kept_end(keeper, kept, read_open(kept.fd, into, how))


cdef bint kept_is_open(const Kept *kept) noexcept nogil:
    """Whether kept_begin() would say so now."""
    return count_now(&kept.state) & (IS_OPEN | IS_DEAD) == IS_OPEN


cdef int kept_deaths(const Kept *kept) noexcept nogil:
    """Changes when the file that was read had gone, and what is at its path since is another one."""
    return <int>(<unsigned int>count_now(&kept.state) // DEATH)


cdef ssize_t kept_read_open(Keeper *keeper, Kept *kept, Text *into, int how) noexcept nogil:
    """Read through the descriptor that is open. -EBADF where there is none now."""
    if not kept_begin(kept):
        text_clear(into)
        return -EBADF
    return kept_read_begun(keeper, kept, into, how)


cdef bint offer(Keeper *keeper, Kept *kept, int fd, int readers) noexcept nogil:
    cdef bint taken = False
    pthread_mutex_lock(&keeper.lock)
    if not count_now(&kept.state) & IS_OPEN:
        kept.fd = fd
        store(&keeper.open_count, keeper.open_count + 1)
        link_newest(keeper, kept)
        # From here on others read through it, too.
        store(&kept.state, count_now(&kept.state) + IS_OPEN + readers)
        shut_oldest(keeper, keeper.most_open)
        taken = True
    pthread_mutex_unlock(&keeper.lock)
    return taken


cdef bint kept_offer(Keeper *keeper, Kept *kept, int fd) noexcept nogil:
    """Keep ``fd`` for the next time. False: there is another one, and this one stays the caller's."""
    return offer(keeper, kept, fd, 0)


cdef ssize_t kept_adopt(Keeper *keeper, Kept *kept, int fd, Text *into, int how) noexcept nogil:
    """Read through ``fd``, which kept_open gave, and keep it for the next time."""
    cdef ssize_t got
    if offer(keeper, kept, fd, READER):
        return kept_read_begun(keeper, kept, into, how)
    # Another thread was faster, or reads through a dead one still: no room for this one.
    got = read_open(fd, into, how)
    close(fd)
    return note(keeper, got)


cdef ssize_t kept_read(
    Keeper *keeper, Kept *kept, int directory, const char *path, Text *into, int how
) noexcept nogil:
    """Read ``path`` below ``directory`` from its start, through the kept descriptor if there is one.

    Returns the length in bytes or a negative errno.
    """
    cdef ssize_t got = kept_read_open(keeper, kept, into, how)
    if got == -EBADF or got == -ENODEV or got == -ESRCH:
        got = kept_read_anew(keeper, kept, directory, path, into, how)
    return got


cdef ssize_t kept_read_anew(
    Keeper *keeper, Kept *kept, int directory, const char *path, Text *into, int how
) noexcept nogil:
    """Open, read and keep: after kept_read_open has said EBADF, ENODEV or ESRCH."""
    cdef int fd = kept_open(keeper, directory, path)
    if fd < 0:
        text_clear(into)
        return fd
    return kept_adopt(keeper, kept, fd, into, how)


cdef bint kept_drop(Keeper *keeper, Kept *kept) noexcept nogil:
    """Close it, if it is open. False: somebody reads it just now."""
    cdef bint closed
    pthread_mutex_lock(&keeper.lock)
    closed = shut(keeper, kept) or not count_now(&kept.state) & IS_OPEN
    pthread_mutex_unlock(&keeper.lock)
    return closed


cdef ssize_t read_path(int directory, const char *path, Text *into, size_t most) noexcept nogil:
    """Open, read to the end (at most ``most`` bytes, then as if it ended there), close. Length or negative errno."""
    return open_and_read(directory, path, into, most, READ_WHOLE)


cdef ssize_t read_record(int directory, const char *path, Text *into) noexcept nogil:
    """The same for a file that one read(2) gives whole (seq_file's single_open): saves the read that finds the end."""
    return open_and_read(directory, path, into, <size_t>-1, READ_ONCE)


cdef ssize_t read_list(int directory, const char *path, Text *into, size_t most) noexcept nogil:
    """As read_path, of a list of short records: a read(2) that is not nearly a page has found its end."""
    return open_and_read(directory, path, into, most, READ_LIST)


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
        if got == 0 or (how == READ_ONCE and <size_t>got < room) or (how == READ_LIST and got < LIST_END_BYTES):
            break
    close(fd)
    if not text_reserve(into, 0):
        return -ENOMEM
    into.data[into.length] = 0
    return <ssize_t>into.length
