# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Callers that come again: a reader that looks every second, or the second file of the same ``top``.

Of a thread's first file nothing is remembered but the thread's number. When it comes again, its /proc/<tid>/cgroup is
kept open, and the number of its pid namespace beside it: opening and closing it are saved, and reading the link of the
namespace. What is in the file is read anew for each open; but where changes of cgroups are watched (``changes``), a
pidfd of the thread is kept as well, and while nothing was written to any cgroup and the thread lives, it still is where
it was found.

Why that stays right: the file belongs to the kernel's struct pid, and so does the pid namespace: neither exec(2) nor
setns(2) nor unshare(2) changes it. Reading says ESRCH once the thread is gone, whoever has its number by then; that one
is then looked up as one never seen. So does the pidfd, by being readable. Both pin their struct pid, with the pid
namespace's number, and no mount namespace.

Of one thing nobody writes a word: a thread that was put into a v1 cgroup alone, and calls exec(2), takes its number
from its process's first thread and keeps its own cgroup. If that is one outside of the container, it is seen to be
there once something else was written.
"""

from libc.stdint cimport uint64_t

from procview._fast.changes cimport changes_none_since
from procview._fast.host cimport namespace_of, path_of_process
from procview._fast.kept cimport (
    READ_ONCE,
    kept_begin,
    kept_drop,
    kept_end,
    kept_init,
    kept_is_open,
    kept_offer,
    kept_open,
    kept_read_open,
    read_open,
)
from procview._fast.posix cimport (
    EBADF,
    ESRCH,
    PIDFD_THREAD,
    POLLIN,
    PROC_SUPER_MAGIC,
    SYS_pidfd_open,
    close,
    count_now,
    errno,
    fstatfs,
    poll,
    pollfd,
    pthread_mutex_destroy,
    pthread_mutex_init,
    pthread_mutex_lock,
    pthread_mutex_unlock,
    statfs_t,
    store,
    store_u64,
    syscall,
    take_all,
    u64_read,
)
from procview._fast.text cimport Text, text_clear, text_free, text_init


cdef void callers_init(Callers *callers, Host *host) noexcept nogil:
    cdef statfs_t info
    cdef int i
    cdef int k
    callers.host = host
    callers.fresh = False
    # A recording of a host does not say that a process has gone.
    callers.keeps = fstatfs(host.proc_fd, &info) == 0 and info.f_type == PROC_SUPER_MAGIC
    pthread_mutex_init(&callers.lock, NULL)
    for i in range(CALLER_SETS):
        for k in range(CALLERS_OF_SET):
            callers.of[i][k].tid = 0
            callers.of[i][k].seen_at = 0
            kept_init(&callers.of[i][k].cgroup)
            kept_init(&callers.of[i][k].life)
    for i in range(CALLERS_SEEN):
        callers.seen[i] = 0


cdef void callers_free(Callers *callers) noexcept nogil:
    """Nobody asks any more."""
    cdef int i
    cdef int k
    for i in range(CALLER_SETS):
        for k in range(CALLERS_OF_SET):
            kept_drop(callers.host.keeper, &callers.of[i][k].cgroup)
            kept_drop(callers.host.keeper, &callers.of[i][k].life)
    pthread_mutex_destroy(&callers.lock)


cdef bint callers_were_kept(Callers *callers) noexcept nogil:
    """Whether there are new ones since this was last asked: some time later it is worth to see who has gone."""
    return count_now(&callers.fresh) and take_all(&callers.fresh)


cdef bint callers_forget_gone(Callers *callers) noexcept nogil:
    """Close the files of threads that live no more; two thousand polls or reads, at most. Whether any was used of late,
    so that it is worth to look again.
    """
    cdef Text scratch
    cdef Caller *caller
    cdef bint used = False
    cdef int i
    cdef int k
    text_init(&scratch)
    for i in range(CALLER_SETS):
        for k in range(CALLERS_OF_SET):
            caller = &callers.of[i][k]
            if kept_is_open(&caller.cgroup):
                used = used or count_now(&caller.cgroup.used)
                if not lives(callers, caller):
                    kept_read_open(callers.host.keeper, &caller.cgroup, &scratch, READ_ONCE)   # ESRCH closes it
                store(&caller.cgroup.used, False)
            if not kept_is_open(&caller.cgroup) and kept_is_open(&caller.life):
                kept_drop(callers.host.keeper, &caller.life)
    text_free(&scratch)
    return used


cdef bint lives(Callers *callers, Caller *caller) noexcept nogil:
    """Whether its pidfd says so. False: it has ended, or nobody can say."""
    cdef pollfd asked
    cdef bint still
    if not kept_begin(&caller.life):
        return False
    asked.fd = caller.life.fd
    asked.events = POLLIN
    still = poll(&asked, 1, 0) == 0
    kept_end(callers.host.keeper, &caller.life, 0)
    return still


cdef bint asking_known(Callers *callers, int tid, Asking *asking) noexcept nogil:
    """Fill ``asking`` where the file of such a thread is kept. Whether it still lives, only asking_read() will say."""
    cdef Caller *caller
    cdef int k
    for k in range(CALLERS_OF_SET):
        caller = &callers.of[tid & (CALLER_SETS - 1)][k]
        if count_now(&caller.tid) != tid or not kept_begin(&caller.cgroup):
            continue
        # From here on nobody else takes this place; but somebody may have, before.
        if count_now(&caller.tid) == tid:
            asking.tid = tid
            asking.pidns = caller.pidns
            asking.known = caller
            asking.got = 0
            asking.fd = -EBADF
            return True
        kept_end(callers.host.keeper, &caller.cgroup, 0)
    return False


cdef int asking_anew(Callers *callers, int tid, Asking *asking) noexcept nogil:
    """Fill ``asking`` from /proc. 0, or a negative errno where that does not say which pid namespace it is."""
    cdef char path[32]
    cdef int result
    cdef Host *host = callers.host
    asking.tid = tid
    asking.known = NULL
    # In this order: if the file can be read afterwards, its thread has had the number all the time.
    path_of_process(path, tid, b"cgroup")
    asking.fd = kept_open(host.keeper, host.proc_fd, path)
    path_of_process(path, tid, b"")
    if namespace_of(host, path, b"pid", &asking.pidns):
        return 0
    result = -errno
    asking_end(callers, asking)
    return result


cdef ssize_t asking_read(Callers *callers, Asking *asking, Text *into) noexcept nogil:
    """The caller's cgroups as they are now, once: the length or a negative errno (of a known one, ESRCH: it has
    gone).
    """
    cdef Caller *caller = asking.known
    cdef ssize_t got
    if caller != NULL:
        asking.got = read_open(caller.cgroup.fd, into, READ_ONCE)
        return asking.got
    if asking.fd < 0:
        text_clear(into)
        return asking.fd
    got = read_open(asking.fd, into, READ_ONCE)
    if got > 0 and callers.keeps and has_come_again(callers, asking.tid) and keep(callers, asking):
        asking.fd = -EBADF
    else:
        asking_end(callers, asking)
    return got


cdef void asking_watch(Callers *callers, const Asking *asking) noexcept nogil:
    """See that a known caller's end will be known. To be followed by a look that says that it lives: then the pidfd is
    of no later owner of its number.
    """
    cdef int fd
    if kept_is_open(&asking.known.life):
        return
    fd = <int>syscall(SYS_pidfd_open, asking.tid, PIDFD_THREAD)
    if fd < 0:
        fd = <int>syscall(SYS_pidfd_open, asking.tid, 0)   # before Linux 6.9, for first threads only
    if fd >= 0 and not kept_offer(callers.host.keeper, &asking.known.life, fd):
        close(fd)


cdef void asking_seen(const Asking *asking, uint64_t number, uint64_t scope_number) noexcept nogil:
    """It lives, and its cgroups, read after ``number`` was taken, are in the scope of that number. 0 for either: nobody
    would tell when that changes.
    """
    if number == 0 or scope_number == 0:
        return
    store_u64(&asking.known.scope_number, scope_number)
    store_u64(&asking.known.seen_at, number)


cdef bint asking_is_as_seen(
    Callers *callers, const Asking *asking, Changes *changes, uint64_t number, uint64_t scope_number
) noexcept nogil:
    """Whether asking_seen() would be true again."""
    cdef Caller *caller = asking.known
    cdef bint same
    if u64_read(&caller.seen_at) != number or u64_read(&caller.scope_number) != scope_number:
        return False
    if not kept_begin(&caller.life):
        return False
    same = changes_none_since(changes, number, caller.life.fd)
    kept_end(callers.host.keeper, &caller.life, 0)
    return same


cdef void asking_end(Callers *callers, Asking *asking) noexcept nogil:
    """Nobody asks any more, whether it was read or not."""
    if asking.known != NULL:
        if asking.got == -ESRCH:
            kept_drop(callers.host.keeper, &asking.known.life)
        kept_end(callers.host.keeper, &asking.known.cgroup, asking.got)
        asking.known = NULL
    if asking.fd >= 0:
        close(asking.fd)
        asking.fd = -EBADF


cdef bint has_come_again(Callers *callers, int tid) noexcept nogil:
    """Most callers come once, and are not worth a descriptor. A number that was another thread's does no harm here."""
    cdef int *last = &callers.seen[tid & (CALLERS_SEEN - 1)]
    if count_now(last) == tid:
        return True
    store(last, tid)
    return False


cdef bint keep(Callers *callers, const Asking *asking) noexcept nogil:
    """Whether the file is kept: its descriptor has another owner then."""
    cdef Caller *caller
    cdef bint kept = False
    pthread_mutex_lock(&callers.lock)
    caller = place_for(callers, asking.tid)
    if caller != NULL:
        store(&caller.tid, asking.tid)
        store_u64(&caller.seen_at, 0)
        caller.pidns = asking.pidns
        kept = kept_offer(callers.host.keeper, &caller.cgroup, asking.fd)
        if kept:
            store(&callers.fresh, True)
    pthread_mutex_unlock(&callers.lock)
    return kept


cdef Caller *place_for(Callers *callers, int tid) noexcept nogil:
    """An empty place: that of the thread's number, or of one that was not used of late. NULL where there is none, or
    another thread has kept the file already. The lock is held.
    """
    cdef Caller *caller
    cdef Caller *best = NULL
    cdef int best_rank = 0
    cdef int k
    for k in range(CALLERS_OF_SET):
        caller = &callers.of[tid & (CALLER_SETS - 1)][k]
        if count_now(&caller.tid) == tid:
            if kept_is_open(&caller.cgroup):
                return NULL
            best = caller
            break
        if best == NULL or rank(caller) < best_rank:
            best = caller
            best_rank = rank(caller)
        store(&caller.cgroup.used, False)
    if not kept_drop(callers.host.keeper, &best.cgroup):
        return NULL
    return best if kept_drop(callers.host.keeper, &best.life) else NULL   # who reads it reads the file as well


cdef int rank(const Caller *caller) noexcept nogil:
    """The lowest goes first."""
    if not kept_is_open(&caller.cgroup):
        return 0
    return 2 if count_now(&caller.cgroup.used) else 1
