# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The load of a container: threads that run (R) or wait for a disk (D), sampled every 5 seconds, with the kernel's
own decay.

A container is sampled from the first read of its loadavg until nobody has read it for 15 minutes. One whose CPU
time and number of tasks have not moved since the last sample is not scanned: nothing in it can have changed state.
Counted are the threads of its cgroup and all cgroups below, at most MOST_THREADS of them in MOST_GROUPS cgroups.
"""

from libc.stdint cimport int64_t, uint64_t
from libc.stdio cimport snprintf
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from procview._fast.cgroup cimport Group, Groups, group_is_there, group_number, group_read, group_version
from procview._fast.container cimport Load, container_put, container_ref, scope_take
from procview._fast.host cimport Host, host_boottime_ns
from procview._fast.kept cimport read_list, read_record
from procview._fast.layout cimport (
    CPU,
    CPUACCT,
    CPUACCT_USAGE,
    CPU_STAT,
    IO,
    MEMORY,
    PIDS,
    PIDS_CURRENT,
)
from procview._fast.posix cimport (
    DIR,
    DT_DIR,
    O_CLOEXEC,
    O_DIRECTORY,
    O_NOFOLLOW,
    O_RDONLY,
    close,
    closedir,
    count_now,
    count_up,
    dirent,
    fdopendir,
    fstat,
    openat,
    pthread_mutex_lock,
    pthread_mutex_unlock,
    readdir,
    stat_t,
    store as store_atomic,
)
from procview._fast.records cimport save_load
from procview._fast.scan cimport (
    Span,
    next_line,
    scan_keyed,
    scan_u64,
    skip_blanks,
    span,
    span_starts,
)
from procview._fast.scope cimport Scope, scope_put
from procview._fast.snapshot cimport FAILED, HOST_FILE, SCOPED
from procview._fast.text cimport Text, text_free, text_init


cdef enum:
    UNWATCH_SECONDS = 900
    MOST_THREADS = 65536
    MOST_DEPTH = 64
    MOST_GROUPS = 16384
    THREADS_BYTES = 1 << 20
    # kernel/sched/loadavg.c: fixed point with 11 bits; decay over 1, 5 and 15 minutes for a sample every 5 s
    FIXED_1 = 2048
    EXP_1 = 1884
    EXP_5 = 2014
    EXP_15 = 2037

cdef struct Counts:
    uint64_t running
    uint64_t blocked
    uint64_t threads
    uint64_t highest_pid
    uint64_t groups


cdef Group *group_to_walk(const Scope *scope) noexcept nogil:
    """A hierarchy in which the container has a cgroup of its own. NULL: none, it is the host."""
    cdef int[5] controllers = [CPU, CPUACCT, PIDS, MEMORY, IO]
    cdef Group *group
    cdef int i
    for i in range(5):
        group = scope.of[controllers[i]]
        if group != NULL and group.parent != NULL:
            return group
    return NULL


cdef int levels_of(Host *host, Container *container, Text *scratch) noexcept nogil:
    """How many pid namespaces deep its init is, which never changes: the numbers on the NSpid line. 0: not known."""
    cdef char path[32]
    cdef Span rest
    cdef Span line
    cdef uint64_t number
    cdef int levels = count_now(&container.levels)
    if levels > 0:
        return levels
    snprintf(path, sizeof(path), b"%d/status", container.init)
    if read_record(host.proc_fd, path, scratch) <= 0:
        return 0
    rest = span(scratch.data, scratch.length)
    while next_line(&rest, &line):
        if span_starts(line, b"NSpid:", 6):
            line.at += 6
            while scan_u64(&line, &number):
                levels += 1
    store_atomic(&container.levels, levels)
    return levels


cdef void count_thread(Host *host, uint64_t tid, int level, Counts *counts, Text *scratch) noexcept nogil:
    cdef char path[48]
    cdef Span rest
    cdef Span line
    cdef uint64_t number
    cdef int _level
    snprintf(path, sizeof(path), b"%lu/status", <unsigned long>tid)
    if read_record(host.proc_fd, path, scratch) <= 0:
        return
    counts.threads += 1
    rest = span(scratch.data, scratch.length)
    while next_line(&rest, &line):
        if span_starts(line, b"State:", 6):
            line.at += 6
            skip_blanks(&line)
            if line.at < line.end and line.at[0] == c"R":
                counts.running += 1
            elif line.at < line.end and line.at[0] == c"D":
                counts.blocked += 1
        elif span_starts(line, b"NSpid:", 6):
            line.at += 6
            number = 0
            for _level in range(level):
                if not scan_u64(&line, &number):
                    number = 0   # lives outside the container's pid namespace: has no number in it
                    break
            if number > counts.highest_pid:
                counts.highest_pid = number
            break


cdef void count_directory(
    Host *host, int directory, bint v2, int level, int depth, Counts *counts, Text *list, Text *scratch
) noexcept nogil:
    """The threads of one cgroup, then those below it. ``directory`` is closed."""
    cdef Span rest
    cdef Span line
    cdef uint64_t tid
    cdef DIR *entries
    cdef dirent *entry
    cdef stat_t info
    cdef int below
    counts.groups += 1
    if read_list(directory, b"cgroup.threads" if v2 else b"tasks", list, THREADS_BYTES) > 0:
        rest = span(list.data, list.length)
        while counts.threads < MOST_THREADS and next_line(&rest, &line):
            if scan_u64(&line, &tid) and tid > 0:
                count_thread(host, tid, level, counts, scratch)
    if fstat(directory, &info) == 0 and info.st_nlink == 2:
        close(directory)   # none below: of cgroups this is exact (kernfs), and much is saved by not looking
        return
    entries = fdopendir(directory)
    if entries == NULL:
        close(directory)
        return
    while depth < MOST_DEPTH and counts.threads < MOST_THREADS and counts.groups < MOST_GROUPS:
        entry = readdir(entries)
        if entry == NULL:
            break
        if entry.d_type != DT_DIR or entry.d_name[0] == c".":
            continue
        below = openat(directory, entry.d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
        if below >= 0:
            count_directory(host, below, v2, level, depth + 1, counts, list, scratch)
    closedir(entries)


cdef bint scan(
    Host *host, Groups *groups, Container *container, Group *group, Counts *counts, Text *list, Text *scratch
) noexcept nogil:
    cdef int directory
    cdef int level = levels_of(host, container, scratch)
    memset(counts, 0, sizeof(Counts))
    directory = openat(
        groups.layout.hierarchy[group.hierarchy].directory, group.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC
    )
    if directory < 0:
        return False
    count_directory(
        host, directory, group_version(groups, group) == 2, level if level > 0 else 1, 0, counts, list, scratch
    )
    return True


cdef bint has_moved(Groups *groups, const Scope *scope, Load *load, Text *scratch) noexcept nogil:
    """Whether CPU time or the number of tasks changed since the last sample; True where that cannot be told."""
    cdef Group *cpu = scope.of[CPUACCT]
    cdef Group *pids = scope.of[PIDS]
    cdef uint64_t usage = 0
    cdef uint64_t tasks = 0
    cdef bint moved
    if cpu == NULL or cpu.parent == NULL or pids == NULL or pids.parent == NULL:
        return True
    if group_version(groups, cpu) == 2:
        if group_read(groups, cpu, CPU_STAT, scratch) <= 0:
            return True
        if not scan_keyed(span(scratch.data, scratch.length), b"usage_usec", &usage):
            return True
    elif group_number(groups, cpu, CPUACCT_USAGE, &usage, scratch) != 0:
        return True
    if group_number(groups, pids, PIDS_CURRENT, &tasks, scratch) != 0:
        return True
    moved = not load.scanned or usage != load.last_cpu_usage or tasks != load.last_tasks
    load.last_cpu_usage = usage
    load.last_tasks = tasks
    return moved


cdef uint64_t decayed(uint64_t average, uint64_t factor, uint64_t active) noexcept nogil:
    """calc_load() of include/linux/sched/loadavg.h."""
    cdef uint64_t load = average * factor + active * (FIXED_1 - factor)
    if active >= average:
        load += FIXED_1 - 1
    return load // FIXED_1


cdef void store(Load *load, const Counts *counts, bint new_counts, bint decay) noexcept nogil:
    cdef uint64_t active
    if new_counts:
        load.running = counts.running
        load.blocked = counts.blocked
        load.threads = counts.threads
        load.highest_pid = counts.highest_pid
        load.scanned = True
    if decay:
        active = (load.running + load.blocked) * FIXED_1
        load.average[0] = decayed(load.average[0], EXP_1, active)
        load.average[1] = decayed(load.average[1], EXP_5, active)
        load.average[2] = decayed(load.average[2], EXP_15, active)


cdef bint load_is_watched(Container *container) noexcept nogil:
    """Whether a read finds numbers; if not, it scans, which may take a while."""
    cdef bint watched
    pthread_mutex_lock(&container.lock)
    watched = container.load.watched and container.load.scanned
    pthread_mutex_unlock(&container.lock)
    return watched


cdef int read_load(Snapshot *snapshot, Containers *containers, Container *container) noexcept nogil:
    """Fill the load of the snapshot and go on watching the container. Returns a Verdict."""
    cdef Host *host = containers.host
    cdef Load *load = &container.load
    cdef Scope *scope = scope_take(container)
    cdef Group *group = group_to_walk(scope)
    cdef Counts counts
    cdef bint scanned = False
    cdef int i
    if group == NULL:
        scope_put(containers.groups, scope)
        return HOST_FILE
    if not load_is_watched(container):
        scanned = scan(
            host, containers.groups, container, group, &counts, &snapshot.more_scratch, &snapshot.scratch
        )
        if not scanned:
            scope_put(containers.groups, scope)
            return FAILED
    scope_put(containers.groups, scope)
    pthread_mutex_lock(&container.lock)
    if scanned and not load.watched:
        load.average[0] = 0
        load.average[1] = 0
        load.average[2] = 0
        load.last_cpu_usage = <uint64_t>-1
        store(load, &counts, True, False)
        load.watched = True
        count_up(&containers.load_watches)
    load.last_read_ns = host_boottime_ns(host)
    for i in range(3):
        # Rounded to the next hundredth as loadavg_proc_show() does.
        snapshot.load_hundredths[i] = (load.average[i] + FIXED_1 // 200) * 100 // FIXED_1
    snapshot.threads_running = load.running
    snapshot.threads = load.threads
    snapshot.highest_pid = load.highest_pid
    save_load(container)
    pthread_mutex_unlock(&container.lock)
    return SCOPED


cdef void sample(Containers *containers, Container *container, Text *list, Text *scratch) noexcept nogil:
    cdef Host *host = containers.host
    cdef Scope *scope = scope_take(container)
    cdef Group *group = group_to_walk(scope)
    cdef Load seen
    cdef Counts counts
    cdef bint moved
    cdef bint gone = group == NULL
    pthread_mutex_lock(&container.lock)
    seen = container.load
    pthread_mutex_unlock(&container.lock)
    moved = group != NULL and has_moved(containers.groups, scope, &seen, scratch)
    if moved and not scan(host, containers.groups, container, group, &counts, list, scratch):
        # The cgroup is gone, and the container with it; or there is no descriptor left: the last counts stand.
        gone = not group_is_there(containers.groups, group)
        moved = False
    scope_put(containers.groups, scope)
    pthread_mutex_lock(&container.lock)
    if gone:
        container.load.watched = False
    container.load.last_cpu_usage = seen.last_cpu_usage
    container.load.last_tasks = seen.last_tasks
    store(&container.load, &counts, moved, True)
    save_load(container)
    pthread_mutex_unlock(&container.lock)


cdef int sample_all(Containers *containers) noexcept nogil:
    """One round over the watched containers. Returns how many are still watched, or a negative number when memory
    ran out.
    """
    cdef Container **watched
    cdef Container *container
    cdef Text list
    cdef Text scratch
    cdef size_t count = 0
    cdef size_t i
    cdef int64_t now = host_boottime_ns(containers.host)
    pthread_mutex_lock(&containers.lock)
    watched = <Container **>malloc((containers.count + 1) * sizeof(Container *))
    if watched == NULL:
        pthread_mutex_unlock(&containers.lock)
        return -1
    for i in range(containers.bucket_count):
        container = containers.buckets[i]
        while container != NULL:
            pthread_mutex_lock(&container.lock)
            if container.load.watched:
                if now - container.load.last_read_ns > <int64_t>UNWATCH_SECONDS * 1000000000:
                    container.load.watched = False
                else:
                    container_ref(container)
                    watched[count] = container
                    count += 1
            pthread_mutex_unlock(&container.lock)
            container = container.next
    pthread_mutex_unlock(&containers.lock)
    text_init(&list)
    text_init(&scratch)
    for i in range(count):
        sample(containers, watched[i], &list, &scratch)
        container_put(containers, watched[i])
    text_free(&list)
    text_free(&scratch)
    free(watched)
    return <int>count
