# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""What a container's cgroups count, by the names of /proc/vmstat: one number for each line of the host's.

memory.stat names its events as vmstat does (mm/memcontrol.c of the kernel takes both from vm_event_name), so a line is
looked up there by its own name, whatever a later kernel adds. Only ``pgpgin`` and ``pgpgout`` mean something else in
cgroup v1's memory.stat (pages charged and uncharged): in vmstat they are KiB read from and written to block
devices, which the I/O controller counts. Kills are in memory.events (v1: memory.oom_control).
"""

from libc.stdint cimport uint64_t
from libc.stdlib cimport realloc
from libc.string cimport memset

from procview._fast.cgroup cimport Group, group_deaths, group_read, group_version
from procview._fast.counters cimport counters_settle
from procview._fast.devices cimport stands_on_others
from procview._fast.layout cimport IO, IO_STAT, MEMORY, MEMORY_EVENTS, MEMORY_STAT
from procview._fast.memory_stat cimport stat_line_name
from procview._fast.posix cimport pthread_mutex_lock, pthread_mutex_unlock
from procview._fast.records cimport save_events
from procview._fast.scan cimport (
    Span,
    next_line,
    scan_keyed,
    scan_u64,
    scan_word,
    span,
    span_is,
    span_length,
    span_starts,
)
from procview._fast.snapshot cimport FAILED, SCOPED
from procview._fast.templates cimport EVENT_NONE, EVENT_UNKNOWN, StatLine, StatLines, VmstatLine, VmstatText
from procview._fast.vmstat_host cimport EVENT, PAGES_IN, PAGES_OUT, bucket_of, vmstat_take


cdef struct Blocks:
    # KiB moved to and from block devices
    bint known
    uint64_t read_kb
    uint64_t written_kb


cdef void touch(Snapshot *snapshot, int event, uint64_t value) noexcept nogil:
    snapshot.events[event] = value
    if 0 <= snapshot.touched_count < snapshot.events_capacity:
        snapshot.touched[snapshot.touched_count] = event
        snapshot.touched_count += 1
    else:
        snapshot.touched_count = -1


cdef int find_event(const VmstatText *vmstat, Span name) noexcept nogil:
    cdef int i
    if span_length(name) == 0:
        return EVENT_NONE
    i = vmstat.first[bucket_of(name)]
    while i >= 0 and not span_is(vmstat.lines[i].name, name.at, span_length(name)):
        i = vmstat.lines[i].following
    return i if i >= 0 else EVENT_NONE


cdef void take_memory_stat(Snapshot *snapshot, StatLines *stat) noexcept nogil:
    """v1: the keys that count the cgroup with all below it, without their ``total_``. Of what is no key, nothing is
    known to be the container's.
    """
    cdef const VmstatText *vmstat = snapshot.vmstat
    cdef StatLine *line
    cdef int i
    if stat.names != vmstat.names:
        for i in range(stat.capacity):
            stat.lines[i].event = EVENT_UNKNOWN
        stat.names = vmstat.names
    for i in range(stat.count):
        line = &stat.lines[i]
        if line.at == NULL:
            continue
        if line.event == EVENT_UNKNOWN:
            line.event = find_event(vmstat, stat_line_name(line))
        if line.event >= 0:
            touch(snapshot, line.event, line.value)


cdef uint64_t value_behind(Span line, const char *key, size_t length) noexcept nogil:
    """The number of ``key`` (``rbytes=``) on a line of io.stat; 0 where it has none."""
    cdef Span word
    cdef uint64_t value = 0
    while scan_word(&line, &word):
        if span_starts(word, key, length):
            word.at += length
            scan_u64(&word, &value)
            break
    return value


cdef void read_blocks(Snapshot *snapshot, Host *host, Groups *groups, Group *group, Blocks *blocks) noexcept nogil:
    """All devices together, but for those that stand on others: what is done on them is done on the others, too."""
    cdef bint v1
    cdef Span rest
    cdef Span line
    cdef Span kind
    cdef uint64_t major
    cdef uint64_t minor
    cdef uint64_t value
    cdef uint64_t read_bytes = 0
    cdef uint64_t written_bytes = 0
    memset(blocks, 0, sizeof(Blocks))
    if group == NULL or group.parent == NULL or group_read(groups, group, IO_STAT, &snapshot.scratch) < 0:
        return
    v1 = group_version(groups, group) == 1
    rest = span(snapshot.scratch.data, snapshot.scratch.length)
    while next_line(&rest, &line):
        if not scan_u64(&line, &major) or line.at == line.end or line.at[0] != c":":
            continue
        line.at += 1
        if not scan_u64(&line, &minor):
            continue
        if v1:
            if not scan_word(&line, &kind) or not scan_u64(&line, &value):
                continue
            if not span_is(kind, b"Read", 4) and not span_is(kind, b"Write", 5):
                continue
            if stands_on_others(host, <unsigned int>major, <unsigned int>minor):
                continue
            if kind.at[0] == c"R":
                read_bytes += value
            else:
                written_bytes += value
        elif not stands_on_others(host, <unsigned int>major, <unsigned int>minor):
            read_bytes += value_behind(line, b"rbytes=", 7)
            written_bytes += value_behind(line, b"wbytes=", 7)
    blocks.known = True
    blocks.read_kb = read_bytes >> 10
    blocks.written_kb = written_bytes >> 10


cdef uint64_t source_of(const Group *group, int which) noexcept nogil:
    """Another number for another cgroup, and for one of the same name made anew: its counters began again."""
    if group == NULL:
        return 0
    return group.hash + <uint64_t>group_deaths(group, which) * <uint64_t>0x9E3779B97F4A7C15


cdef bint reserve_events(Snapshot *snapshot, int count) noexcept nogil:
    cdef uint64_t *larger
    cdef int *places
    if snapshot.events_capacity < count:
        larger = <uint64_t *>realloc(snapshot.events, <size_t>count * sizeof(uint64_t))
        if larger == NULL:
            return False
        snapshot.events = larger
        places = <int *>realloc(snapshot.touched, <size_t>count * sizeof(int))
        if places == NULL:
            return False
        snapshot.touched = places
        snapshot.events_capacity = count
    return True


cdef int read_events(
    Snapshot *snapshot, Host *host, Groups *groups, Container *container, const Scope *scope
) noexcept nogil:
    """Fill ``vmstat`` and ``events``. ``memory`` and ``memory_stat`` are there already. Returns a Verdict."""
    cdef Group *group = scope.of[MEMORY]
    cdef bint counted = snapshot.memory.has_usage
    cdef const VmstatText *vmstat
    cdef Blocks blocks
    cdef uint64_t source
    cdef uint64_t kills = 0
    cdef bint settled
    snapshot.vmstat = vmstat_take(host)
    vmstat = snapshot.vmstat
    if vmstat == NULL or not reserve_events(snapshot, vmstat.count):
        return FAILED
    read_blocks(snapshot, host, groups, scope.of[IO], &blocks)
    if not blocks.known:
        snapshot.absent |= 1 << IO
    if counted and group_read(groups, group, MEMORY_EVENTS, &snapshot.scratch) > 0:
        scan_keyed(span(snapshot.scratch.data, snapshot.scratch.length), b"oom_kill", &kills)
    count_events(snapshot, &blocks, kills, counted)
    if counted:
        take_memory_stat(snapshot, &snapshot.stat_lines)
    source = (source_of(group, MEMORY_STAT) if counted else 0) * 31 + (
        source_of(scope.of[IO], IO_STAT) if blocks.known else 0
    )
    pthread_mutex_lock(&container.lock)
    settled = counters_settle(
        &container.events, source, vmstat.count, snapshot.events, snapshot.touched, snapshot.touched_count
    )
    if settled:
        save_events(container)
    pthread_mutex_unlock(&container.lock)
    return SCOPED if settled else FAILED


cdef void count_events(Snapshot *snapshot, const Blocks *blocks, uint64_t kills, bint counted) noexcept nogil:
    """All but what memory.stat counts. Where a controller is absent: the host's."""
    cdef const VmstatText *vmstat = snapshot.vmstat
    cdef const VmstatLine *line
    cdef int which
    cdef int i
    memset(snapshot.events, 0, <size_t>vmstat.count * sizeof(uint64_t))
    snapshot.touched_count = 0
    for i in range(vmstat.other_count):
        which = vmstat.order[vmstat.amount_count + i]
        line = &vmstat.lines[which]
        if line.kind == PAGES_IN:
            touch(snapshot, which, blocks.read_kb if blocks.known else line.hosts)
        elif line.kind == PAGES_OUT:
            touch(snapshot, which, blocks.written_kb if blocks.known else line.hosts)
        else:
            touch(snapshot, which, kills if counted else line.hosts)
    if counted:
        return
    for i in range(vmstat.count):
        if vmstat.lines[i].kind == EVENT:
            touch(snapshot, i, vmstat.lines[i].hosts)
