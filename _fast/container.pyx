# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""From a caller's pid to its container: whose numbers it is shown.

Let *init* be pid 1 of the caller's pid namespace, C the caller's cgroup, I init's. The container's cgroup R is the
root of init's cgroup namespace where that is I or above it, else I without a trailing /init.scope; C itself where C
is not R nor below R, or where the caller lives in the host's pid namespace. On v1 all this for each controller on
its own.

A container is known by its pid namespace; its entry is good while ``/proc/<init>/cgroup`` can be read through the
descriptor that was opened when init was found (ESRCH once it is gone), so that a recycled namespace number or pid
is never taken for the old one. Everything about cgroups is read anew for each caller. Cached: where init's cgroup
namespace has its root (until init's cgroup changes; while no mount says so, looked for again at most once a
second).
"""

from libc.stdint cimport uint64_t
from libc.stdio cimport snprintf
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp

from procview._fast.host cimport host_boottime_ns, namespace_of
from procview._fast.init cimport boottime_offset_of, find_init, start_ticks_of
from procview._fast.kept cimport READ_ONCE, kept_drop, kept_init, kept_read, read_record
from procview._fast.layout cimport CgroupPaths, paths_parse
from procview._fast.posix cimport (
    CLOCK_MONOTONIC,
    ENOMEM,
    clock_ns,
    pthread_mutex_destroy,
    pthread_mutex_init,
    pthread_mutex_lock,
    pthread_mutex_unlock,
)
from procview._fast.scan cimport Span, span, span_length
from procview._fast.scope cimport (
    roots_of_cgroup_namespace,
    scope_new,
    scope_put,
    settle_in_scope,
    without_init_scope,
)
from procview._fast.text cimport put, text_clear, text_free, text_init


cdef enum:
    MOST_CONTAINERS = 16384
    MOUNT_LOOK_NS = 1000000000


cdef int containers_init(Containers *containers, Host *host, Groups *groups) noexcept nogil:
    containers.host = host
    containers.groups = groups
    containers.bucket_count = 4096
    containers.count = 0
    containers.sweep_at = 64
    containers.clock = 0
    pthread_mutex_init(&containers.lock, NULL)
    containers.buckets = <Container **>calloc(containers.bucket_count, sizeof(Container *))
    return 0 if containers.buckets != NULL else -ENOMEM


cdef void containers_free(Containers *containers) noexcept nogil:
    """Nobody holds a container any more."""
    cdef size_t i
    cdef Container *container
    cdef Container *following
    for i in range(containers.bucket_count):
        container = containers.buckets[i]
        while container != NULL:
            following = container.next
            container_put(containers, container)
            container = following
    free(containers.buckets)
    pthread_mutex_destroy(&containers.lock)


cdef extern from * nogil:
    int __atomic_add_fetch(int *value, int by, int order) noexcept
    int __atomic_sub_fetch(int *value, int by, int order) noexcept
    enum:
        __ATOMIC_ACQ_REL


cdef Scope *scope_take(Container *container) noexcept nogil:
    """The container's scope as it is now, counted: give it back with scope_put."""
    cdef Scope *scope
    pthread_mutex_lock(&container.lock)
    scope = container.scope
    __atomic_add_fetch(&scope.references, 1, __ATOMIC_ACQ_REL)
    pthread_mutex_unlock(&container.lock)
    return scope


# --- containers ----------------------------------------------------------------------------------------------------

cdef uint64_t hash_key(uint64_t pidns, const char *key, size_t length) noexcept nogil:
    cdef uint64_t value = (<uint64_t>14695981039346656037 ^ pidns) * <uint64_t>1099511628211
    cdef size_t i
    for i in range(length):
        value = (value ^ <uint64_t><unsigned char>key[i]) * <uint64_t>1099511628211
    return value ^ value >> 32


cdef Container *find_locked(Containers *containers, uint64_t pidns, const char *key, size_t length) noexcept nogil:
    """The entry, counted, or NULL."""
    cdef uint64_t hashed = hash_key(pidns, key, length)
    cdef Container *container = containers.buckets[hashed & (containers.bucket_count - 1)]
    while container != NULL:
        if (
            container.hash == hashed and container.pidns == pidns and container.key.length == length
            and (length == 0 or memcmp(container.key.data, key, length) == 0)
        ):
            container_ref(container)
            containers.clock += 1
            container.last_used = containers.clock
            return container
        container = container.next
    return NULL


cdef Container *container_find(Containers *containers, uint64_t pidns, const char *key, size_t length) noexcept nogil:
    cdef Container *container
    pthread_mutex_lock(&containers.lock)
    container = find_locked(containers, pidns, key, length)
    pthread_mutex_unlock(&containers.lock)
    return container


cdef void container_ref(Container *container) noexcept nogil:
    __atomic_add_fetch(&container.references, 1, __ATOMIC_ACQ_REL)


cdef void container_put(Containers *containers, Container *container) noexcept nogil:
    if __atomic_sub_fetch(&container.references, 1, __ATOMIC_ACQ_REL) > 0:
        return
    kept_drop(containers.host.keeper, &container.init_cgroup)
    if container.scope != NULL:
        scope_put(containers.groups, container.scope)
    text_free(&container.init_paths)
    text_free(&container.key)
    free(container.accounting.shown)
    free(container.accounting.start)
    free(container.devices.list)
    pthread_mutex_destroy(&container.lock)
    free(container)


cdef void remove_locked(Containers *containers, Container *container) noexcept nogil:
    cdef Container **link = &containers.buckets[container.hash & (containers.bucket_count - 1)]
    while link[0] != NULL and link[0] != container:
        link = &link[0].next
    if link[0] == NULL:
        return   # somebody else was faster
    link[0] = container.next
    containers.count -= 1
    container_put(containers, container)


cdef void container_remove(Containers *containers, Container *container) noexcept nogil:
    pthread_mutex_lock(&containers.lock)
    remove_locked(containers, container)
    pthread_mutex_unlock(&containers.lock)


cdef bint init_is_alive(Containers *containers, Container *container, Text *scratch) noexcept nogil:
    """Whether the init that this entry was made for still lives; its /proc/<pid>/cgroup is then in ``scratch``."""
    cdef char path[32]
    cdef bint reopened = False
    cdef uint64_t ticks = 0
    cdef uint64_t inode = 0
    cdef ssize_t got
    snprintf(path, sizeof(path), b"%d/cgroup", container.init)
    got = kept_read(
        containers.host.keeper, &container.init_cgroup, containers.host.proc_fd, path, scratch, READ_ONCE, &reopened
    )
    if not reopened:
        return got >= 0
    # Looked up by its number: it may be another process by now.
    snprintf(path, sizeof(path), b"%d", container.init)
    if (
        not start_ticks_of(containers.host, container.init, &ticks, scratch) or ticks != container.init_start_ticks
        or not namespace_of(containers.host, path, b"pid", &inode) or inode != container.pidns
    ):
        return False
    snprintf(path, sizeof(path), b"%d/cgroup", container.init)
    return kept_read(
        containers.host.keeper, &container.init_cgroup, containers.host.proc_fd, path, scratch, READ_ONCE, NULL
    ) >= 0


cdef void sweep_locked(Containers *containers) noexcept nogil:
    """Drop the entries whose init is gone; if there are still too many, those that were used the longest ago."""
    cdef size_t i
    cdef Container *container
    cdef Container *following
    cdef Text scratch
    cdef uint64_t oldest_kept
    text_init(&scratch)
    for i in range(containers.bucket_count):
        container = containers.buckets[i]
        while container != NULL:
            following = container.next
            if container.references == 1 and not init_is_alive(containers, container, &scratch):
                remove_locked(containers, container)
            container = following
    text_free(&scratch)
    if containers.count > MOST_CONTAINERS - MOST_CONTAINERS // 4:
        oldest_kept = containers.clock - MOST_CONTAINERS // 2 if containers.clock > MOST_CONTAINERS // 2 else 0
        for i in range(containers.bucket_count):
            container = containers.buckets[i]
            while container != NULL:
                following = container.next
                if container.references == 1 and container.last_used < oldest_kept:
                    remove_locked(containers, container)
                container = following
    containers.sweep_at = containers.count * 2 if containers.count > 32 else 64
    if containers.sweep_at > MOST_CONTAINERS:
        containers.sweep_at = MOST_CONTAINERS


cdef Container *container_add(Containers *containers, Container *container) noexcept nogil:
    """Put it in the table, or take the one that another thread put there meanwhile. Counted for the caller."""
    cdef Container *there
    pthread_mutex_lock(&containers.lock)
    there = find_locked(containers, container.pidns, container.key.data, container.key.length)
    if there == NULL:
        if containers.count >= containers.sweep_at:
            sweep_locked(containers)
        container.hash = hash_key(container.pidns, container.key.data, container.key.length)
        container.next = containers.buckets[container.hash & (containers.bucket_count - 1)]
        containers.buckets[container.hash & (containers.bucket_count - 1)] = container
        containers.count += 1
        containers.clock += 1
        container.last_used = containers.clock
        container_ref(container)
        pthread_mutex_unlock(&containers.lock)
        return container
    pthread_mutex_unlock(&containers.lock)
    container_put(containers, container)
    return there


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
    text_init(&container.key)
    pthread_mutex_init(&container.lock, NULL)
    if not start_ticks_of(containers.host, init, &container.init_start_ticks, scratch):
        container_put(containers, container)
        return NULL
    container.init_time_namespace = boottime_offset_of(
        containers.host, init, &container.boottime_offset_ns, scratch
    )
    return container


cdef bint place_init(Containers *containers, Container *container, Text *paths_text, Text *mountinfo) noexcept nogil:
    """Find R from init's cgroup, which is in ``paths_text``, and make it the container's scope. False when memory
    ran out.
    """
    cdef CgroupPaths paths
    cdef CgroupPaths roots
    cdef Scope *scope
    cdef Scope *old
    cdef bint looked
    cdef int i
    paths_parse(containers.groups.layout, span(paths_text.data, paths_text.length), &paths)
    looked = roots_of_cgroup_namespace(containers.host, containers.groups, container.init, &paths, &roots, mountinfo)
    without_init_scope(&paths, containers.groups.layout.count)
    if looked:
        for i in range(containers.groups.layout.count):
            if roots.of[i].at != NULL:
                paths.of[i] = roots.of[i]
    scope = scope_new(containers.groups, &paths)
    if scope == NULL:
        return False
    pthread_mutex_lock(&container.lock)
    old = container.scope
    container.scope = scope
    container.looked_at_mounts = looked
    container.next_mount_look_ns = clock_ns(CLOCK_MONOTONIC) + MOUNT_LOOK_NS
    text_clear(&container.init_paths)
    put(&container.init_paths, paths_text.data, paths_text.length)
    pthread_mutex_unlock(&container.lock)
    if old != NULL:
        scope_put(containers.groups, old)
    return not container.init_paths.broken


cdef bint mounts_may_have_come(Container *container) noexcept nogil:
    """A container that was read before it mounted its cgroups is looked at again, at most once a second."""
    return not container.looked_at_mounts and clock_ns(CLOCK_MONOTONIC) >= container.next_mount_look_ns


cdef Container *own_scope(
    Containers *containers, uint64_t pidns, int init, Span text, const CgroupPaths *paths, Text *scratch
) noexcept nogil:
    """The entry of a caller that is a container by its own cgroup: C, per controller. Counted; NULL when memory ran
    out.
    """
    cdef Container *container = container_find(containers, pidns, text.at, span_length(text))
    if container != NULL:
        if container.init == init and init_is_alive(containers, container, scratch):
            return container
        container_remove(containers, container)
        container_put(containers, container)
    container = container_new(containers, pidns, init, scratch)
    if container == NULL:
        return NULL
    put(&container.key, text.at, span_length(text))
    container.scope = scope_new(containers.groups, paths)
    if container.scope == NULL or container.key.broken:
        container_put(containers, container)
        return NULL
    return container_add(containers, container)


cdef int container_of(
    Containers *containers, int pid, bint may_search, Container **found, Text *scratch, Text *other
) noexcept nogil:
    """Find the container of the thread ``pid`` (a number of the daemon's pid namespace). Returns a Placement.

    With PLACED, ``found`` is counted: give it back with container_put. May search /proc, where the kernel does not
    translate pids and the container was not seen before.
    """
    cdef Host *host = containers.host
    cdef char path[32]
    cdef uint64_t pidns
    cdef Container *container
    cdef CgroupPaths paths
    cdef Span text
    cdef Scope *scope
    cdef int init
    cdef bint same
    found[0] = NULL
    if pid <= 0:
        return UNKNOWN_CALLER
    snprintf(path, sizeof(path), b"%d", pid)
    if not namespace_of(host, path, b"pid", &pidns):
        return UNKNOWN_CALLER
    if pidns == host.pidns:
        return place_on_host(containers, pid, found, scratch, other)
    container = container_find(containers, pidns, NULL, 0)
    if container != NULL and not init_is_alive(containers, container, scratch):
        container_remove(containers, container)
        container_put(containers, container)
        container = NULL
    if container == NULL:
        init = find_init(host, pid, pidns, scratch, may_search)
        if init <= 0:
            return UNKNOWN_INIT if init == 0 else SEARCH_NEEDED
        container = container_new(containers, pidns, init, scratch)
        if container == NULL:
            return UNKNOWN_INIT
        if not init_is_alive(containers, container, scratch) or not place_init(containers, container, scratch, other):
            container_put(containers, container)
            return UNKNOWN_INIT
        container = container_add(containers, container)
    else:
        pthread_mutex_lock(&container.lock)
        same = (
            container.init_paths.length == scratch.length
            and memcmp(container.init_paths.data, scratch.data, scratch.length) == 0
        )
        pthread_mutex_unlock(&container.lock)
        if (not same or mounts_may_have_come(container)) and not place_init(containers, container, scratch, other):
            container_put(containers, container)
            return OUT_OF_MEMORY
    # scratch holds init's cgroups unless the container is new; compare with what they were placed by.
    snprintf(path, sizeof(path), b"%d/cgroup", pid)
    if read_record(host.proc_fd, path, scratch) <= 0:
        # A cgroup path too long to be shown is the container's own doing: it stays what its init is.
        found[0] = container
        return PLACED
    pthread_mutex_lock(&container.lock)
    same = (
        container.init_paths.length == scratch.length
        and memcmp(container.init_paths.data, scratch.data, scratch.length) == 0
    )
    pthread_mutex_unlock(&container.lock)
    if same:
        found[0] = container
        return PLACED
    text = span(scratch.data, scratch.length)
    paths_parse(containers.groups.layout, text, &paths)
    scope = scope_take(container)
    if settle_in_scope(containers.groups, scope, &paths):
        scope_put(containers.groups, scope)
        found[0] = container
        return PLACED
    found[0] = own_scope(containers, pidns, container.init, text, &paths, other)
    scope_put(containers.groups, scope)
    container_put(containers, container)
    return PLACED if found[0] != NULL else OUT_OF_MEMORY


cdef int place_on_host(Containers *containers, int pid, Container **found, Text *scratch, Text *other) noexcept nogil:
    cdef char path[32]
    cdef CgroupPaths paths
    cdef Span text
    snprintf(path, sizeof(path), b"%d/cgroup", pid)
    if read_record(containers.host.proc_fd, path, scratch) < 0:
        return UNREADABLE_CALLER
    text = span(scratch.data, scratch.length)
    paths_parse(containers.groups.layout, text, &paths)
    found[0] = own_scope(containers, containers.host.pidns, 1, text, &paths, other)
    return PLACED if found[0] != NULL else OUT_OF_MEMORY


cdef bint container_is_known(Containers *containers, int pid) noexcept nogil:
    """Whether container_of() would find this caller without searching /proc."""
    cdef Host *host = containers.host
    cdef char path[32]
    cdef uint64_t pidns
    cdef Container *container
    cdef Text scratch
    cdef bint known
    snprintf(path, sizeof(path), b"%d", pid)
    if pid <= 0 or not namespace_of(host, path, b"pid", &pidns) or pidns == host.pidns:
        return True
    container = container_find(containers, pidns, NULL, 0)
    if container != NULL:
        container_put(containers, container)
        return True
    text_init(&scratch)
    known = find_init(host, pid, pidns, &scratch, False) != -1
    text_free(&scratch)
    return known


cdef uint64_t container_elapsed_ticks(const Host *host, const Container *container) noexcept nogil:
    """Ticks since init started; its clock, not the wall's."""
    cdef uint64_t now = <uint64_t>host_boottime_ns(host) // (1000000000 // host.ticks_per_second)
    return now - container.init_start_ticks if now > container.init_start_ticks else 0
