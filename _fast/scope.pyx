# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The cgroups of a container, one for each controller, and where the container's root R is among them."""

from libc.stdint cimport uint64_t
from libc.stdio cimport snprintf
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memset

from procview._fast.cgroup cimport Group, group_get, group_is_there, group_put
from procview._fast.host cimport namespace_of
from procview._fast.kept cimport read_path
from procview._fast.layout cimport (
    CONTROLLERS,
    Hierarchy,
    Layout,
    MOST_HIERARCHIES,
    controller_bits,
    path_is_below,
)
from procview._fast.posix cimport count_down
from procview._fast.scan cimport (
    Span,
    next_line,
    scan_word,
    span,
    span_is,
    span_length,
    span_starts,
    unescape_octal,
)


cdef enum:
    # Of init's mountinfo. Where a container has more mounts than fit, the rule without them decides.
    MOUNTINFO_BYTES = 1 << 20


cdef Scope *scope_new(Groups *groups, const CgroupPaths *paths) noexcept nogil:
    cdef const Layout *layout = groups.layout
    cdef Scope *scope = <Scope *>calloc(1, sizeof(Scope))
    cdef int i
    cdef int hierarchy
    if scope == NULL:
        return NULL
    scope.references = 1
    for i in range(CONTROLLERS):
        hierarchy = layout.of[i]
        if hierarchy >= 0 and paths.of[hierarchy].at != NULL:
            scope.of[i] = group_get(groups, hierarchy, paths.of[hierarchy])
            if scope.of[i] == NULL:
                scope.unopened |= 1 << i
    if layout.unified >= 0 and paths.of[layout.unified].at != NULL:
        scope.unified = group_get(groups, layout.unified, paths.of[layout.unified])
    return scope


cdef void scope_put(Groups *groups, Scope *scope) noexcept nogil:
    cdef int i
    if count_down(&scope.references) > 0:
        return
    for i in range(CONTROLLERS):
        if scope.of[i] != NULL:
            group_put(groups, scope.of[i])
    if scope.unified != NULL:
        group_put(groups, scope.unified)
    free(scope)


cdef bint scope_has_vanished(Groups *groups, const Scope *scope) noexcept nogil:
    """Whether it had cgroups and none of them exists any more."""
    cdef bint had = False
    cdef int i
    for i in range(CONTROLLERS):
        if scope.of[i] != NULL:
            had = True
            if group_is_there(groups, scope.of[i]):
                return False
    return had and (scope.unified == NULL or not group_is_there(groups, scope.unified))


cdef void without_init_scope(CgroupPaths *paths, int count) noexcept nogil:
    cdef int i
    cdef Span *path
    for i in range(count):
        path = &paths.of[i]
        if path.at != NULL and span_length(path[0]) >= 11 and memcmp(path.end - 11, b"/init.scope", 11) == 0:
            path.end -= 11
            if path.end == path.at:
                path.end += 1   # "/init.scope": the root, "/"


cdef bint roots_of_cgroup_namespace(
    Host *host, Groups *groups, int init, const CgroupPaths *own, CgroupPaths *roots, Text *mountinfo
) noexcept nogil:
    """The roots of init's cgroup mounts as the daemon sees them, where they are init's cgroup or above it. False:
    none found.

    ``roots`` points into ``mountinfo``.
    """
    cdef const Layout *layout = groups.layout
    cdef char path[32]
    cdef uint64_t inode
    cdef Span rest
    cdef Span line
    cdef Span word
    cdef Span root
    cdef Span point
    cdef Span kind
    cdef const Hierarchy *hierarchy
    cdef unsigned int bits
    cdef bint found = False
    cdef int i
    memset(roots, 0, sizeof(CgroupPaths))
    snprintf(path, sizeof(path), b"%d", init)
    if not namespace_of(host, path, b"cgroup", &inode) or inode == host.cgroupns:
        return False
    snprintf(path, sizeof(path), b"%d/mountinfo", init)
    if read_path(host.proc_fd, path, mountinfo, MOUNTINFO_BYTES) <= 0:
        return False
    rest = span(mountinfo.data, mountinfo.length)
    while next_line(&rest, &line):
        scan_word(&line, &word)
        scan_word(&line, &word)
        scan_word(&line, &word)
        if not scan_word(&line, &root) or not scan_word(&line, &point):
            continue
        if not span_starts(point, b"/sys/fs/cgroup", 14):
            continue
        while scan_word(&line, &word) and not span_is(word, b"-", 1):
            pass
        if not scan_word(&line, &kind) or not scan_word(&line, &word):
            continue
        bits = 0
        if span_is(kind, b"cgroup", 6):
            scan_word(&line, &word)
            bits = controller_bits(word)
        elif not span_is(kind, b"cgroup2", 7):
            continue
        root.end = root.at + unescape_octal(<char *>root.at, span_length(root))
        for i in range(layout.count):
            hierarchy = &layout.hierarchy[i]
            if own.of[i].at == NULL or roots.of[i].at != NULL:
                continue
            if bits == 0 and hierarchy.version != 2 or bits != 0 and hierarchy.controllers & bits == 0:
                continue
            if bits != 0 and hierarchy.version != 1:
                continue
            if hierarchy.root_length:
                if not path_is_below(root, span(hierarchy.root, hierarchy.root_length)):
                    continue
                root.at += hierarchy.root_length
            # A mount of the whole hierarchy is the host's own, inherited, and says nothing of init's namespace: so all
            # of them look while LXC still sets a container up, and for good after a bare unshare(CLONE_NEWCGROUP).
            if span_length(root) > 1 and path_is_below(own.of[i], root):
                roots.of[i] = root
                found = True
    return found


cdef bint settle_in_scope(Groups *groups, const Scope *scope, CgroupPaths *paths) noexcept nogil:
    """Replace each of a caller's cgroups that is R or below it by R. True where that goes for all: the caller is in
    the container.

    ``paths`` then points into the scope's groups.
    """
    cdef const Layout *layout = groups.layout
    cdef const Group *own[MOST_HIERARCHIES]
    cdef Span path
    cdef Span above
    cdef bint inside = True
    cdef int i
    memset(own, 0, sizeof(own))
    for i in range(CONTROLLERS):
        if scope.of[i] != NULL:
            own[layout.of[i]] = scope.of[i]
    for i in range(layout.count):
        if own[i] == NULL or paths.of[i].at == NULL:
            continue
        path = paths.of[i]
        while path.at < path.end and path.at[0] == c"/":
            path.at += 1
        above = span(own[i].path, own[i].path_length)
        if path_is_below(path, above):
            paths.of[i] = above
        else:
            inside = False
    return inside
