# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Texts of views: what all renders share, and one render.

The way through is one: container_of -> snapshot_take -> the view's render. Nothing here needs the GIL, and any number
of threads may be in it at once.
"""

from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from procview._fast.caller cimport PLACED, SEARCH_NEEDED, container_of
from procview._fast.cgroup cimport groups_free, groups_init
from procview._fast.containers cimport containers_free, containers_init
from procview._fast.cpuinfo_host cimport cpuinfo_cache_free, cpuinfo_cache_init
from procview._fast.disks cimport devices_are_fresh
from procview._fast.host cimport host_free, host_init
from procview._fast.kept cimport keeper_free, keeper_init, read_path
from procview._fast.latency cimport latency_add, latency_count
from procview._fast.layout cimport layout_free, layout_read
from procview._fast.load cimport load_is_watched
from procview._fast.meminfo_host cimport meminfo_forget
from procview._fast.posix cimport (
    CLOCK_MONOTONIC,
    ENOMEM,
    clock_ns,
    count_now,
    count_u64,
    pthread_mutex_destroy,
    pthread_mutex_init,
    pthread_mutex_lock,
    pthread_mutex_unlock,
    set_bits,
    store,
    u64_now,
)
from procview._fast.snapshot cimport (
    FAILED,
    HOST_FILE,
    NEED_DISKS,
    NEED_LOAD,
    SCOPED,
    snapshot_free,
    snapshot_init,
    snapshot_settle,
    snapshot_take,
)
from procview._fast.text cimport text_free, text_init
from procview._fast.views cimport VIEWS
from procview._fast.vmstat_host cimport vmstat_forget


cdef enum:
    HOST_FILE_BYTES = 64 << 20   # more than any of the files has on the largest host


cdef int renderer_init(
    Renderer *renderer, int proc_fd, int sys_fd, const char *cgroup_root, int64_t boottime_ns, int most_descriptors
) noexcept nogil:
    """0 or a negative errno: -ENOENT where proc is no proc file system; another one where its mountinfo cannot be
    read. Takes over both descriptors; after an error nothing is left to be freed.
    """
    cdef int result
    memset(renderer, 0, sizeof(Renderer))
    keeper_init(&renderer.keeper, most_descriptors)
    result = host_init(&renderer.host, &renderer.keeper, proc_fd, sys_fd, boottime_ns)
    if result == 0:
        result = layout_read(&renderer.layout, &renderer.host, cgroup_root)
    if result == 0 and groups_init(&renderer.groups, &renderer.layout, &renderer.keeper) < 0:
        layout_free(&renderer.layout)
        result = -ENOMEM
    if result == 0 and containers_init(&renderer.containers, &renderer.host, &renderer.groups) < 0:
        groups_free(&renderer.groups)
        layout_free(&renderer.layout)
        result = -ENOMEM
    if result < 0:
        host_free(&renderer.host)
        keeper_free(&renderer.keeper)
        return result
    cpuinfo_cache_init(&renderer.cpuinfo)
    pthread_mutex_init(&renderer.lock, NULL)
    return 0


cdef void renderer_free(Renderer *renderer) noexcept nogil:
    cdef int i
    for i in range(renderer.idle_count):
        snapshot_free(renderer.idle[i])
        free(renderer.idle[i])
    containers_free(&renderer.containers)
    groups_free(&renderer.groups)
    cpuinfo_cache_free(&renderer.cpuinfo)
    meminfo_forget(&renderer.host)
    vmstat_forget(&renderer.host)
    layout_free(&renderer.layout)
    host_free(&renderer.host)
    keeper_free(&renderer.keeper)
    pthread_mutex_destroy(&renderer.lock)


cdef void renderer_configure(Renderer *renderer, const Settings *settings, bint by_container) noexcept nogil:
    """The next render sees them. With ``by_container``, only one of a container that was never settled."""
    pthread_mutex_lock(&renderer.lock)
    renderer.settings = settings[0]
    store(&renderer.by_container, by_container)
    pthread_mutex_unlock(&renderer.lock)


cdef bint is_settled(const Renderer *renderer, const Container *container) noexcept nogil:
    """Whether its settings are known; else Python has to be asked, which alone knows why somebody has which."""
    return not count_now(&renderer.by_container) or count_now(&container.is_settled)


cdef void prefer_own(const Renderer *renderer, Container *container, Settings *settings) noexcept nogil:
    if not count_now(&renderer.by_container):
        return
    pthread_mutex_lock(&container.lock)
    if container.has_settings:
        settings[0] = container.settings
    pthread_mutex_unlock(&container.lock)


cdef Settings settings_of(Renderer *renderer, Container *container) noexcept nogil:
    cdef Settings settings
    pthread_mutex_lock(&renderer.lock)
    settings = renderer.settings
    pthread_mutex_unlock(&renderer.lock)
    prefer_own(renderer, container, &settings)
    return settings


cdef void renderer_counts(Renderer *renderer, Counts *counts) noexcept nogil:
    """Since the start: reads and fallbacks; and how much there is now of the rest."""
    cdef int i
    counts.reads = 0
    for i in range(VIEWS):
        counts.reads += latency_count(&renderer.latencies[i])
    counts.as_seen = u64_now(&renderer.containers.as_seen)
    pthread_mutex_lock(&renderer.lock)
    counts.fallbacks = renderer.fallbacks
    pthread_mutex_unlock(&renderer.lock)
    pthread_mutex_lock(&renderer.containers.lock)
    counts.containers = renderer.containers.count
    pthread_mutex_unlock(&renderer.containers.lock)
    pthread_mutex_lock(&renderer.groups.lock)
    counts.cgroups = renderer.groups.count
    pthread_mutex_unlock(&renderer.groups.lock)
    counts.descriptors = count_now(&renderer.keeper.open_count)


cdef void count_fallback(Renderer *renderer, int reason) noexcept nogil:
    pthread_mutex_lock(&renderer.lock)
    renderer.fallbacks[reason] += 1
    pthread_mutex_unlock(&renderer.lock)


cdef int place_caller(
    Renderer *renderer, int pid, bint may_search, Container **container, uint64_t *number
) noexcept nogil:
    """The container of a caller, counted, and ``number`` as container_of. Returns a Placement; with any but PLACED
    there is none.
    """
    cdef Text scratch
    cdef Text other
    cdef int placement
    text_init(&scratch)
    text_init(&other)
    placement = container_of(&renderer.containers, pid, may_search, container, number, &scratch, &other)
    text_free(&scratch)
    text_free(&other)
    if placement != PLACED and placement != SEARCH_NEEDED:
        count_fallback(renderer, placement)
    return placement


cdef Snapshot *take_snapshot(
    Renderer *renderer, Container *container, uint64_t number, int needs, int which, int *verdict
) noexcept nogil:
    """The container's numbers now (limits: see snapshot_take), to be given back; NULL when memory ran out."""
    cdef Snapshot *snapshot = NULL
    cdef Settings settings
    verdict[0] = FAILED
    pthread_mutex_lock(&renderer.lock)
    settings = renderer.settings
    if renderer.idle_count > 0:
        renderer.idle_count -= 1
        snapshot = renderer.idle[renderer.idle_count]
    pthread_mutex_unlock(&renderer.lock)
    if snapshot == NULL:
        snapshot = <Snapshot *>calloc(1, sizeof(Snapshot))
        if snapshot == NULL:
            return NULL
        snapshot_init(snapshot)
    prefer_own(renderer, container, &settings)
    verdict[0] = snapshot_take(
        snapshot, needs, which, &settings, &renderer.containers, &renderer.cpuinfo, container, number
    )
    return snapshot


cdef void give_back(Renderer *renderer, Snapshot *snapshot) noexcept nogil:
    snapshot_settle(snapshot)
    pthread_mutex_lock(&renderer.lock)
    if snapshot.absent & ~count_now(&renderer.absent):
        set_bits(&renderer.absent, snapshot.absent)
    if renderer.idle_count < MOST_IDLE_SNAPSHOTS:
        renderer.idle[renderer.idle_count] = snapshot
        renderer.idle_count += 1
        snapshot = NULL
    pthread_mutex_unlock(&renderer.lock)
    if snapshot != NULL:
        snapshot_free(snapshot)
        free(snapshot)


cdef int render(
    Renderer *renderer, const ViewSpec *spec, Container *container, uint64_t number, Text *out
) noexcept nogil:
    """The container's text (limits: see snapshot_take). Returns a Verdict; with any but SCOPED there is none."""
    cdef int64_t begun_ns = clock_ns(CLOCK_MONOTONIC)
    cdef int verdict = render_uncounted(renderer, spec, container, number, out)
    count_u64(&container.reads)
    latency_add(&renderer.latencies[spec.number], clock_ns(CLOCK_MONOTONIC) - begun_ns)
    return verdict


cdef int render_uncounted(
    Renderer *renderer, const ViewSpec *spec, Container *container, uint64_t number, Text *out
) noexcept nogil:
    """As render, for who is not a reader."""
    cdef int verdict
    cdef Snapshot *snapshot = take_snapshot(renderer, container, number, spec.needs, spec.which, &verdict)
    if snapshot == NULL:
        return FAILED
    if verdict == SCOPED:
        spec.render(snapshot, out)
        if out.broken:
            verdict = FAILED
    give_back(renderer, snapshot)
    return verdict


cdef bint may_wait(Renderer *renderer, const ViewSpec *spec, Container *container) noexcept nogil:
    """Whether the next render may wait for what a container controls, or take long."""
    if container == NULL:
        return False
    if spec.needs & NEED_DISKS:
        return not settings_of(renderer, container).devices_of_host and not devices_are_fresh(&renderer.host, container)
    if spec.needs & NEED_LOAD:
        return settings_of(renderer, container).loadavg and not load_is_watched(container)
    return False


cdef ssize_t whole_text(
    Renderer *renderer, const ViewSpec *spec, Container *container, uint64_t number, Text *out, int *verdict
) noexcept nogil:
    """What a reader in ``container`` (NULL: who sees the host) is to get: its text, or the host's file where that is
    it or where the container's cannot be told. Returns its length in bytes or a negative errno.
    """
    verdict[0] = HOST_FILE if container == NULL else render(renderer, spec, container, number, out)
    if verdict[0] == HOST_FILE or verdict[0] == FAILED:
        return read_path(
            renderer.host.sys_fd if spec.of_sys else renderer.host.proc_fd, spec.host_path, out, HOST_FILE_BYTES
        )
    return <ssize_t>out.length
