# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""A container's CPU time in ticks, by visible CPU, as its cgroup counts it (proc(5), /proc/stat)."""

from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport realloc
from libc.string cimport memset

from procview._fast.accounts cimport (
    ACCOUNTED,
    COLUMNS,
    IDLE,
    NICE,
    NO_MEMORY,
    STALE,
    STEAL,
    SYSTEM,
    USER,
    account,
    account_begin,
    epoch_of,
    less,
    share,
)
from procview._fast.cgroup cimport Group, group_deaths, group_number, group_read, group_version
from procview._fast.container cimport container_elapsed_ticks
from procview._fast.cpus cimport count_cpus
from procview._fast.host cimport cpuset_next, host_btime
from procview._fast.kept cimport read_path
from procview._fast.layout cimport (
    CPU,
    CPUACCT,
    CPUACCT_ALL,
    CPUACCT_PERCPU,
    CPUACCT_STAT,
    CPU_STAT,
    PIDS,
    PIDS_CURRENT,
)
from procview._fast.posix cimport pthread_mutex_lock, pthread_mutex_unlock
from procview._fast.records cimport save_accounts
from procview._fast.scan cimport Span, next_line, scan_keyed, scan_u64, span, span_starts
from procview._fast.snapshot cimport FAILED, SCOPED


cdef enum:
    STAT_BYTES = 16 << 20
    MOST_TAKES = 4   # while the CPUs change under us


cdef bint reserve_columns(Snapshot *snapshot) noexcept nogil:
    cdef uint64_t *columns
    if snapshot.columns_capacity < snapshot.cpus:
        columns = <uint64_t *>realloc(snapshot.columns, <size_t>snapshot.cpus * COLUMNS * sizeof(uint64_t))
        if columns == NULL:
            return False
        snapshot.columns = columns
        snapshot.columns_capacity = snapshot.cpus
    memset(snapshot.columns, 0, <size_t>snapshot.cpus * COLUMNS * sizeof(uint64_t))
    return True


cdef int read_cpus_and_time(
    Snapshot *snapshot, Host *host, Groups *groups, Container *container, const Scope *scope
) noexcept nogil:
    """Fill ``cpus``, ``allowed``, ``columns`` (ticks, by visible CPU) and ``btime``. Returns a Verdict."""
    cdef uint64_t ticket
    cdef int result = STALE
    cdef int take
    for take in range(MOST_TAKES):
        pthread_mutex_lock(&container.lock)
        ticket = account_begin(&container.accounting)
        pthread_mutex_unlock(&container.lock)
        snapshot.cpus = count_cpus(
            host, groups, scope, snapshot.settings.cpus_by_quota, snapshot.number, &snapshot.allowed, &snapshot.scratch
        )
        result = read_cputime(snapshot, host, groups, container, scope, ticket, take == MOST_TAKES - 1)
        if result != STALE:
            break
    return SCOPED if result == ACCOUNTED else FAILED


cdef int read_cputime(
    Snapshot *snapshot,
    Host *host,
    Groups *groups,
    Container *container,
    const Scope *scope,
    uint64_t ticket,
    bint force,
) noexcept nogil:
    """What account() says of it."""
    cdef Group *group = scope.of[CPUACCT]
    cdef uint64_t total[COLUMNS]
    cdef uint64_t elapsed = container_elapsed_ticks(host, container)
    cdef uint64_t throttled
    cdef uint64_t epoch
    cdef bint scoped = False
    cdef int result
    cdef int64_t shift_seconds = 0
    if not reserve_columns(snapshot):
        return NO_MEMORY
    memset(total, 0, sizeof(total))
    snapshot.ticks_per_second = host.ticks_per_second
    snapshot.softirq_columns = host.softirq_columns
    snapshot.btime = host_btime(host, &snapshot.scratch)
    if container.init_time_namespace:
        # As the kernel shifts it (timens_sub_boottime in fs/proc/stat.c).
        shift_seconds = container.boottime_offset_ns // 1000000000
        snapshot.btime = <uint64_t>(<int64_t>snapshot.btime - shift_seconds)
    if group != NULL and group.parent != NULL:
        if group_version(groups, group) == 2:
            scoped = read_v2(snapshot, groups, group, total)
        else:
            scoped = read_v1(snapshot, groups, group, total)
    if scoped:
        throttled = throttled_ticks(snapshot, groups, scope.of[CPU])
        total[STEAL] = throttled
        idle_and_steal(snapshot, elapsed, throttled)
    else:
        snapshot.absent |= 1 << CPUACCT
        if not read_hosts(snapshot, host):
            return NO_MEMORY
    epoch = epoch_of(snapshot.cpus, &snapshot.allowed, counters_of(group) if scoped else 0)
    pthread_mutex_lock(&container.lock)
    result = account(
        &container.accounting, ticket, epoch, snapshot.cpus, snapshot.columns, total if scoped else NULL, elapsed, force
    )
    if result == ACCOUNTED:
        save_accounts(container)
    pthread_mutex_unlock(&container.lock)
    return result


cdef uint64_t counters_of(const Group *group) noexcept nogil:
    """Another number where the counters are others: another cgroup, or one of the same name made anew."""
    cdef uint64_t deaths = (
        <uint64_t>group_deaths(group, CPU_STAT) + group_deaths(group, CPUACCT_ALL) + group_deaths(group, CPUACCT_STAT)
    )
    return group.hash + deaths * <uint64_t>0x9E3779B97F4A7C15


cdef bint read_v2(Snapshot *snapshot, Groups *groups, Group *group, uint64_t *total) noexcept nogil:
    """cpu.stat in microseconds, for all CPUs together: shared evenly. user_usec counts what nice_usec (Linux 6.12)
    does, too.
    """
    cdef uint64_t usec_per_tick = 1000000 // snapshot.ticks_per_second
    cdef uint64_t user
    cdef uint64_t system
    cdef uint64_t nice = 0
    cdef Span text
    cdef int cpu
    if group_read(groups, group, CPU_STAT, &snapshot.scratch) <= 0:
        return False
    text = span(snapshot.scratch.data, snapshot.scratch.length)
    if not scan_keyed(text, b"user_usec", &user) or not scan_keyed(text, b"system_usec", &system):
        return False
    scan_keyed(text, b"nice_usec", &nice)
    total[USER] = less(user, nice) // usec_per_tick
    total[NICE] = nice // usec_per_tick
    total[SYSTEM] = system // usec_per_tick
    for cpu in range(snapshot.cpus):
        snapshot.columns[cpu * COLUMNS + USER] = share(total[USER], snapshot.cpus, cpu)
        snapshot.columns[cpu * COLUMNS + NICE] = share(total[NICE], snapshot.cpus, cpu)
        snapshot.columns[cpu * COLUMNS + SYSTEM] = share(total[SYSTEM], snapshot.cpus, cpu)
    return True


cdef bint read_v1(Snapshot *snapshot, Groups *groups, Group *group, uint64_t *total) noexcept nogil:
    """Nanoseconds by host CPU: the CPU at place p of S counts for visible CPU p mod N, one outside S for all of
    them.
    """
    cdef uint64_t ns_per_tick = 1000000000 // snapshot.ticks_per_second
    cdef uint64_t *columns = snapshot.columns
    cdef uint64_t outside[2]
    cdef Span rest
    cdef Span line
    cdef uint64_t host_cpu
    cdef uint64_t user
    cdef uint64_t system
    cdef uint64_t part
    cdef int next_allowed = cpuset_next(&snapshot.allowed, -1)
    cdef int place = 0
    cdef int cpu
    outside[0] = 0
    outside[1] = 0
    if group_read(groups, group, CPUACCT_ALL, &snapshot.scratch) <= 0:
        return read_v1_before_usage_all(snapshot, groups, group, total)
    rest = span(snapshot.scratch.data, snapshot.scratch.length)
    if not next_line(&rest, &line) or not span_starts(line, b"cpu user system", 15):
        return read_v1_before_usage_all(snapshot, groups, group, total)
    while next_line(&rest, &line):
        if not scan_u64(&line, &host_cpu) or not scan_u64(&line, &user) or not scan_u64(&line, &system):
            return False
        while next_allowed >= 0 and <uint64_t>next_allowed < host_cpu:
            next_allowed = cpuset_next(&snapshot.allowed, next_allowed)
            place += 1
        if next_allowed >= 0 and <uint64_t>next_allowed == host_cpu:
            cpu = place % snapshot.cpus
            columns[cpu * COLUMNS + USER] += user
            columns[cpu * COLUMNS + SYSTEM] += system
        else:
            outside[0] += user
            outside[1] += system
    for cpu in range(snapshot.cpus):
        part = share(outside[0], snapshot.cpus, cpu)
        columns[cpu * COLUMNS + USER] = (columns[cpu * COLUMNS + USER] + part) // ns_per_tick
        part = share(outside[1], snapshot.cpus, cpu)
        columns[cpu * COLUMNS + SYSTEM] = (columns[cpu * COLUMNS + SYSTEM] + part) // ns_per_tick
        total[USER] += columns[cpu * COLUMNS + USER]
        total[SYSTEM] += columns[cpu * COLUMNS + SYSTEM]
    return True


cdef bint read_v1_before_usage_all(
    Snapshot *snapshot, Groups *groups, Group *group, uint64_t *total
) noexcept nogil:
    """cpuacct.stat has user and system ticks of all CPUs, usage_percpu the nanoseconds of each: split each CPU as
    the whole is.
    """
    cdef uint64_t ns_per_tick = 1000000000 // snapshot.ticks_per_second
    cdef uint64_t *columns = snapshot.columns
    cdef uint64_t user
    cdef uint64_t system
    cdef uint64_t usage
    cdef uint64_t user_part
    cdef uint64_t outside = 0
    cdef Span rest
    cdef double user_fraction
    cdef int next_allowed = cpuset_next(&snapshot.allowed, -1)
    cdef int place = 0
    cdef int host_cpu = 0
    cdef int cpu
    if group_read(groups, group, CPUACCT_STAT, &snapshot.scratch) <= 0:
        return False
    rest = span(snapshot.scratch.data, snapshot.scratch.length)
    if not scan_keyed(rest, b"user", &user) or not scan_keyed(rest, b"system", &system):
        return False
    if group_read(groups, group, CPUACCT_PERCPU, &snapshot.scratch) <= 0:
        return False
    memset(columns, 0, <size_t>snapshot.cpus * COLUMNS * sizeof(uint64_t))
    rest = span(snapshot.scratch.data, snapshot.scratch.length)
    while scan_u64(&rest, &usage):
        if next_allowed >= 0 and next_allowed == host_cpu:
            columns[(place % snapshot.cpus) * COLUMNS + USER] += usage
            next_allowed = cpuset_next(&snapshot.allowed, next_allowed)
            place += 1
        else:
            outside += usage
        host_cpu += 1
    user_fraction = <double>user / (<double>user + <double>system) if user + system > 0 else 0.0
    for cpu in range(snapshot.cpus):
        usage = (columns[cpu * COLUMNS + USER] + share(outside, snapshot.cpus, cpu)) // ns_per_tick
        user_part = <uint64_t>(<double>usage * user_fraction)
        if user_part > usage:
            user_part = usage
        columns[cpu * COLUMNS + USER] = user_part
        columns[cpu * COLUMNS + SYSTEM] = usage - user_part
        total[USER] += user_part
        total[SYSTEM] += usage - user_part
    return True


cdef uint64_t throttled_ticks(Snapshot *snapshot, Groups *groups, Group *group) noexcept nogil:
    """What the quota took away, over all CPUs; 0 where nothing says so."""
    cdef uint64_t value
    cdef Span text
    if group == NULL or group.parent == NULL or group_read(groups, group, CPU_STAT, &snapshot.scratch) <= 0:
        return 0
    text = span(snapshot.scratch.data, snapshot.scratch.length)
    if group_version(groups, group) == 2:
        return value // (1000000 // snapshot.ticks_per_second) if scan_keyed(text, b"throttled_usec", &value) else 0
    return value // (1000000000 // snapshot.ticks_per_second) if scan_keyed(text, b"throttled_time", &value) else 0


cdef void idle_and_steal(Snapshot *snapshot, uint64_t elapsed, uint64_t throttled) noexcept nogil:
    cdef uint64_t *columns
    cdef uint64_t left
    cdef uint64_t stolen
    cdef int cpu
    for cpu in range(snapshot.cpus):
        columns = snapshot.columns + cpu * COLUMNS
        left = less(less(less(elapsed, columns[USER]), columns[NICE]), columns[SYSTEM])
        stolen = share(throttled, snapshot.cpus, cpu)
        if stolen > left:
            stolen = left
        columns[STEAL] = stolen
        columns[IDLE] = left - stolen


cdef bint read_hosts(Snapshot *snapshot, Host *host) noexcept nogil:
    """No CPU accounting for this container: the host's own lines of the CPUs that stand behind the visible ones."""
    cdef Span rest
    cdef Span line
    cdef uint64_t host_cpu
    cdef int wanted = cpuset_next(&snapshot.allowed, -1)
    cdef int cpu = 0
    cdef int column
    if read_path(host.proc_fd, b"stat", &snapshot.scratch, STAT_BYTES) <= 0:
        return False
    memset(snapshot.columns, 0, <size_t>snapshot.cpus * COLUMNS * sizeof(uint64_t))
    rest = span(snapshot.scratch.data, snapshot.scratch.length)
    while next_line(&rest, &line) and cpu < snapshot.cpus:
        if not span_starts(line, b"cpu", 3):
            break
        line.at += 3
        if line.at < line.end and line.at[0] == c" ":
            continue   # the line of all CPUs
        if not scan_u64(&line, &host_cpu):
            continue
        while wanted >= 0 and <uint64_t>wanted < host_cpu:
            wanted = cpuset_next(&snapshot.allowed, wanted)
            cpu += 1
        if wanted < 0 or cpu >= snapshot.cpus:
            break
        if <uint64_t>wanted != host_cpu:
            continue
        for column in range(COLUMNS):
            if not scan_u64(&line, &snapshot.columns[cpu * COLUMNS + column]):
                break
        wanted = cpuset_next(&snapshot.allowed, wanted)
        cpu += 1
    return True


cdef void read_tasks(
    Snapshot *snapshot, Host *host, Groups *groups, Container *container, const Scope *scope
) noexcept nogil:
    """``tasks`` (now), and ``running`` and ``blocked`` from the load sampler where it has looked."""
    cdef Group *group = scope.of[PIDS]
    snapshot.running = 1
    snapshot.blocked = 0
    pthread_mutex_lock(&container.lock)
    if container.load.watched and container.load.scanned:
        if container.load.running > 1:
            snapshot.running = container.load.running
        snapshot.blocked = container.load.blocked
    pthread_mutex_unlock(&container.lock)
    if (
        group != NULL and group.parent != NULL
        and group_number(groups, group, PIDS_CURRENT, &snapshot.tasks, &snapshot.scratch) == 0
    ):
        return
    snapshot.absent |= 1 << PIDS
    snapshot.tasks = 0
    if read_path(host.proc_fd, b"stat", &snapshot.scratch, STAT_BYTES) > 0:
        scan_keyed(span(snapshot.scratch.data, snapshot.scratch.length), b"processes", &snapshot.tasks)
