"""The files of one cgroup. See ``_fast/cgroup.pyx``."""

from libc.stdint cimport uint64_t

from procview._fast.kept cimport Keeper, Kept
from procview._fast.layout cimport GROUP_FILES, LIMIT_FILES, Layout
from procview._fast.noted cimport Noted
from procview._fast.posix cimport pthread_mutex_t, ssize_t
from procview._fast.scan cimport Span
from procview._fast.text cimport Text


cdef struct Group:
    Group *next
    uint64_t hash
    int references
    int hierarchy
    Group *parent             # NULL for the root of the hierarchy
    Kept files[GROUP_FILES]
    Noted limits[LIMIT_FILES]
    size_t path_length
    char path[1]              # relative to the hierarchy, without leading slash; longer than it looks

cdef struct Groups:
    Keeper *keeper
    const Layout *layout
    pthread_mutex_t lock
    Group **buckets
    size_t bucket_count       # a power of two
    size_t count


cdef int groups_init(Groups *groups, const Layout *layout, Keeper *keeper) noexcept nogil
cdef void groups_free(Groups *groups) noexcept nogil
cdef Group *group_get(Groups *groups, int hierarchy, Span path) noexcept nogil
cdef void group_put(Groups *groups, Group *group) noexcept nogil
cdef int group_version(Groups *groups, const Group *group) noexcept nogil
cdef ssize_t group_read(Groups *groups, Group *group, int which, Text *into) noexcept nogil
cdef ssize_t group_read_limit(
    Groups *groups, Group *group, int which, uint64_t number, Text *into
) noexcept nogil
cdef int group_limit(
    Groups *groups, Group *group, int which, uint64_t number, uint64_t *value, Text *scratch
) noexcept nogil
cdef int group_number(Groups *groups, Group *group, int which, uint64_t *value, Text *scratch) noexcept nogil
cdef int group_deaths(const Group *group, int which) noexcept nogil
cdef bint group_is_there(Groups *groups, const Group *group) noexcept nogil
