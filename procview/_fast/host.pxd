"""What is true of the whole host. See ``_fast/host.pyx``."""

from libc.stdint cimport int64_t, uint64_t

from procview._fast.kept cimport Keeper, Kept
from procview._fast.posix cimport pthread_mutex_t, ssize_t
from procview._fast.templates cimport MeminfoCache, VmstatCache
from procview._fast.text cimport Text


cdef enum:
    STACKINGS = 64           # a power of two
    CPU_WORDS = 128          # 64 bits each: 8,192 CPUs, the most that Linux can be built for
    MOST_HUGE_PAGE_SIZES = 4
    HOST_FRESH_NS = 100000000   # for how long what is the host's own may be shown as it was: see docs/performance.md

cdef struct CpuSet:
    uint64_t words[CPU_WORDS]
    int used_words           # words from here on are zero

cdef struct Stacking:
    # Whether a block device stands on others
    unsigned int major
    unsigned int minor
    int64_t read_ns          # CLOCK_MONOTONIC; 0: never
    bint stands

cdef struct Host:
    Keeper *keeper
    int proc_fd
    int sys_fd
    char mounts_of[16]       # whose mount table is the host's: a pid, or "self"
    uint64_t pidns           # inode numbers of the daemon's own namespaces
    uint64_t cgroupns
    int64_t frozen_boottime_ns   # -1: ask the clock
    uint64_t ticks_per_second
    uint64_t page_bytes
    uint64_t huge_page_bytes     # of a transparent huge page; 0: there are none
    Kept meminfo
    Kept online
    Kept overcommit_ratio
    Kept vmstat
    Kept nr_hugepages[MOST_HUGE_PAGE_SIZES]
    int huge_page_sizes
    uint64_t huge_page_kb[MOST_HUGE_PAGE_SIZES]
    char huge_page_name[MOST_HUGE_PAGE_SIZES][16]    # as in hugetlb.<name>.max: "2MB"
    int diskstats_columns
    MeminfoCache meminfo_lines
    VmstatCache vmstat_lines
    pthread_mutex_t lock     # of what follows
    CpuSet online_set
    bint online_known
    int64_t online_read_ns   # CLOCK_MONOTONIC; 0: never
    int64_t online_since_ns  # CLOCK_MONOTONIC: when it was first read so
    uint64_t online_stretch  # how often it was not as it had been
    Stacking stacking[STACKINGS]
    bint has_btime
    int64_t btime_clock_ns   # CLOCK_REALTIME - CLOCK_BOOTTIME when btime was read
    uint64_t btime
    int softirq_columns


cdef int host_init(Host *host, Keeper *keeper, int proc_fd, int sys_fd, int64_t frozen_boottime_ns) noexcept nogil
cdef void host_free(Host *host) noexcept nogil
cdef bint host_is_fresh(const Host *host, int64_t read_ns, int64_t now) noexcept nogil
cdef int64_t host_boottime_ns(const Host *host) noexcept nogil
cdef bint host_online(Host *host, CpuSet *into, uint64_t *stretch, Text *scratch) noexcept nogil
cdef uint64_t host_btime(Host *host, Text *scratch) noexcept nogil
cdef void path_of_process(char *path, int pid, const char *file) noexcept nogil
cdef bint namespace_of(Host *host, const char *process, const char *kind, uint64_t *inode) noexcept nogil

cdef void cpuset_clear(CpuSet *cpus) noexcept nogil
cdef void cpuset_add(CpuSet *cpus, int cpu) noexcept nogil
cdef bint cpuset_parse(CpuSet *cpus, const char *text, size_t length) noexcept nogil
cdef int cpuset_count(const CpuSet *cpus) noexcept nogil
cdef bint cpuset_is_same(const CpuSet *cpus, const CpuSet *other) noexcept nogil
cdef void cpuset_intersect(CpuSet *cpus, const CpuSet *other) noexcept nogil
cdef int cpuset_next(const CpuSet *cpus, int after) noexcept nogil
