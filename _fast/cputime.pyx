# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""A container's CPU time in ticks, by visible CPU, such that no column of /proc/stat ever goes back.

In an *epoch*, while the CPUs of the container stay the same, what is shown is ``start + raw``: raw is what the cgroup says now, shared
over the visible CPUs, and start is fixed. When the CPUs change, a new epoch begins: new CPUs start where the others are on average, what a
vanished CPU had done is shared among the rest, and what was used since the last render is added; start is set so that it fits. Beyond
that, each column keeps its highest value: the kernel's own numbers wobble by a tick.
"""

from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcpy, memset

from procview._fast.cgroup cimport (
    CPU,
    CPU_STAT,
    CPUACCT,
    CPUACCT_ALL,
    CPUACCT_PERCPU,
    CPUACCT_STAT,
    PIDS,
    PIDS_CURRENT,
    Group,
    group_number,
    group_read,
    group_version,
)
from procview._fast.container cimport COLUMNS, Accounting, container_elapsed_ticks
from procview._fast.host cimport CpuSet, cpuset_count, cpuset_next, host_btime
from procview._fast.kept cimport read_path
from procview._fast.posix cimport pthread_mutex_lock, pthread_mutex_unlock
from procview._fast.scan cimport Span, next_line, scan_keyed, scan_u64, scan_word, span, span_starts
from procview._fast.snapshot cimport FAILED, SCOPED


cdef enum:
    # Columns of a cpu line (proc(5)); iowait, irq, softirq, guest and guest_nice are 4, 5, 6, 8, 9
    USER = 0
    NICE = 1
    SYSTEM = 2
    IDLE = 3
    STEAL = 7
    STAT_BYTES = 16 << 20


cdef uint64_t share(uint64_t total, int parts, int part) noexcept nogil:
    """An even share in whole numbers; the remainder goes to the lowest."""
    return total // <uint64_t>parts + (1 if <uint64_t>part < total % <uint64_t>parts else 0)


cdef uint64_t less(uint64_t from_ticks, uint64_t ticks) noexcept nogil:
    return from_ticks - ticks if from_ticks > ticks else 0


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


cdef int read_cputime(
    Snapshot *snapshot, Host *host, Groups *groups, Container *container, const Scope *scope
) noexcept nogil:
    """Fill ``columns`` (ticks, by visible CPU) and ``btime``. Returns a Verdict."""
    cdef Group *group = scope.of[CPUACCT]
    cdef uint64_t total[COLUMNS]
    cdef uint64_t elapsed = container_elapsed_ticks(host, container)
    cdef uint64_t throttled
    cdef bint scoped = False
    cdef int64_t shift_seconds = 0
    if not reserve_columns(snapshot):
        return FAILED
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
            return FAILED
    if not account(snapshot, container, group if scoped else NULL, total, elapsed, scoped):
        return FAILED
    return SCOPED


cdef bint read_v2(Snapshot *snapshot, Groups *groups, Group *group, uint64_t *total) noexcept nogil:
    """cpu.stat in microseconds, for all CPUs together: shared evenly. user_usec counts what nice_usec (Linux 6.13) does, too."""
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
    """Nanoseconds by host CPU: the CPU at place p of S counts for visible CPU p mod N, one outside S for all of them."""
    cdef uint64_t ns_per_tick = 1000000000 // snapshot.ticks_per_second
    cdef uint64_t *columns = snapshot.columns
    cdef uint64_t outside[2]
    cdef Span rest
    cdef Span line
    cdef Span word
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
    """cpuacct.stat has user and system ticks of all CPUs, usage_percpu the nanoseconds of each: split each CPU as the whole is."""
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


# --- the accounts --------------------------------------------------------------------------------------------------

cdef uint64_t epoch_of(const Snapshot *snapshot, const Group *group) noexcept nogil:
    cdef uint64_t value = <uint64_t>14695981039346656037 ^ <uint64_t>snapshot.cpus ^ <uint64_t><size_t>group
    cdef int i
    for i in range(snapshot.allowed.used_words):
        value = (value ^ snapshot.allowed.words[i]) * <uint64_t>1099511628211
    return value


cdef bint grow_accounts(Accounting *accounts, int cpus) noexcept nogil:
    cdef uint64_t *shown
    cdef int64_t *start
    if accounts.capacity >= cpus:
        return True
    shown = <uint64_t *>realloc(accounts.shown, <size_t>cpus * COLUMNS * sizeof(uint64_t))
    if shown == NULL:
        return False
    accounts.shown = shown
    start = <int64_t *>realloc(accounts.start, <size_t>cpus * COLUMNS * sizeof(int64_t))
    if start == NULL:
        return False
    accounts.start = start
    accounts.capacity = cpus
    return True


cdef bint account(
    Snapshot *snapshot, Container *container, const Group *group, const uint64_t *total, uint64_t elapsed, bint scoped
) noexcept nogil:
    """Turn the raw columns into the ones to show. False when memory ran out."""
    cdef Accounting *accounts = &container.accounting
    cdef uint64_t epoch = epoch_of(snapshot, group)
    cdef int cells = snapshot.cpus * COLUMNS
    cdef int64_t value
    cdef int i
    pthread_mutex_lock(&container.lock)
    if not grow_accounts(accounts, snapshot.cpus):
        pthread_mutex_unlock(&container.lock)
        return False
    if not accounts.started:
        accounts.started = True
        memset(accounts.start, 0, <size_t>cells * sizeof(int64_t))
        memcpy(accounts.shown, snapshot.columns, <size_t>cells * sizeof(uint64_t))
    elif accounts.epoch == epoch and accounts.cpus == snapshot.cpus:
        for i in range(cells):
            value = accounts.start[i] + <int64_t>snapshot.columns[i]
            if value > 0 and <uint64_t>value > accounts.shown[i]:
                accounts.shown[i] = <uint64_t>value
    else:
        change_cpus(accounts, snapshot.cpus)
        if scoped:
            add_since_last(accounts, snapshot.cpus, total, elapsed)
        for i in range(cells):
            accounts.start[i] = <int64_t>accounts.shown[i] - <int64_t>snapshot.columns[i]
    accounts.epoch = epoch
    accounts.cpus = snapshot.cpus
    if scoped:
        accounts.elapsed = elapsed
        memcpy(accounts.total, total, sizeof(accounts.total))
    memcpy(snapshot.columns, accounts.shown, <size_t>cells * sizeof(uint64_t))
    pthread_mutex_unlock(&container.lock)
    return True


cdef void change_cpus(Accounting *accounts, int cpus) noexcept nogil:
    """From accounts.cpus to ``cpus``: newcomers get the others' average, the rest share what the vanished had."""
    cdef uint64_t *shown = accounts.shown
    cdef uint64_t sums[COLUMNS]
    cdef int before = accounts.cpus
    cdef int cpu
    cdef int column
    memset(sums, 0, sizeof(sums))
    if cpus > before:
        for cpu in range(before):
            for column in range(COLUMNS):
                sums[column] += shown[cpu * COLUMNS + column]
        for cpu in range(before, cpus):
            for column in range(COLUMNS):
                shown[cpu * COLUMNS + column] = sums[column] // <uint64_t>before
    elif cpus < before:
        for cpu in range(cpus, before):
            for column in range(COLUMNS):
                sums[column] += shown[cpu * COLUMNS + column]
        for cpu in range(cpus):
            for column in range(COLUMNS):
                shown[cpu * COLUMNS + column] += share(sums[column], cpus, cpu)


cdef void add_since_last(Accounting *accounts, int cpus, const uint64_t *total, uint64_t elapsed) noexcept nogil:
    cdef uint64_t *shown
    cdef uint64_t part
    cdef uint64_t left
    cdef int cpu
    cdef int column
    for cpu in range(cpus):
        shown = accounts.shown + cpu * COLUMNS
        left = less(elapsed, accounts.elapsed)
        for column in range(COLUMNS):
            part = share(less(total[column], accounts.total[column]), cpus, cpu)
            shown[column] += part
            left = less(left, part)
        shown[IDLE] += left


# --- tasks ---------------------------------------------------------------------------------------------------------

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
