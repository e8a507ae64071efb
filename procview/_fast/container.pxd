"""One container. See ``_fast/container.pyx``; the table: ``_fast/containers.pyx``."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from procview._fast.accounts cimport Accounting
from procview._fast.cgroup cimport Groups
from procview._fast.callers cimport Callers
from procview._fast.changes cimport Changes
from procview._fast.counters cimport Counters
from procview._fast.host cimport Host
from procview._fast.kept cimport Kept
from procview._fast.posix cimport pthread_mutex_t
from procview._fast.scope cimport Scope
from procview._fast.settings cimport Settings
from procview._fast.state cimport Shared
from procview._fast.text cimport Text


cdef struct Load:
    bint watched
    bint scanned              # the counts below are of at least one scan
    int64_t last_read_ns      # CLOCK_BOOTTIME
    uint64_t average[3]       # fixed point, 11 bits, as kernel/sched/loadavg.c
    uint64_t running          # threads in state R
    uint64_t blocked          # threads in state D
    uint64_t threads
    uint64_t highest_pid      # as the container numbers it
    uint64_t last_cpu_usage
    uint64_t last_tasks

cdef struct Device:
    unsigned int major
    unsigned int minor
    uint64_t size_sectors     # of 512 bytes
    char name[64]

cdef struct Devices:
    int64_t found_ns          # CLOCK_BOOTTIME; 0: never
    int count                 # the first is the root disk where has_root
    bint has_root
    int capacity
    Device *list

cdef struct Container:
    Container *next
    uint64_t hash
    int references
    uint64_t pidns
    uint64_t last_used
    uint64_t reads            # atomic
    Shared *shared            # with what follows: its record in memory that outlives this process
    uint32_t unit             # 0: it has none
    int init                  # pid on the host; 0: not known
    int levels                # atomic: how many pid namespaces deep init is; 0: not known
    uint64_t init_start_ticks  # since the host's boot
    bint init_time_namespace
    int64_t boottime_offset_ns  # of init's time namespace
    Kept init_cgroup
    uint64_t seen_at          # atomic: the number of Changes at which init was found alive, and where scope has it
    uint64_t scope_number     # atomic: which scope it is, of all that there were
    int is_settled            # atomic: its settings are those that its cgroups, as they are now, give it
    Text key                  # /proc/<caller>/cgroup of a scope of its own; empty for the container of a pid namespace
    pthread_mutex_t lock      # of what follows
    Scope *scope
    Text init_paths           # /proc/<init>/cgroup as it was when scope was found; empty for a scope of its own
    Text inside_paths         # the same of the last caller elsewhere that was found to be in scope
    int64_t next_mount_look_ns   # atomic: read without the lock, too
    Accounting accounting
    Counters events           # by line of /proc/vmstat
    Load load
    bint devices_in_work
    Devices devices
    bint has_settings         # once they were settled
    Settings settings

cdef enum:  # states of an init
    INIT_ALIVE
    INIT_HIDDEN          # alive, in a cgroup whose path is too long to be shown
    INIT_GONE
    INIT_UNKNOWN         # out of descriptors or memory

cdef struct Containers:
    Host *host
    Groups *groups
    Callers callers
    Changes changes
    uint64_t scope_count       # atomic: so far
    uint64_t as_seen           # atomic: callers of whom nothing had to be read, so far
    pthread_mutex_t lock
    Container **buckets
    size_t bucket_count
    size_t count
    size_t sweep_at
    uint64_t clock
    Shared *shared             # memory that outlives this process; NULL: there is none
    int load_watches           # so far: containers whose load began to be watched


cdef Container *container_new(Containers *containers, uint64_t pidns, int init, Text *scratch) noexcept nogil
cdef void container_ref(Container *container) noexcept nogil
cdef void container_put(Containers *containers, Container *container) noexcept nogil
cdef bint container_is_held_once(Container *container) noexcept nogil
cdef Scope *scope_take(Container *container) noexcept nogil
cdef void container_cgroups(Container *container, Text *out) noexcept nogil
cdef void container_settle(
    Container *container, const Settings *settings, const char *cgroups, size_t length
) noexcept nogil
cdef int init_state(Containers *containers, Container *container, Text *scratch) noexcept nogil
cdef uint64_t container_elapsed_ticks(const Host *host, const Container *container) noexcept nogil
