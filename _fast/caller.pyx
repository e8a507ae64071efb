# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""From a caller's pid to its container: whose numbers it is shown.

Let *init* be pid 1 of the caller's pid namespace, C the caller's cgroup, I init's. The container's cgroup R is the
root of init's cgroup namespace where that is I or above it, else I without a trailing /init.scope; C itself where C
is not R nor below R, or where the caller lives in the host's pid namespace. On v1 all this for each controller on
its own.

Everything about cgroups is read anew for each caller, or is known not to have changed since (``changes``); what a
thread's number means is remembered only as long as the kernel says that it is the same thread (``callers``). Cached:
where init's cgroup namespace has its root, once init is 10 s old and until its cgroup changes (while no mount says so,
looked for again at most once a second).
"""

from libc.stdint cimport uint64_t
from libc.stdio cimport snprintf

from procview._fast.callers cimport (
    Asking,
    asking_anew,
    asking_end,
    asking_is_as_seen,
    asking_known,
    asking_read,
    asking_seen,
    asking_watch,
)
from procview._fast.changes cimport changes_number
from procview._fast.container cimport (
    INIT_ALIVE,
    INIT_GONE,
    INIT_HIDDEN,
    INIT_UNKNOWN,
    Container,
    container_new,
    container_put,
    init_state,
    scope_take,
)
from procview._fast.containers cimport container_add, container_find, container_remove
from procview._fast.host cimport Host, namespace_of
from procview._fast.init cimport find_init, is_exiting
from procview._fast.kept cimport is_starvation, read_record
from procview._fast.layout cimport CgroupPaths, is_root_in_v1, paths_parse
from procview._fast.placement cimport (
    is_inside,
    mounts_are_due,
    mounts_say_the_same,
    place_again,
    place_init,
    remember_inside,
)
from procview._fast.posix cimport (
    EACCES,
    EPERM,
    ESRCH,
    count_u64,
    ssize_t,
    u64_read,
)
from procview._fast.scan cimport Span, span, span_length
from procview._fast.scope cimport Scope, scope_new, scope_put, settle_in_scope
from procview._fast.text cimport put, text_free, text_init


cdef Container *own_scope(
    Containers *containers, uint64_t pidns, int init, Span text, const CgroupPaths *settled, Text *scratch
) noexcept nogil:
    """The entry of a caller that is a container by its own cgroup: C, per controller. Counted; NULL when memory ran
    out.

    ``settled`` are its paths where they are not those in ``text``.
    """
    cdef CgroupPaths paths
    cdef Container *container = container_find(containers, pidns, text.at, span_length(text))
    cdef int state
    if container != NULL:
        state = init_state(containers, container, scratch) if container.init == init else INIT_GONE
        if state == INIT_ALIVE or state == INIT_HIDDEN:
            return container
        if state == INIT_GONE:
            container_remove(containers, container)
        container_put(containers, container)
        if state == INIT_UNKNOWN:
            return NULL
    container = container_new(containers, pidns, init, scratch)
    if container == NULL:
        return NULL
    put(&container.key, text.at, span_length(text))
    if settled == NULL:
        paths_parse(containers.groups.layout, text, &paths)
        settled = &paths
    container.scope = scope_new(containers.groups, settled)
    if container.scope == NULL or container.key.broken:
        container_put(containers, container)
        return NULL
    return container_add(containers, container)


cdef int new_container(
    Containers *containers, int pid, uint64_t pidns, bint may_search, Container **found, Text *scratch, Text *other
) noexcept nogil:
    """An entry for the pid namespace of ``pid``, in the table and counted. Returns a Placement."""
    cdef Host *host = containers.host
    cdef char path[32]
    cdef Container *container
    cdef int init = find_init(host, pid, pidns, scratch, may_search)
    if init <= 0:
        return UNKNOWN_INIT if init == 0 else SEARCH_NEEDED
    container = container_new(containers, pidns, init, scratch)
    if container == NULL:
        return UNKNOWN_INIT
    if init_state(containers, container, scratch) != INIT_ALIVE:
        container_put(containers, container)
        return UNKNOWN_INIT
    if is_exiting(host, init, other):
        # Its cgroups say nothing any more: the caller's count.
        snprintf(path, sizeof(path), b"%d/cgroup", pid)
        if read_record(host.proc_fd, path, scratch) <= 0:
            container_put(containers, container)
            return UNREADABLE_CALLER
    if not place_init(containers, container, scratch, other, container.scope_number):
        container_put(containers, container)
        return OUT_OF_MEMORY
    found[0] = container_add(containers, container)
    return PLACED


cdef int container_of(
    Containers *containers, int pid, bint may_search, Container **found, uint64_t *number, Text *scratch, Text *other
) noexcept nogil:
    """Find the container of the thread ``pid`` (a number of the daemon's pid namespace). Returns a Placement.

    With PLACED, ``found`` is counted: give it back with container_put; and ``number`` is that (``changes``) since which
    nothing has changed, or 0: nobody has asked. May search /proc, where the kernel does not
    translate pids and the container was not seen before.
    """
    cdef Asking asking
    cdef int result
    found[0] = NULL
    number[0] = 0
    if pid <= 0:
        return UNKNOWN_CALLER
    if asking_known(&containers.callers, pid, &asking):
        found[0] = as_seen(containers, &asking, number)
        result = PLACED
        if found[0] == NULL:
            result = place(containers, &asking, may_search, found, scratch, other)
        if result != PLACED and result != OUT_OF_MEMORY:
            asking_read(&containers.callers, &asking, scratch)   # ESRCH: its place is for who has its number now
        asking_end(&containers.callers, &asking)
        if result == PLACED or result == OUT_OF_MEMORY:
            return result
        # That thread has gone, and what was found before this was known counts for nothing.
    result = asking_anew(&containers.callers, pid, &asking)
    if result < 0:
        return UNREADABLE_CALLER if result == -EACCES or result == -EPERM else UNKNOWN_CALLER
    result = place(containers, &asking, may_search, found, scratch, other)
    asking_end(&containers.callers, &asking)
    return result


cdef Container *as_seen(Containers *containers, const Asking *asking, uint64_t *since) noexcept nogil:
    """The container of a known caller, where nothing has changed since it was placed there (``since`` that number);
    counted. Else NULL.
    """
    cdef uint64_t number = changes_number(&containers.changes)
    cdef Container *container
    if number == 0 or asking.pidns == containers.host.pidns:
        return NULL
    container = container_find(containers, asking.pidns, NULL, 0)
    if container == NULL:
        return NULL
    if (
        u64_read(&container.seen_at) == number
        and (not mounts_are_due(container) or mounts_say_the_same(containers, container))
        and asking_is_as_seen(
            &containers.callers, asking, &containers.changes, number, u64_read(&container.scope_number)
        )
    ):
        count_u64(&containers.as_seen)
        since[0] = number
        return container
    container_put(containers, container)
    return NULL


cdef int place(
    Containers *containers, Asking *asking, bint may_search, Container **found, Text *scratch, Text *other
) noexcept nogil:
    """As container_of. Of a known caller that has gone: UNKNOWN_CALLER."""
    cdef Host *host = containers.host
    cdef int pid = asking.tid
    cdef uint64_t pidns = asking.pidns
    cdef bint was_known = asking.known != NULL
    cdef bint init_has_said = False
    # Whatever is seen from here on is so until the next change.
    cdef uint64_t number = changes_number(&containers.changes) if was_known else 0
    cdef uint64_t scope_number = 0
    cdef Container *container
    cdef CgroupPaths paths
    cdef Span text
    cdef Scope *scope
    cdef ssize_t got
    cdef int state
    if pidns == host.pidns:
        return place_on_host(containers, asking, found, scratch, other)
    if number != 0:
        asking_watch(&containers.callers, asking)
    container = container_find(containers, pidns, NULL, 0)
    if container != NULL:
        state = place_again(containers, container, number, scratch, other)
        if state == INIT_GONE:
            container_remove(containers, container)
        if state == INIT_GONE or state == INIT_UNKNOWN:
            container_put(containers, container)
            container = NULL
        if state == INIT_UNKNOWN:
            return OUT_OF_MEMORY
    if container == NULL:
        state = new_container(containers, pid, pidns, may_search, &container, scratch, other)
        if state != PLACED:
            return state
    elif state == INIT_ALIVE:
        scope_number = u64_read(&container.scope_number)
        # It lives, so nobody else has its number; and where it is, is in ``scratch`` already.
        init_has_said = was_known and pid == container.init
    if not init_has_said:
        got = asking_read(&containers.callers, asking, scratch)
        if was_known and got == -ESRCH or is_starvation(got):
            container_put(containers, container)
            return OUT_OF_MEMORY if is_starvation(got) else UNKNOWN_CALLER
        if got <= 0:
            # A cgroup path too long to be shown is the container's own doing: it stays what its init is.
            found[0] = container
            return PLACED
    if is_inside(container, scratch):
        asking_seen(asking, number, scope_number)
        found[0] = container
        return PLACED
    text = span(scratch.data, scratch.length)
    paths_parse(containers.groups.layout, text, &paths)
    scope = scope_take(container)
    if settle_in_scope(containers.groups, scope, &paths):
        remember_inside(container, scope, scratch)
        asking_seen(asking, number, scope_number)
        found[0] = container
    elif is_root_in_v1(containers.groups.layout, &paths) and is_exiting(host, pid, other):
        found[0] = container
    if found[0] != NULL:
        scope_put(containers.groups, scope)
        return PLACED
    found[0] = own_scope(containers, pidns, container.init, text, &paths, other)
    scope_put(containers.groups, scope)
    container_put(containers, container)
    return PLACED if found[0] != NULL else OUT_OF_MEMORY


cdef int place_on_host(
    Containers *containers, Asking *asking, Container **found, Text *scratch, Text *other
) noexcept nogil:
    if asking_read(&containers.callers, asking, scratch) < 0:
        return UNREADABLE_CALLER
    found[0] = own_scope(
        containers, containers.host.pidns, 1, span(scratch.data, scratch.length), NULL, other
    )
    return PLACED if found[0] != NULL else OUT_OF_MEMORY


cdef Container *container_again(
    Containers *containers, uint64_t pidns, int init, uint64_t init_start_ticks, Span key, Text *scratch, Text *other
) noexcept nogil:
    """The entry that another daemon had for this init, or, with a ``key``, for a caller of these cgroups. Counted; NULL
    where there is no such init any more.
    """
    cdef Container *container
    cdef Container *own
    cdef CgroupPaths paths
    cdef Scope *scope
    if pidns == containers.host.pidns:
        return own_scope(containers, pidns, 1, key, NULL, other) if span_length(key) > 0 else NULL
    container = container_find(containers, pidns, NULL, 0)
    if container == NULL:
        container = container_new(containers, pidns, init, scratch)
        if container == NULL:
            return NULL
        if (
            container.init_start_ticks != init_start_ticks
            or init_state(containers, container, scratch) != INIT_ALIVE
            or not place_init(containers, container, scratch, other, container.scope_number)
        ):
            container_put(containers, container)
            return NULL
        container = container_add(containers, container)
    if container.init_start_ticks != init_start_ticks:
        container_put(containers, container)
        return NULL
    if span_length(key) == 0:
        return container
    paths_parse(containers.groups.layout, key, &paths)
    scope = scope_take(container)
    settle_in_scope(containers.groups, scope, &paths)
    own = own_scope(containers, pidns, init, key, &paths, other)
    scope_put(containers.groups, scope)
    container_put(containers, container)
    return own


cdef bint container_is_known(Containers *containers, int pid) noexcept nogil:
    """Whether container_of() would find this caller without searching /proc."""
    cdef Host *host = containers.host
    cdef char path[32]
    cdef uint64_t pidns
    cdef Asking asking
    cdef Container *container
    cdef Text scratch
    cdef bint known
    if pid <= 0:
        return True
    if asking_known(&containers.callers, pid, &asking):
        asking_end(&containers.callers, &asking)
        pidns = asking.pidns
    else:
        snprintf(path, sizeof(path), b"%d", pid)
        if not namespace_of(host, path, b"pid", &pidns):
            return True
    if pidns == host.pidns:
        return True
    container = container_find(containers, pidns, NULL, 0)
    if container != NULL:
        container_put(containers, container)
        return True
    text_init(&scratch)
    known = find_init(host, pid, pidns, &scratch, False) != -1
    text_free(&scratch)
    return known
