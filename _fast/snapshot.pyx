# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Taking the numbers of one container at one moment: the step between finding the container and writing a view's
text.
"""

from libc.stdint cimport uint64_t
from libc.stdlib cimport free
from libc.string cimport memset

from procview._fast.cgroup cimport Group, Groups, group_is_there, group_read, group_version
from procview._fast.changes cimport changes_number
from procview._fast.container cimport scope_take
from procview._fast.cpuinfo_host cimport cpuinfo_put, cpuinfo_take
from procview._fast.cpus cimport count_cpus, find_mems
from procview._fast.cputime cimport read_cpus_and_time, read_tasks
from procview._fast.disks cimport read_disks
from procview._fast.events cimport read_events
from procview._fast.host cimport host_boottime_ns
from procview._fast.kept cimport keeper_starved
from procview._fast.layout cimport CONTROLLERS, MEMORY, MEMORY_BY_NODE, PRESSURE_CPU
from procview._fast.load cimport read_load
from procview._fast.meminfo_host cimport meminfo_put
from procview._fast.memory cimport read_memory
from procview._fast.memory_stat cimport stat_lines_free
from procview._fast.scope cimport Scope, scope_put
from procview._fast.text cimport text_clear, text_free
from procview._fast.vmstat_host cimport vmstat_put


cdef enum:
    MOST_IDLE_BYTES = 256 << 10   # of one buffer


cdef void snapshot_init(Snapshot *snapshot) noexcept nogil:
    memset(snapshot, 0, sizeof(Snapshot))


cdef void snapshot_free(Snapshot *snapshot) noexcept nogil:
    text_free(&snapshot.memory_stat)
    stat_lines_free(&snapshot.stat_lines)
    text_free(&snapshot.numa_stat)
    text_free(&snapshot.pressure)
    text_free(&snapshot.scratch)
    text_free(&snapshot.more_scratch)
    free(snapshot.columns)
    free(snapshot.events)
    free(snapshot.touched)
    free(snapshot.disks)
    give_back_shared(snapshot)


cdef void give_back_shared(Snapshot *snapshot) noexcept nogil:
    if snapshot.cpuinfo != NULL:
        cpuinfo_put(snapshot.cpuinfo)
        snapshot.cpuinfo = NULL
    if snapshot.meminfo != NULL:
        meminfo_put(snapshot.meminfo)
        snapshot.meminfo = NULL
    if snapshot.vmstat != NULL:
        vmstat_put(snapshot.vmstat)
        snapshot.vmstat = NULL


cdef int snapshot_take(
    Snapshot *snapshot,
    int needs,
    int which,
    const Settings *settings,
    Containers *containers,
    CpuinfoCache *cpuinfo_cache,
    Container *container,
    uint64_t number,
) noexcept nogil:
    """Fill in the parts named by ``needs``. Returns a Verdict; with any but SCOPED the contents do not count. Limits
    may be as they were when somebody saw that nothing had changed since ``number``; 0: nobody has looked.

    A snapshot may be used again and again: its buffers stay.
    """
    cdef int starved = keeper_starved(containers.host.keeper)
    cdef Scope *scope = scope_take(container)
    cdef int verdict
    snapshot.needs = needs
    snapshot.which = which
    snapshot.settings = settings[0]
    snapshot.number = number if number == changes_number(&containers.changes) else 0
    snapshot.absent = 0
    verdict = fill(snapshot, containers, cpuinfo_cache, container, scope)
    if verdict == SCOPED and snapshot.absent != 0 and has_vanished(containers.groups, scope, snapshot.absent):
        verdict = FAILED
    # What could not be read for want of descriptors looks absent: a limit behind it must not be left out.
    if verdict != HOST_FILE and keeper_starved(containers.host.keeper) != starved:
        verdict = FAILED
    scope_put(containers.groups, scope)
    return verdict


cdef void snapshot_settle(Snapshot *snapshot) noexcept nogil:
    """Until it is used again: hold on to nothing that is shared, nor to a buffer that one odd container made large."""
    give_back_shared(snapshot)
    if snapshot.scratch.capacity > MOST_IDLE_BYTES:
        text_free(&snapshot.scratch)
    if snapshot.more_scratch.capacity > MOST_IDLE_BYTES:
        text_free(&snapshot.more_scratch)


cdef bint has_vanished(Groups *groups, const Scope *scope, unsigned int absent) noexcept nogil:
    """Whether one of them is not absent: its cgroup was removed, or cannot be opened."""
    cdef int i
    if absent & scope.unopened:
        return True
    for i in range(CONTROLLERS):
        if absent & (1 << i) and scope.of[i] != NULL and not group_is_there(groups, scope.of[i]):
            return True
    return False


cdef int fill(
    Snapshot *snapshot, Containers *containers, CpuinfoCache *cpuinfo_cache, Container *container, const Scope *scope
) noexcept nogil:
    cdef Host *host = containers.host
    cdef Groups *groups = containers.groups
    cdef int needs = snapshot.needs
    cdef int verdict = SCOPED
    if needs & NEED_UPTIME and (snapshot.settings.uptime_of_host or container.pidns == host.pidns):
        return HOST_FILE
    if needs & NEED_CPUTIME:
        verdict = read_cpus_and_time(snapshot, host, groups, container, scope)
        if verdict != SCOPED:
            return verdict
    elif needs & NEED_CPUS:
        snapshot.cpus = count_cpus(
            host, groups, scope, snapshot.settings.cpus_by_quota, snapshot.number, &snapshot.allowed, &snapshot.scratch
        )
    # After the CPU time, in which other readers may have counted on meanwhile: else idle for longer than it lives.
    if needs & NEED_UPTIME:
        take_uptime(snapshot, host, container)
    if needs & NEED_NODES:
        read_nodes(snapshot, groups, scope)
    if needs & NEED_CPUINFO:
        snapshot.cpuinfo = cpuinfo_take(cpuinfo_cache, host, &snapshot.scratch)
        if snapshot.cpuinfo == NULL:
            return FAILED
    if needs & (NEED_MEMORY | NEED_SWAP):
        verdict = read_memory(snapshot, host, groups, scope)
        if verdict != SCOPED:
            return verdict
    if needs & NEED_EVENTS:
        snapshot.page_bytes = host.page_bytes
        snapshot.huge_page_bytes = host.huge_page_bytes
        verdict = read_events(snapshot, host, groups, container, scope)
        if verdict != SCOPED:
            return verdict
    if needs & NEED_TASKS:
        read_tasks(snapshot, host, groups, container, scope)
    if needs & NEED_DISKS:
        return read_disks(snapshot, containers, container, scope)
    if needs & NEED_LOAD:
        return read_load(snapshot, containers, container) if snapshot.settings.loadavg else HOST_FILE
    if needs & NEED_PRESSURE:
        return read_pressure(snapshot, groups, scope)
    return verdict


cdef void read_nodes(Snapshot *snapshot, Groups *groups, const Scope *scope) noexcept nogil:
    """Which memory nodes, and what of each: an empty ``numa_stat`` where nothing says so."""
    cdef Group *group = scope.of[MEMORY]
    snapshot.mems_known = find_mems(groups, scope, &snapshot.mems, &snapshot.scratch)
    snapshot.numa_stat_is_v1 = False
    text_clear(&snapshot.numa_stat)
    if group != NULL and group.parent != NULL:
        snapshot.numa_stat_is_v1 = group_version(groups, group) == 1
        if group_read(groups, group, MEMORY_BY_NODE, &snapshot.numa_stat) <= 0:
            text_clear(&snapshot.numa_stat)


cdef void take_uptime(Snapshot *snapshot, const Host *host, const Container *container) noexcept nogil:
    """CLOCK_BOOTTIME since init's start; in a time namespace of init's own, that namespace's CLOCK_BOOTTIME."""
    cdef int64_t now = host_boottime_ns(host)
    cdef int64_t since = <int64_t>(container.init_start_ticks * (1000000000 // host.ticks_per_second))
    if container.init_time_namespace:
        now += container.boottime_offset_ns
        since = 0
    snapshot.uptime_hundredths = <uint64_t>(now - since) // 10000000 if now > since else 0


cdef int read_pressure(Snapshot *snapshot, Groups *groups, const Scope *scope) noexcept nogil:
    cdef Group *group = scope.unified
    if group == NULL:
        return NO_SUCH_FILE
    if group.parent == NULL:
        # On a pure v2 host this is the host itself; beside v1 controllers it says nothing of the container.
        return HOST_FILE if groups.layout.count == 1 else NO_SUCH_FILE
    if group_read(groups, group, PRESSURE_CPU + snapshot.which, &snapshot.pressure) <= 0:
        return NO_SUCH_FILE if group_is_there(groups, group) else FAILED
    return SCOPED
