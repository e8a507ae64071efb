# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The table of containers, by pid namespace; and by cgroups besides, for callers that are a container by their own."""

from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp

from procview._fast.callers cimport callers_free, callers_init
from procview._fast.changes cimport changes_free, changes_init
from procview._fast.container cimport (
    INIT_GONE,
    container_is_held_once,
    container_put,
    container_ref,
    init_state,
)
from procview._fast.posix cimport (
    ENOMEM,
    pthread_mutex_destroy,
    pthread_mutex_init,
    pthread_mutex_lock,
    pthread_mutex_unlock,
)
from procview._fast.records cimport record_make
from procview._fast.scope cimport scope_has_vanished
from procview._fast.text cimport Text, text_free, text_init


cdef enum:
    BUCKETS = 4096   # a power of two: chains of four where the table is full
    MOST_CONTAINERS = 16384


cdef int containers_init(Containers *containers, Host *host, Groups *groups) noexcept nogil:
    containers.host = host
    containers.groups = groups
    containers.bucket_count = BUCKETS
    containers.count = 0
    containers.sweep_at = 64
    containers.clock = 0
    containers.load_watches = 0
    containers.shared = NULL
    pthread_mutex_init(&containers.lock, NULL)
    containers.scope_count = 0
    containers.as_seen = 0
    callers_init(&containers.callers, host)
    changes_init(&containers.changes)
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
    callers_free(&containers.callers)
    changes_free(&containers.changes)
    pthread_mutex_destroy(&containers.lock)


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


cdef bint is_of_no_use(Containers *containers, Container *container, Text *scratch) noexcept nogil:
    """Whether nobody can be of this container any more."""
    if init_state(containers, container, scratch) == INIT_GONE:
        return True
    # A scope of its own in a pid namespace that lives on, the host's mostly: gone when its cgroups are.
    return container.key.length > 0 and scope_has_vanished(containers.groups, container.scope)


cdef bint is_idle(Container *container) noexcept nogil:
    """Whether only the table holds it. The containers' lock is held, so that nobody can find it there."""
    return container_is_held_once(container)


cdef void sweep_locked(Containers *containers) noexcept nogil:
    """Drop the entries of no use; if there are still too many, those that were used the longest ago."""
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
            if is_idle(container) and is_of_no_use(containers, container, &scratch):
                remove_locked(containers, container)
            container = following
    text_free(&scratch)
    if containers.count > MOST_CONTAINERS - MOST_CONTAINERS // 4:
        oldest_kept = containers.clock - MOST_CONTAINERS // 2 if containers.clock > MOST_CONTAINERS // 2 else 0
        for i in range(containers.bucket_count):
            container = containers.buckets[i]
            while container != NULL:
                following = container.next
                if is_idle(container) and container.last_used < oldest_kept:
                    remove_locked(containers, container)
                container = following
    containers.sweep_at = containers.count * 2 if containers.count > 32 else 64
    if containers.sweep_at > MOST_CONTAINERS:
        # Where files that are open hold more than that, each newcomer would cause a sweep.
        containers.sweep_at = MOST_CONTAINERS
        if containers.count > MOST_CONTAINERS - MOST_CONTAINERS // 8:
            containers.sweep_at = containers.count + MOST_CONTAINERS // 8


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
        record_make(containers.shared, container)
        pthread_mutex_unlock(&containers.lock)
        return container
    pthread_mutex_unlock(&containers.lock)
    container_put(containers, container)
    return there


cdef Container **containers_all(Containers *containers, size_t *count) noexcept nogil:
    """All that there are, each counted for the caller, who frees the list. NULL when memory ran out."""
    cdef Container **found
    cdef Container *container
    cdef size_t i
    count[0] = 0
    pthread_mutex_lock(&containers.lock)
    found = <Container **>malloc((containers.count + 1) * sizeof(Container *))
    if found != NULL:
        for i in range(containers.bucket_count):
            container = containers.buckets[i]
            while container != NULL:
                container_ref(container)
                found[count[0]] = container
                count[0] += 1
                container = container.next
    pthread_mutex_unlock(&containers.lock)
    return found


cdef void containers_record(Containers *containers, Shared *shared) noexcept nogil:
    """From now on every entry has a record in ``shared``; those that are there get one, unless they have."""
    cdef Container *container
    cdef size_t i
    pthread_mutex_lock(&containers.lock)
    containers.shared = shared
    for i in range(containers.bucket_count):
        container = containers.buckets[i]
        while container != NULL:
            record_make(shared, container)
            if container.load.watched:
                containers.load_watches += 1
            container = container.next
    pthread_mutex_unlock(&containers.lock)
