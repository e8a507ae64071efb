# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""One container: its entry, counted, and whether the init that it was made for still lives.

A container is known by its pid namespace; its entry is good while ``/proc/<init>/cgroup`` can be read through the
descriptor that was opened when init was found (ESRCH once it is gone), so that a recycled namespace number or pid
is never taken for the old one.
"""

from libc.stdint cimport uint64_t
from libc.stdio cimport snprintf
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp

from procview._fast.counters cimport counters_free
from procview._fast.host cimport host_boottime_ns, namespace_of
from procview._fast.init cimport boottime_offset_of, start_ticks_of
from procview._fast.kept cimport (
    READ_ONCE,
    is_starvation,
    kept_adopt,
    kept_drop,
    kept_init,
    kept_open,
    kept_read_open,
)
from procview._fast.posix cimport (
    EBADF,
    ENAMETOOLONG,
    ESRCH,
    close,
    count_down,
    count_now,
    count_up,
    pthread_mutex_destroy,
    pthread_mutex_init,
    pthread_mutex_lock,
    pthread_mutex_unlock,
    ssize_t,
    store,
)
from procview._fast.records cimport record_drop
from procview._fast.scope cimport scope_put
from procview._fast.text cimport put, text_free, text_init


cdef Container *container_new(Containers *containers, uint64_t pidns, int init, Text *scratch) noexcept nogil:
    """An entry without a scope yet, not in the table yet. NULL where init is gone already or memory ran out."""
    cdef Container *container = <Container *>calloc(1, sizeof(Container))
    if container == NULL:
        return NULL
    container.references = 1
    container.pidns = pidns
    container.init = init
    kept_init(&container.init_cgroup)
    text_init(&container.init_paths)
    text_init(&container.inside_paths)
    text_init(&container.key)
    pthread_mutex_init(&container.lock, NULL)
    if start_ticks_of(containers.host, init, &container.init_start_ticks, scratch) < 0:
        container_put(containers, container)
        return NULL
    container.init_time_namespace = boottime_offset_of(
        containers.host, init, &container.boottime_offset_ns, scratch
    )
    return container


cdef void container_ref(Container *container) noexcept nogil:
    count_up(&container.references)


cdef void container_put(Containers *containers, Container *container) noexcept nogil:
    if count_down(&container.references) > 0:
        return
    record_drop(container)
    kept_drop(containers.host.keeper, &container.init_cgroup)
    if container.scope != NULL:
        scope_put(containers.groups, container.scope)
    text_free(&container.init_paths)
    text_free(&container.inside_paths)
    text_free(&container.key)
    free(container.accounting.shown)
    free(container.accounting.start)
    counters_free(&container.events)
    free(container.devices.list)
    pthread_mutex_destroy(&container.lock)
    free(container)


cdef bint container_is_held_once(Container *container) noexcept nogil:
    return count_now(&container.references) == 1


cdef Scope *scope_take(Container *container) noexcept nogil:
    """The container's scope as it is now, counted: give it back with scope_put."""
    cdef Scope *scope
    pthread_mutex_lock(&container.lock)
    scope = container.scope
    count_up(&scope.references)
    pthread_mutex_unlock(&container.lock)
    return scope


cdef const Text *cgroups_locked(const Container *container) noexcept nogil:
    """The lines of /proc/<pid>/cgroup by which it was placed."""
    return &container.key if container.key.length > 0 else &container.init_paths


cdef void container_cgroups(Container *container, Text *out) noexcept nogil:
    """By which cgroups its settings are to be found: those of its init, or of the caller that it was made for."""
    cdef const Text *cgroups
    pthread_mutex_lock(&container.lock)
    cgroups = cgroups_locked(container)
    put(out, cgroups.data, cgroups.length)
    pthread_mutex_unlock(&container.lock)


cdef void container_settle(
    Container *container, const Settings *settings, const char *cgroups, size_t length
) noexcept nogil:
    """Its settings from now on, found by these ``cgroups``. If it has been moved since, they are to be found again."""
    cdef const Text *current
    pthread_mutex_lock(&container.lock)
    current = cgroups_locked(container)
    container.settings = settings[0]
    container.has_settings = True
    store(
        &container.is_settled,
        current.length == length and (length == 0 or memcmp(current.data, cgroups, length) == 0),
    )
    pthread_mutex_unlock(&container.lock)


cdef ssize_t reopen_init(Containers *containers, Container *container, Text *scratch) noexcept nogil:
    """Look init up by its number, make sure that it is the one, and keep its /proc/<pid>/cgroup, which is then in
    ``scratch``. Its length or a negative errno.
    """
    cdef Host *host = containers.host
    cdef char path[32]
    cdef uint64_t ticks = 0
    cdef uint64_t inode = 0
    cdef int result
    cdef int fd
    snprintf(path, sizeof(path), b"%d/cgroup", container.init)
    fd = kept_open(host.keeper, host.proc_fd, path)
    if fd < 0:
        return fd
    # It may be another process by now. What the number says while fd still answers is true of the process behind fd;
    # and until that is known no other thread may read through it.
    result = start_ticks_of(host, container.init, &ticks, scratch)
    snprintf(path, sizeof(path), b"%d", container.init)
    if result == 0 and ticks != container.init_start_ticks:
        result = -ESRCH
    # Of the host's own init the start is enough, and its namespaces are not for everyone to read, root or not.
    if result == 0 and container.pidns != host.pidns and (
        not namespace_of(host, path, b"pid", &inode) or inode != container.pidns
    ):
        result = -ESRCH
    if result < 0:
        close(fd)
        return result
    return kept_adopt(host.keeper, &container.init_cgroup, fd, scratch, READ_ONCE)


cdef int init_state(Containers *containers, Container *container, Text *scratch) noexcept nogil:
    """Whether the init that this entry was made for still lives; INIT_ALIVE: its /proc/<pid>/cgroup is in
    ``scratch``.
    """
    cdef ssize_t got = kept_read_open(containers.host.keeper, &container.init_cgroup, scratch, READ_ONCE)
    if got == -EBADF:
        got = reopen_init(containers, container, scratch)
    if got >= 0:
        return INIT_ALIVE
    if got == -ENAMETOOLONG:
        return INIT_HIDDEN
    return INIT_UNKNOWN if is_starvation(got) else INIT_GONE


cdef uint64_t container_elapsed_ticks(const Host *host, const Container *container) noexcept nogil:
    """Ticks since init started; its clock, not the wall's."""
    cdef uint64_t now = <uint64_t>host_boottime_ns(host) // (1000000000 // host.ticks_per_second)
    return now - container.init_start_ticks if now > container.init_start_ticks else 0
