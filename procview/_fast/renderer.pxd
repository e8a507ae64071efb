"""Texts of views: what all renders share, and one render. See ``_fast/renderer.pyx``."""

from libc.stdint cimport int64_t, uint64_t

from procview._fast.cgroup cimport Groups
from procview._fast.container cimport Container, Containers
from procview._fast.cpuinfo_host cimport CpuinfoCache
from procview._fast.host cimport Host
from procview._fast.kept cimport Keeper
from procview._fast.latency cimport Latency
from procview._fast.layout cimport Layout
from procview._fast.posix cimport pthread_mutex_t
from procview._fast.settings cimport Settings
from procview._fast.snapshot cimport Snapshot
from procview._fast.text cimport Text
from procview._fast.views cimport VIEWS, ViewSpec


cdef enum:
    MOST_IDLE_SNAPSHOTS = 16     # kept with their buffers; one is in use for each render under way

cdef enum:
    # Reasons for the host's file, beside the Placements
    REASON_UNSCOPABLE = 8
    REASONS = 9

cdef struct Renderer:
    Keeper keeper
    Host host
    Layout layout
    Groups groups
    Containers containers
    CpuinfoCache cpuinfo
    Latency latencies[VIEWS]
    int by_container             # atomic: containers have settings of their own
    pthread_mutex_t lock         # of what follows
    Settings settings            # of those that have none
    Snapshot *idle[MOST_IDLE_SNAPSHOTS]
    int idle_count
    uint64_t fallbacks[REASONS]
    int absent                   # bits 1 << Controller: some container lacked it

cdef struct Counts:
    uint64_t reads
    uint64_t as_seen
    uint64_t fallbacks[REASONS]
    size_t containers
    size_t cgroups
    int descriptors


cdef int renderer_init(
    Renderer *renderer, int proc_fd, int sys_fd, const char *cgroup_root, int64_t boottime_ns, int most_descriptors
) noexcept nogil
cdef void renderer_free(Renderer *renderer) noexcept nogil
cdef void renderer_configure(Renderer *renderer, const Settings *settings, bint by_container) noexcept nogil
cdef bint is_settled(const Renderer *renderer, const Container *container) noexcept nogil
cdef Settings settings_of(Renderer *renderer, Container *container) noexcept nogil
cdef void renderer_counts(Renderer *renderer, Counts *counts) noexcept nogil
cdef void count_fallback(Renderer *renderer, int reason) noexcept nogil
cdef int place_caller(
    Renderer *renderer, int pid, bint may_search, Container **container, uint64_t *number
) noexcept nogil
cdef Snapshot *take_snapshot(
    Renderer *renderer, Container *container, uint64_t number, int needs, int which, int *verdict
) noexcept nogil
cdef void give_back(Renderer *renderer, Snapshot *snapshot) noexcept nogil
cdef int render(
    Renderer *renderer, const ViewSpec *spec, Container *container, uint64_t number, Text *out
) noexcept nogil
cdef int render_uncounted(
    Renderer *renderer, const ViewSpec *spec, Container *container, uint64_t number, Text *out
) noexcept nogil
cdef bint may_wait(Renderer *renderer, const ViewSpec *spec, Container *container) noexcept nogil
cdef ssize_t whole_text(
    Renderer *renderer, const ViewSpec *spec, Container *container, uint64_t number, Text *out, int *verdict
) noexcept nogil
