# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Callers that come again: a reader that looks every second, or the second file of the same ``top``.

Of a thread's first file nothing is remembered but the thread's number. When it comes again, its /proc/<tid>/cgroup is
kept open, and the number of its pid namespace beside it. What is in the file is read anew for each open; what is
saved is opening and closing it, and reading the link of the namespace.

Why that stays right: the file belongs to the kernel's struct pid, and so does the pid namespace: neither exec(2) nor
setns(2) nor unshare(2) changes it. Reading says ESRCH once the thread is gone, whoever has its number by then; that one
is then looked up as one never seen. A kept file pins its struct pid, with the pid namespace's number, and no mount
namespace.
"""

from procview._fast.host cimport namespace_of, path_of_process
from procview._fast.kept cimport (
    READ_ONCE,
    Kept,
    kept_begin,
    kept_drop,
    kept_end,
    kept_init,
    kept_is_open,
    kept_offer,
    kept_open,
    kept_read_begun,
    kept_read_open,
    read_open,
)
from procview._fast.posix cimport (
    EBADF,
    PROC_SUPER_MAGIC,
    close,
    count_now,
    errno,
    fstatfs,
    pthread_mutex_destroy,
    pthread_mutex_init,
    pthread_mutex_lock,
    pthread_mutex_unlock,
    statfs_t,
    store,
    take_all,
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
            kept_init(&callers.of[i][k].cgroup)
    for i in range(CALLERS_SEEN):
        callers.seen[i] = 0


cdef void callers_free(Callers *callers) noexcept nogil:
    """Nobody asks any more."""
    cdef int i
    cdef int k
    for i in range(CALLER_SETS):
        for k in range(CALLERS_OF_SET):
            kept_drop(callers.host.keeper, &callers.of[i][k].cgroup)
    pthread_mutex_destroy(&callers.lock)


cdef bint callers_were_kept(Callers *callers) noexcept nogil:
    """Whether there are new ones since this was last asked: some time later it is worth to see who has gone."""
    return count_now(&callers.fresh) and take_all(&callers.fresh)


cdef bint callers_forget_gone(Callers *callers) noexcept nogil:
    """Close the files of threads that live no more; some hundred reads, at most. Whether any was used of late, so that
    it is worth to look again.
    """
    cdef Text scratch
    cdef Kept *file
    cdef bint used = False
    cdef int i
    cdef int k
    text_init(&scratch)
    for i in range(CALLER_SETS):
        for k in range(CALLERS_OF_SET):
            file = &callers.of[i][k].cgroup
            if kept_is_open(file):
                used = used or count_now(&file.used)
                kept_read_open(callers.host.keeper, file, &scratch, READ_ONCE)   # ESRCH closes it
                store(&file.used, False)
    text_free(&scratch)
    return used


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
        asking.known = NULL
        return kept_read_begun(callers.host.keeper, &caller.cgroup, into, READ_ONCE)
    if asking.fd < 0:
        text_clear(into)
        return asking.fd
    got = read_open(asking.fd, into, READ_ONCE)
    if got > 0 and callers.keeps and has_come_again(callers, asking.tid) and keep(callers, asking):
        asking.fd = -EBADF
    else:
        asking_end(callers, asking)
    return got


cdef void asking_end(Callers *callers, Asking *asking) noexcept nogil:
    """Where it was not read."""
    if asking.known != NULL:
        kept_end(callers.host.keeper, &asking.known.cgroup, 0)
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
    return best if kept_drop(callers.host.keeper, &best.cgroup) else NULL


cdef int rank(const Caller *caller) noexcept nogil:
    """The lowest goes first."""
    if not kept_is_open(&caller.cgroup):
        return 0
    return 2 if count_now(&caller.cgroup.used) else 1
