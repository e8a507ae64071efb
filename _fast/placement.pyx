# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Where a container is: its scope R, found from its init's cgroup, and whether that still follows from it.

Several threads may find it at a time, and one may have read before the others, so a new scope replaces the one that
its finder has seen, or none. Which cgroups are in it besides init's is remembered for one at a time.
"""

from libc.stdint cimport INT64_MAX, int64_t, uint64_t
from libc.stdio cimport snprintf
from libc.string cimport memcmp

from procview._fast.container cimport INIT_ALIVE, INIT_UNKNOWN, container_elapsed_ticks, init_state
from procview._fast.host cimport Host, namespace_of
from procview._fast.init cimport is_exiting
from procview._fast.layout cimport CgroupPaths, paths_parse
from procview._fast.posix cimport (
    CLOCK_MONOTONIC,
    add_u64,
    clock_ns,
    i64_read,
    pthread_mutex_lock,
    pthread_mutex_unlock,
    store,
    store_i64,
    store_u64,
    u64_read,
    __ATOMIC_RELAXED,
)
from procview._fast.scan cimport span
from procview._fast.scope cimport (
    Scope,
    roots_of_cgroup_namespace,
    scope_new,
    scope_put,
    without_init_scope,
)
from procview._fast.text cimport put, text_clear


cdef enum:
    MOUNT_LOOK_SECONDS = 1
    YOUNG_SECONDS = 10
    YOUNG_LOOK_MILLISECONDS = 50
    MOST_PLACINGS = 8   # at a time, of a container that is moved on and on


cdef int64_t next_mount_look(const Host *host, const Container *container, bint found) noexcept nogil:
    """When (CLOCK_MONOTONIC) init's mounts are to be looked at again, at the next caller after that.

    A container that is being set up has mounts of its host or of the container around it, which say nothing of its
    own namespace: while it is young, soon again. Later, once they have told, never; else once in a while.
    """
    cdef int64_t now = clock_ns(CLOCK_MONOTONIC)
    if container_elapsed_ticks(host, container) < YOUNG_SECONDS * host.ticks_per_second:
        return now + <int64_t>YOUNG_LOOK_MILLISECONDS * 1000000
    return INT64_MAX if found else now + <int64_t>MOUNT_LOOK_SECONDS * 1000000000


cdef bint place_init(
    Containers *containers, Container *container, Text *paths_text, Text *mountinfo, uint64_t before
) noexcept nogil:
    """Find R from init's cgroup, which is in ``paths_text``, and make it the container's scope, if that still is the
    one of number ``before``: else another thread has read later than this one, perhaps. False when memory ran out.
    """
    cdef CgroupPaths paths
    cdef CgroupPaths roots
    cdef Scope *scope
    cdef Scope *old
    cdef bint looked
    cdef bint stored = True
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
    old = scope
    if container.scope_number == before:
        old = container.scope
        container.scope = scope
        store_i64(&container.next_mount_look_ns, next_mount_look(containers.host, container, looked))
        store_u64(&container.scope_number, add_u64(&containers.scope_count, 1, __ATOMIC_RELAXED))
        store_u64(&container.seen_at, 0)
        text_clear(&container.inside_paths)
        if not is_placed_by(container, paths_text):
            store(&container.is_settled, False)
        text_clear(&container.init_paths)
        put(&container.init_paths, paths_text.data, paths_text.length)
        stored = not container.init_paths.broken
    pthread_mutex_unlock(&container.lock)
    if old != NULL:
        scope_put(containers.groups, old)
    return stored


cdef bint is_same(const Text *text, const Text *other) noexcept nogil:
    return text.length == other.length and (text.length == 0 or memcmp(text.data, other.data, text.length) == 0)


cdef bint is_placed_by(Container *container, const Text *paths) noexcept nogil:
    """Whether these are the cgroups of init that the scope was found by. The container's lock is held."""
    return is_same(&container.init_paths, paths)


cdef bint is_inside(Container *container, const Text *paths) noexcept nogil:
    """Whether a caller of these cgroups is known to be in the scope: they are init's, or were looked at before."""
    cdef bint inside
    pthread_mutex_lock(&container.lock)
    inside = is_placed_by(container, paths) or (
        container.inside_paths.length > 0 and is_same(&container.inside_paths, paths)
    )
    pthread_mutex_unlock(&container.lock)
    return inside


cdef void remember_inside(Container *container, const Scope *scope, const Text *paths) noexcept nogil:
    """What follows from scope and paths alone need not be worked out again."""
    pthread_mutex_lock(&container.lock)
    if container.scope == scope:
        text_clear(&container.inside_paths)
        put(&container.inside_paths, paths.data, paths.length)
        if container.inside_paths.broken:
            text_clear(&container.inside_paths)
    pthread_mutex_unlock(&container.lock)


cdef bint mounts_are_due(const Container *container) noexcept nogil:
    return clock_ns(CLOCK_MONOTONIC) >= i64_read(&container.next_mount_look_ns)


cdef bint mounts_say_the_same(const Containers *containers, Container *container) noexcept nogil:
    """Where they are due: whether they need not be looked at, because init is old and in our own cgroup namespace, of
    which no mount is a root. Then that is so for the next second.
    """
    cdef Host *host = containers.host
    cdef char path[32]
    cdef uint64_t inode
    if container_elapsed_ticks(host, container) < YOUNG_SECONDS * host.ticks_per_second:
        return False
    snprintf(path, sizeof(path), b"%d", container.init)
    if not namespace_of(host, path, b"cgroup", &inode) or inode != host.cgroupns:
        return False
    store_i64(&container.next_mount_look_ns, next_mount_look(host, container, False))
    return True


cdef bint stays_placed(Container *container, const Text *paths, uint64_t number) noexcept nogil:
    """Whether init is where its scope was found by, and its mounts need not be looked at. So it is then until the next
    change after ``number`` (0: nobody would tell).
    """
    cdef bint stays
    pthread_mutex_lock(&container.lock)
    stays = is_placed_by(container, paths) and not mounts_are_due(container)
    if stays and number != 0:
        store_u64(&container.seen_at, number)
    pthread_mutex_unlock(&container.lock)
    return stays


cdef int place_again(
    Containers *containers, Container *container, uint64_t number, Text *scratch, Text *other
) noexcept nogil:
    """See where init is now, and find R anew if it has moved or its mounts are due. Its state, INIT_UNKNOWN also when
    memory ran out; INIT_ALIVE: its /proc/<pid>/cgroup is in ``scratch``.
    """
    cdef uint64_t before
    cdef int state = INIT_UNKNOWN
    cdef int _i
    for _i in range(MOST_PLACINGS):
        before = u64_read(&container.scope_number)
        state = init_state(containers, container, scratch)
        if (
            state != INIT_ALIVE or stays_placed(container, scratch, number)
            or is_exiting(containers.host, container.init, other)
        ):
            break
        if not place_init(containers, container, scratch, other, before):
            return INIT_UNKNOWN
    return state
