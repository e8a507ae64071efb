# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The files of one cgroup.

A `Group` is one cgroup of one hierarchy, shared by all containers at or below it, with the files that were read from
it kept open. Parents are linked, since a limit anywhere above counts.
"""

from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy, strlen

from procview._fast.kept cimport (
    READ_ONCE,
    kept_deaths,
    kept_drop,
    kept_init,
    kept_read_anew,
    kept_read_open,
)
from procview._fast.layout cimport PATH_BYTES, Hierarchy
from procview._fast.noted cimport noted_copy, noted_init, noted_store
from procview._fast.posix cimport (
    EBADF,
    EINVAL,
    ENAMETOOLONG,
    ENODEV,
    ENOENT,
    ENOMEM,
    ESRCH,
    fstatat,
    pthread_mutex_destroy,
    pthread_mutex_init,
    pthread_mutex_lock,
    pthread_mutex_unlock,
    stat_t,
)
from procview._fast.scan cimport scan_limit, scan_u64, span, span_length


cdef int groups_init(Groups *groups, const Layout *layout, Keeper *keeper) noexcept nogil:
    groups.keeper = keeper
    groups.layout = layout
    groups.bucket_count = 256
    groups.count = 0
    pthread_mutex_init(&groups.lock, NULL)
    groups.buckets = <Group **>calloc(groups.bucket_count, sizeof(Group *))
    return 0 if groups.buckets != NULL else -ENOMEM


cdef void groups_free(Groups *groups) noexcept nogil:
    """All containers have gone before: nothing is left in the table."""
    free(groups.buckets)
    pthread_mutex_destroy(&groups.lock)


cdef enum:
    # Enough for every name in layout.names, and a slash
    NAME_ROOM = 64


cdef uint64_t hash_on(uint64_t value, const char *at, const char *end) noexcept nogil:
    """FNV-1a, from where an earlier part of the path left off."""
    while at < end:
        value = (value ^ <uint64_t><unsigned char>at[0]) * <uint64_t>1099511628211
        at += 1
    return value


cdef uint64_t hash_start(int hierarchy) noexcept nogil:
    return <uint64_t>14695981039346656037 ^ <uint64_t>hierarchy


cdef void grow_buckets(Groups *groups) noexcept nogil:
    cdef size_t wanted = groups.bucket_count * 2
    cdef Group **buckets = <Group **>calloc(wanted, sizeof(Group *))
    cdef Group *group
    cdef Group *following
    cdef size_t i
    if buckets == NULL:
        return   # longer chains, nothing worse
    for i in range(groups.bucket_count):
        group = groups.buckets[i]
        while group != NULL:
            following = group.next
            group.next = buckets[group.hash & (wanted - 1)]
            buckets[group.hash & (wanted - 1)] = group
            group = following
    free(groups.buckets)
    groups.buckets = buckets
    groups.bucket_count = wanted


cdef Group *find_locked(Groups *groups, int hierarchy, Span path, uint64_t hashed) noexcept nogil:
    """The cgroup, counted, or NULL."""
    cdef Group *group = groups.buckets[hashed & (groups.bucket_count - 1)]
    while group != NULL:
        if (
            group.hash == hashed and group.hierarchy == hierarchy and group.path_length == span_length(path)
            and memcmp(group.path, path.at, group.path_length) == 0
        ):
            group.references += 1
            return group
        group = group.next
    return NULL


cdef Group *add_locked(Groups *groups, int hierarchy, Span path, uint64_t hashed, Group *parent) noexcept nogil:
    """A new cgroup, counted, that takes over the count of ``parent``. NULL when memory ran out."""
    cdef Group *group = <Group *>malloc(sizeof(Group) + span_length(path))
    cdef int i
    if group == NULL:
        return NULL
    group.parent = parent
    group.hash = hashed
    group.references = 1
    group.hierarchy = hierarchy
    for i in range(GROUP_FILES):
        kept_init(&group.files[i])
    for i in range(LIMIT_FILES):
        noted_init(&group.limits[i])
    group.path_length = span_length(path)
    memcpy(group.path, path.at, group.path_length)
    group.path[group.path_length] = 0
    group.next = groups.buckets[hashed & (groups.bucket_count - 1)]
    groups.buckets[hashed & (groups.bucket_count - 1)] = group
    groups.count += 1
    if groups.count > groups.bucket_count:
        grow_buckets(groups)
    return group


cdef Group *get_locked(Groups *groups, int hierarchy, Span path) noexcept nogil:
    """From the root down: a container may nest its cgroups two thousand deep, which is no depth for a stack."""
    cdef uint64_t hashed = hash_start(hierarchy)
    cdef Group *group = find_locked(groups, hierarchy, path, hash_on(hashed, path.at, path.end))
    cdef Group *parent = NULL
    cdef Span upper = path
    if group != NULL:
        return group
    upper.end = path.at   # the root
    while True:
        group = find_locked(groups, hierarchy, upper, hashed)
        if group != NULL:
            if parent != NULL:
                parent.references -= 1   # is counted by ``group`` already
        else:
            group = add_locked(groups, hierarchy, upper, hashed, parent)
            if group == NULL:
                put_locked(groups, parent)
                return NULL
        if upper.end == path.end:
            return group
        parent = group
        path.at = upper.end   # hashed so far
        if upper.end > upper.at:
            upper.end += 1
        while upper.end < path.end and upper.end[0] != c"/":
            upper.end += 1
        hashed = hash_on(hashed, path.at, upper.end)


cdef Group *group_get(Groups *groups, int hierarchy, Span path) noexcept nogil:
    """The cgroup at ``path`` ("/", "/a/b") with its parents, counted. NULL when memory ran out or the path is too
    long to be opened.
    """
    cdef Group *group
    while path.at < path.end and path.at[0] == c"/":
        path.at += 1
    while path.end > path.at and (path.end - 1)[0] == c"/":
        path.end -= 1
    if span_length(path) >= PATH_BYTES - NAME_ROOM:
        return NULL
    pthread_mutex_lock(&groups.lock)
    group = get_locked(groups, hierarchy, path)
    pthread_mutex_unlock(&groups.lock)
    return group


cdef void group_put(Groups *groups, Group *group) noexcept nogil:
    """Give one count back; the last one closes its files, and so on upwards."""
    pthread_mutex_lock(&groups.lock)
    put_locked(groups, group)
    pthread_mutex_unlock(&groups.lock)


cdef void put_locked(Groups *groups, Group *group) noexcept nogil:
    cdef Group **link
    cdef Group *parent
    cdef int i
    while group != NULL:
        group.references -= 1
        if group.references > 0:
            return
        link = &groups.buckets[group.hash & (groups.bucket_count - 1)]
        while link[0] != group:
            link = &link[0].next
        link[0] = group.next
        groups.count -= 1
        for i in range(GROUP_FILES):
            kept_drop(groups.keeper, &group.files[i])
        parent = group.parent
        free(group)
        group = parent


cdef int group_version(Groups *groups, const Group *group) noexcept nogil:
    return groups.layout.hierarchy[group.hierarchy].version


cdef ssize_t group_read(Groups *groups, Group *group, int which, Text *into) noexcept nogil:
    """One file of the cgroup: its length in bytes, or a negative errno (-ENOENT: absent)."""
    cdef char path[PATH_BYTES]
    cdef const Hierarchy *hierarchy
    cdef const char *name
    cdef size_t name_length
    cdef ssize_t got = kept_read_open(groups.keeper, &group.files[which], into, READ_ONCE)
    if got != -EBADF and got != -ENODEV and got != -ESRCH:
        return got
    hierarchy = &groups.layout.hierarchy[group.hierarchy]
    name = groups.layout.names[hierarchy.version - 1][which]
    name_length = strlen(name)
    if name_length == 0:
        return -ENOENT
    if group.path_length + 1 + name_length >= PATH_BYTES:
        return -ENAMETOOLONG
    memcpy(path, group.path, group.path_length)
    if group.path_length:
        path[group.path_length] = c"/"
        memcpy(path + group.path_length + 1, name, name_length + 1)
    else:
        memcpy(path, name, name_length + 1)
    return kept_read_anew(groups.keeper, &group.files[which], hierarchy.directory, path, into, READ_ONCE)


cdef ssize_t group_read_limit(
    Groups *groups, Group *group, int which, uint64_t number, Text *into
) noexcept nogil:
    """As group_read, of one of LIMIT_FILES: as it is now, or was when its reader saw that nothing had changed since
    ``number``. 0: as it is now.
    """
    cdef ssize_t got
    if number == 0:
        return group_read(groups, group, which, into)
    if not noted_copy(&group.limits[which], number, into, &got):
        got = group_read(groups, group, which, into)
        noted_store(&group.limits[which], number, into, got)
    return got


cdef int group_limit(
    Groups *groups, Group *group, int which, uint64_t number, uint64_t *value, Text *scratch
) noexcept nogil:
    """A file that holds a limit (scan_limit), of LIMIT_FILES unless ``number`` is 0; read as group_read_limit does. 0,
    or a negative errno (-EINVAL: it held something else).
    """
    cdef ssize_t got = group_read_limit(groups, group, which, number, scratch)
    if got < 0:
        return <int>got
    return 0 if scan_limit(span(scratch.data, scratch.length), value) else -EINVAL


cdef int group_number(Groups *groups, Group *group, int which, uint64_t *value, Text *scratch) noexcept nogil:
    """A file that holds one number. 0, or a negative errno (-EINVAL: it held something else)."""
    cdef ssize_t got = group_read(groups, group, which, scratch)
    cdef Span rest
    if got < 0:
        return <int>got
    rest = span(scratch.data, scratch.length)
    return 0 if scan_u64(&rest, value) else -EINVAL


cdef int group_deaths(const Group *group, int which) noexcept nogil:
    """Changes when the cgroup was removed and made anew under its old name: its counters began again."""
    return kept_deaths(&group.files[which])


cdef bint group_is_there(Groups *groups, const Group *group) noexcept nogil:
    """Whether the cgroup still exists: tells a controller that is absent from a cgroup that was removed."""
    cdef stat_t info
    cdef const char *path = b"."
    if group.path_length:
        path = group.path
    return fstatat(groups.layout.hierarchy[group.hierarchy].directory, path, &info, 0) == 0
