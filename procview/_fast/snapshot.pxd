"""Everything a view may know: the numbers of one container at one moment. See ``_fast/snapshot.pyx``.

A view is a pure function of this; ``needs`` says which parts were filled in.
"""

from libc.stdint cimport int64_t, uint64_t

from procview._fast.container cimport Container, Containers
from procview._fast.cpuinfo_host cimport CpuinfoCache, CpuinfoText
from procview._fast.host cimport CpuSet, Host
from procview._fast.settings cimport Settings
from procview._fast.templates cimport MeminfoText, StatLines, VmstatText
from procview._fast.text cimport Text


cdef enum:  # needs
    NEED_CPUS = 1
    NEED_MEMORY = 2
    NEED_SWAP = 4
    NEED_CPUTIME = 8       # and NEED_CPUS
    NEED_TASKS = 16
    NEED_UPTIME = 32
    NEED_DISKS = 64
    NEED_DISK_COUNTS = 128  # and NEED_DISKS
    NEED_LOAD = 256
    NEED_CPUINFO = 512     # and NEED_CPUS
    NEED_PRESSURE = 1024
    NEED_EVENTS = 2048     # and NEED_MEMORY
    NEED_HUGE_PAGES = 4096  # and NEED_MEMORY; with them what else only meminfo has
    NEED_NODES = 8192      # and NEED_CPUS

# What can keep the container's numbers from being shown, so that the host's file is.
cdef enum:  # verdicts
    SCOPED = 0
    HOST_FILE              # this is the host's own number by the rules (root cgroup, a setting): not a failure
    NO_SUCH_FILE           # this caller has no such file
    FAILED                 # could not be scoped

cdef enum:
    # Keys of memory.stat, v2's names
    STAT_ANON
    STAT_FILE
    STAT_KERNEL_STACK
    STAT_PAGETABLES
    STAT_SEC_PAGETABLES
    STAT_PERCPU
    STAT_VMALLOC
    STAT_SHMEM
    STAT_ZSWAP
    STAT_ZSWAPPED
    STAT_FILE_MAPPED
    STAT_FILE_DIRTY
    STAT_FILE_WRITEBACK
    STAT_SWAPCACHED
    STAT_ANON_THP
    STAT_FILE_THP
    STAT_SHMEM_THP
    STAT_INACTIVE_ANON
    STAT_ACTIVE_ANON
    STAT_INACTIVE_FILE
    STAT_ACTIVE_FILE
    STAT_UNEVICTABLE
    STAT_SLAB_RECLAIMABLE
    STAT_SLAB_UNRECLAIMABLE
    STAT_SLAB
    STAT_HUGETLB
    STAT_KEYS

cdef struct Swap:
    uint64_t total_bytes
    uint64_t used_bytes    # <= total

cdef struct HugePages:
    bint known             # the controller is there
    uint64_t total         # pages of the default size
    uint64_t free
    uint64_t reserved
    uint64_t all_sizes_kb

cdef struct Memory:
    bint has_usage         # False: the usage lines are the host's
    bint has_free          # False: MemFree is the host's
    uint64_t total_bytes
    uint64_t free_bytes
    uint64_t stat[STAT_KEYS]   # bytes
    uint64_t overcommit_percent
    Swap swap
    HugePages huge

cdef struct Disk:
    char name[64]
    unsigned int major
    unsigned int minor
    uint64_t size_sectors          # of 512 bytes
    uint64_t read_count
    uint64_t read_bytes
    uint64_t write_count
    uint64_t written_bytes
    uint64_t discard_count
    uint64_t discarded_bytes

cdef struct Snapshot:
    int needs
    int which                      # of the three pressure files
    Settings settings
    uint64_t number                # of the changes since which limits are as noted; 0: they are read
    CpuSet allowed                 # S
    int cpus                       # N: the first N of S are visible
    bint mems_known                # False: no cpuset says which memory nodes
    CpuSet mems                    # nodes, by number
    Text numa_stat
    bint numa_stat_is_v1
    Memory memory
    MeminfoText *meminfo           # the host's
    Text memory_stat
    StatLines stat_lines           # of memory_stat
    uint64_t page_bytes
    uint64_t huge_page_bytes       # of a transparent huge page; 0: the kernel has none
    VmstatText *vmstat             # the host's
    uint64_t *events               # one for each line of it; nr_* aside
    int events_capacity
    int *touched                   # numbers of those that were counted for this snapshot, at most as many
    int touched_count              # -1: all of them were
    uint64_t *columns              # cpus x COLUMNS, ticks
    int columns_capacity           # CPUs
    uint64_t ticks_per_second
    uint64_t btime
    uint64_t tasks
    uint64_t running
    uint64_t blocked
    int softirq_columns
    uint64_t uptime_hundredths
    Disk *disks
    int disk_count
    int disk_capacity
    int diskstats_columns
    uint64_t load_hundredths[3]
    uint64_t threads_running
    uint64_t threads
    uint64_t highest_pid
    CpuinfoText *cpuinfo
    Text pressure
    Text scratch
    Text more_scratch
    unsigned int absent            # bits 1 << Controller: usage came from the host


cdef void snapshot_init(Snapshot *snapshot) noexcept nogil
cdef void snapshot_free(Snapshot *snapshot) noexcept nogil
cdef void snapshot_settle(Snapshot *snapshot) noexcept nogil
cdef int snapshot_take(
    Snapshot *snapshot,
    int needs,
    int which,
    const Settings *settings,
    Containers *containers,
    CpuinfoCache *cpuinfo_cache,
    Container *container,
    uint64_t number,
) noexcept nogil
