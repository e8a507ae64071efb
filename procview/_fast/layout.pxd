"""Where controllers are mounted, what their files are called. See ``_fast/layout.pyx``."""

from procview._fast.host cimport Host, MOST_HUGE_PAGE_SIZES
from procview._fast.scan cimport Span


cdef enum:  # controllers
    MEMORY
    CPU
    CPUACCT
    CPUSET
    IO
    PIDS
    HUGETLB
    CONTROLLERS

cdef enum:  # files of a group
    # Limits: only who writes to a cgroup changes them, or (of the cpuset) CPUs that come and go
    MEMORY_LIMIT
    SWAP_LIMIT      # v1: of memory and swap together
    SWAPPINESS      # v1 only
    CPU_QUOTA
    CPU_PERIOD      # v1 only: v2 has both in cpu.max
    CPUSET_EFFECTIVE
    LIMIT_FILES
    MEMORY_USAGE = LIMIT_FILES
    MEMORY_STAT
    MEMORY_EVENTS   # v1: memory.oom_control, for its oom_kill
    MEMORY_BY_NODE
    SWAP_USAGE      # v1: of memory and swap together
    KMEM_USAGE      # v1 only
    CPU_STAT
    CPUACCT_USAGE   # v1 only
    CPUACCT_ALL     # v1 only
    CPUACCT_STAT    # v1 only
    CPUACCT_PERCPU  # v1 only
    CPUSET_CPUS     # v1 only: v2's may ask for more than is granted
    CPUSET_MEMS_EFFECTIVE
    CPUSET_MEMS     # v1 only, as CPUSET_CPUS
    IO_STAT         # v1: bytes
    IO_SERVICED     # v1 only: operations
    PIDS_CURRENT
    PRESSURE_CPU    # v2 only, as are the other two
    PRESSURE_MEMORY
    PRESSURE_IO
    HUGETLB_FILES   # from here, for each size: the four of HUGETLB_LIMIT and so on
    GROUP_FILES = HUGETLB_FILES + 4 * MOST_HUGE_PAGE_SIZES

cdef enum:  # of one size of huge pages
    HUGETLB_LIMIT
    HUGETLB_USAGE
    HUGETLB_RESERVED_LIMIT   # Linux 5.7; counts what is reserved, used or not
    HUGETLB_RESERVED_USAGE
    HUGETLB_FILES_OF_SIZE

cdef enum:
    MOST_HIERARCHIES = 16
    PATH_BYTES = 4096
    NAME_BYTES = 64

cdef struct Hierarchy:
    int version               # 1 or 2
    int directory             # O_PATH descriptor of the mount point
    unsigned int controllers  # bits 1 << Controller
    char root[PATH_BYTES]     # what of /proc/<pid>/cgroup paths lies above the mount ("" mostly)
    size_t root_length

cdef struct Layout:
    int count
    Hierarchy hierarchy[MOST_HIERARCHIES]
    int of[CONTROLLERS]       # index into hierarchy, -1: mounted nowhere
    int unified               # the v2 one, or -1
    char names[2][GROUP_FILES][NAME_BYTES]

cdef struct CgroupPaths:
    Span of[MOST_HIERARCHIES]  # at == NULL: not named


cdef int layout_read(Layout *layout, Host *host, const char *cgroup_root) noexcept nogil
cdef void layout_free(Layout *layout) noexcept nogil
cdef unsigned int controller_bits(Span names) noexcept nogil
cdef void paths_parse(const Layout *layout, Span text, CgroupPaths *paths) noexcept nogil
cdef bint is_root_in_v1(const Layout *layout, const CgroupPaths *paths) noexcept nogil
cdef bint path_is_below(Span path, Span ancestor) noexcept nogil
