# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""What is true of the whole host: its namespaces, clock, online CPUs and the constants that views copy.

Cached here: which CPUs are online, for HOST_FRESH_NS; ``btime`` (read again when the wall clock was set:
CLOCK_REALTIME - CLOCK_BOOTTIME moved by a tenth of a second); and what cannot change while the kernel runs: huge page
sizes and the number of columns of two files.
"""

from libc.stdint cimport int64_t, uint64_t
from libc.stdio cimport snprintf
from libc.string cimport memcmp, memset, strlen

from procview._fast.kept cimport READ_ONCE, kept_drop, kept_init, kept_read, read_path
from procview._fast.posix cimport (
    CLOCK_BOOTTIME,
    CLOCK_MONOTONIC,
    CLOCK_REALTIME,
    DIR,
    ENOENT,
    O_CLOEXEC,
    O_DIRECTORY,
    O_RDONLY,
    _SC_CLK_TCK,
    _SC_PAGESIZE,
    clock_ns,
    close,
    closedir,
    dirent,
    fdopendir,
    openat,
    pthread_mutex_destroy,
    pthread_mutex_init,
    pthread_mutex_lock,
    pthread_mutex_unlock,
    readdir,
    readlinkat,
    stpcpy,
    sysconf,
)
from procview._fast.scan cimport (
    Span,
    next_line,
    scan_keyed,
    scan_u64,
    scan_word,
    span,
    span_starts,
)
from procview._fast.text cimport text_free, text_init


cdef enum:
    HOST_FILE_BYTES = 16 << 20   # no file of /proc that is read here comes near it
    ONLINE_SETTLES_NS = 1000000000


cdef int host_init(Host *host, Keeper *keeper, int proc_fd, int sys_fd, int64_t frozen_boottime_ns) noexcept nogil:
    """0, or -ENOENT where proc has no self/ns/pid: not a proc file system, nor a recording of one. Takes over both
    descriptors.
    """
    cdef int i
    memset(host, 0, sizeof(Host))
    host.keeper = keeper
    host.proc_fd = proc_fd
    host.sys_fd = sys_fd
    snprintf(host.mounts_of, sizeof(host.mounts_of), b"self")
    host.frozen_boottime_ns = frozen_boottime_ns
    host.ticks_per_second = <uint64_t>sysconf(_SC_CLK_TCK)
    host.page_bytes = <uint64_t>sysconf(_SC_PAGESIZE)
    kept_init(&host.meminfo)
    kept_init(&host.online)
    kept_init(&host.overcommit_ratio)
    kept_init(&host.vmstat)
    for i in range(MOST_HUGE_PAGE_SIZES):
        kept_init(&host.nr_hugepages[i])
    pthread_mutex_init(&host.lock, NULL)
    pthread_mutex_init(&host.meminfo_lines.lock, NULL)
    pthread_mutex_init(&host.vmstat_lines.lock, NULL)
    if not namespace_of(host, b"self", b"pid", &host.pidns):
        return -ENOENT
    if not namespace_of(host, b"self", b"cgroup", &host.cgroupns):
        host.cgroupns = 0
    find_huge_page_sizes(host)
    host.huge_page_bytes = transparent_huge_page_bytes(host)
    count_columns(host)
    return 0


cdef void host_free(Host *host) noexcept nogil:
    cdef int i
    kept_drop(host.keeper, &host.meminfo)
    kept_drop(host.keeper, &host.online)
    kept_drop(host.keeper, &host.overcommit_ratio)
    kept_drop(host.keeper, &host.vmstat)
    for i in range(MOST_HUGE_PAGE_SIZES):
        kept_drop(host.keeper, &host.nr_hugepages[i])
    pthread_mutex_destroy(&host.meminfo_lines.lock)
    pthread_mutex_destroy(&host.vmstat_lines.lock)
    pthread_mutex_destroy(&host.lock)
    close(host.proc_fd)
    close(host.sys_fd)


cdef void find_huge_page_sizes(Host *host) noexcept nogil:
    cdef int fd = openat(host.sys_fd, b"kernel/mm/hugepages", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    cdef DIR *directory
    cdef dirent *entry
    cdef Span name
    cdef uint64_t kb
    if fd < 0:
        return
    directory = fdopendir(fd)
    if directory == NULL:
        close(fd)
        return
    while host.huge_page_sizes < MOST_HUGE_PAGE_SIZES:
        entry = readdir(directory)
        if entry == NULL:
            break
        name = span(entry.d_name, strlen(entry.d_name))
        if not span_starts(name, b"hugepages-", 10):
            continue
        name.at += 10
        if not scan_u64(&name, &kb) or kb == 0 or kb > <uint64_t>1 << 40:
            continue
        host.huge_page_kb[host.huge_page_sizes] = kb
        # The hugetlb controller names sizes as mem_fmt() in mm/hugetlb_cgroup.c does.
        if kb >= 1 << 20:
            snprintf(host.huge_page_name[host.huge_page_sizes], 16, b"%luGB", <unsigned long>(kb >> 20))
        elif kb >= 1 << 10:
            snprintf(host.huge_page_name[host.huge_page_sizes], 16, b"%luMB", <unsigned long>(kb >> 10))
        else:
            snprintf(host.huge_page_name[host.huge_page_sizes], 16, b"%luKB", <unsigned long>kb)
        host.huge_page_sizes += 1
    closedir(directory)


cdef uint64_t transparent_huge_page_bytes(Host *host) noexcept nogil:
    cdef Text text
    cdef Span rest
    cdef uint64_t size = 0
    text_init(&text)
    if read_path(host.sys_fd, b"kernel/mm/transparent_hugepage/hpage_pmd_size", &text, HOST_FILE_BYTES) > 0:
        rest = span(text.data, text.length)
        scan_u64(&rest, &size)
    text_free(&text)
    return size


cdef void count_columns(Host *host) noexcept nogil:
    """How many columns diskstats and the softirq line of stat have: they grew with the kernel, and tools look at
    the number.
    """
    cdef Text text
    cdef Span rest
    cdef Span line
    cdef Span word
    text_init(&text)
    host.diskstats_columns = 20   # Linux 5.5 and later; told by the file wherever the host has a disk
    host.softirq_columns = 11
    if read_path(host.proc_fd, b"diskstats", &text, HOST_FILE_BYTES) > 0:
        rest = span(text.data, text.length)
        if next_line(&rest, &line):
            host.diskstats_columns = 0
            while scan_word(&line, &word):
                host.diskstats_columns += 1
    if host.diskstats_columns < 14:
        host.diskstats_columns = 14
    if read_path(host.proc_fd, b"stat", &text, HOST_FILE_BYTES) > 0:
        rest = span(text.data, text.length)
        while next_line(&rest, &line):
            if span_starts(line, b"softirq ", 8):
                host.softirq_columns = -1
                while scan_word(&line, &word):
                    host.softirq_columns += 1
    text_free(&text)


cdef int64_t host_boottime_ns(const Host *host) noexcept nogil:
    return host.frozen_boottime_ns if host.frozen_boottime_ns >= 0 else clock_ns(CLOCK_BOOTTIME)


cdef bint host_is_fresh(const Host *host, int64_t read_ns, int64_t now) noexcept nogil:
    """Whether what was read after then (CLOCK_MONOTONIC) may be shown now. Never of a recording, whose clock stands
    still.
    """
    return host.frozen_boottime_ns < 0 and now - read_ns < HOST_FRESH_NS


cdef uint64_t online_stretch(const Host *host, int64_t now) noexcept nogil:
    """The host's lock is held."""
    return host.online_stretch if host.online_known and now - host.online_since_ns > ONLINE_SETTLES_NS else 0


cdef bint host_online(Host *host, CpuSet *into, uint64_t *stretch, Text *scratch) noexcept nogil:
    """The CPUs that are online. False (and an empty set) where sys does not say. ``stretch``: another number
    whenever they are others; 0 until they have been the same for a while, in which the kernel's cpusets follow.
    """
    cdef int64_t now = clock_ns(CLOCK_MONOTONIC)
    cdef bint known
    stretch[0] = 0
    pthread_mutex_lock(&host.lock)
    known = host.online_known and host_is_fresh(host, host.online_read_ns, now)
    if known:
        into[0] = host.online_set
        stretch[0] = online_stretch(host, now)
    pthread_mutex_unlock(&host.lock)
    if known:
        return True
    if kept_read(host.keeper, &host.online, host.sys_fd, b"devices/system/cpu/online", scratch, READ_ONCE) <= 0:
        cpuset_clear(into)
        return False
    known = cpuset_parse(into, scratch.data, scratch.length) and into.used_words > 0
    pthread_mutex_lock(&host.lock)
    if now >= host.online_read_ns:
        if not known or not host.online_known or not cpuset_is_same(into, &host.online_set):
            host.online_stretch += 1
            host.online_since_ns = now
        host.online_known = known
        host.online_set = into[0]
        host.online_read_ns = now
        stretch[0] = online_stretch(host, now)
    pthread_mutex_unlock(&host.lock)
    return known


cdef uint64_t host_btime(Host *host, Text *scratch) noexcept nogil:
    """Seconds since the epoch at boot, as in /proc/stat; 0 where that does not say."""
    cdef int64_t clock_now = 0
    cdef int64_t moved
    cdef uint64_t btime
    if host.frozen_boottime_ns < 0:
        clock_now = clock_ns(CLOCK_REALTIME) - clock_ns(CLOCK_BOOTTIME)
    pthread_mutex_lock(&host.lock)
    moved = clock_now - host.btime_clock_ns
    if not host.has_btime or moved > 100000000 or moved < -100000000:
        host.btime = 0
        if read_path(host.proc_fd, b"stat", scratch, HOST_FILE_BYTES) > 0:
            if scan_keyed(span(scratch.data, scratch.length), b"btime", &btime):
                host.btime_clock_ns = clock_now
                host.has_btime = True
                host.btime = btime
    btime = host.btime
    pthread_mutex_unlock(&host.lock)
    return btime


cdef void path_of_process(char *path, int pid, const char *file) noexcept nogil:
    """``<pid>/<file>``, or ``<pid>`` with "". There is room for 12 bytes more than ``file`` has. On the way of every
    caller, where snprintf costs as much as half a system call.
    """
    cdef char digits[12]
    cdef int first = sizeof(digits) - 1
    digits[first] = 0
    while True:
        first -= 1
        digits[first] = <char>(c"0" + pid % 10)
        pid //= 10
        if pid == 0:
            break
    path = stpcpy(path, digits + first)
    if file[0]:
        path[0] = c"/"
        stpcpy(path + 1, file)


cdef bint namespace_of(Host *host, const char *process, const char *kind, uint64_t *inode) noexcept nogil:
    """The inode number in ``/proc/<process>/ns/<kind>``. Reading the link is cheaper than following it."""
    cdef char path[64]
    cdef char link[64]
    cdef ssize_t length
    cdef Span rest
    if strlen(process) + strlen(kind) + 5 > sizeof(path):
        return False
    stpcpy(stpcpy(stpcpy(path, process), b"/ns/"), kind)
    length = readlinkat(host.proc_fd, path, link, sizeof(link))
    if length <= 0:
        return False
    rest = span(link, <size_t>length)
    while rest.at < rest.end and rest.at[0] != c"[":
        rest.at += 1
    rest.at += 1
    return rest.at < rest.end and scan_u64(&rest, inode)


cdef void cpuset_clear(CpuSet *cpus) noexcept nogil:
    memset(cpus, 0, sizeof(CpuSet))


cdef void cpuset_add(CpuSet *cpus, int cpu) noexcept nogil:
    cdef int word = cpu >> 6
    if 0 <= cpu < CPU_WORDS * 64:
        cpus.words[word] |= <uint64_t>1 << (cpu & 63)
        if cpus.used_words <= word:
            cpus.used_words = word + 1


cdef bint cpuset_parse(CpuSet *cpus, const char *text, size_t length) noexcept nogil:
    """The kernel's list format: ``0-2,7,9-11``. False where it is none; an empty list is an empty set and True."""
    cdef Span rest = span(text, length)
    cdef uint64_t first
    cdef uint64_t last
    cdef uint64_t cpu
    cpuset_clear(cpus)
    if rest.at < rest.end and rest.at[0] == c"\n":
        return True
    while rest.at < rest.end and rest.at[0] != c"\n":
        if not scan_u64(&rest, &first):
            return False
        last = first
        if rest.at < rest.end and rest.at[0] == c"-":
            rest.at += 1
            if not scan_u64(&rest, &last):
                return False
        if last < first or last >= CPU_WORDS * 64:
            return False
        cpu = first
        while cpu <= last:
            cpuset_add(cpus, <int>cpu)
            cpu += 1
        if rest.at < rest.end and rest.at[0] == c",":
            rest.at += 1
        elif rest.at < rest.end and rest.at[0] != c"\n":
            return False
    return True


cdef int cpuset_count(const CpuSet *cpus) noexcept nogil:
    cdef int count = 0
    cdef int i
    cdef uint64_t word
    for i in range(cpus.used_words):
        word = cpus.words[i]
        while word:
            word &= word - 1
            count += 1
    return count


cdef bint cpuset_is_same(const CpuSet *cpus, const CpuSet *other) noexcept nogil:
    return (
        cpus.used_words == other.used_words
        and memcmp(cpus.words, other.words, <size_t>cpus.used_words * sizeof(uint64_t)) == 0
    )


cdef void cpuset_intersect(CpuSet *cpus, const CpuSet *other) noexcept nogil:
    cdef int i
    for i in range(cpus.used_words):
        cpus.words[i] &= other.words[i]
    while cpus.used_words > 0 and cpus.words[cpus.used_words - 1] == 0:
        cpus.used_words -= 1


cdef int cpuset_next(const CpuSet *cpus, int after) noexcept nogil:
    """The lowest CPU above ``after`` (-1 to begin), or -1."""
    cdef int cpu = after + 1
    cdef int word = cpu >> 6
    cdef uint64_t bits
    if word >= cpus.used_words:
        return -1
    bits = cpus.words[word] & (<uint64_t>-1 << (cpu & 63))
    while bits == 0:
        word += 1
        if word >= cpus.used_words:
            return -1
        bits = cpus.words[word]
    cpu = word << 6
    while not bits & 1:
        bits >>= 1
        cpu += 1
    return cpu
