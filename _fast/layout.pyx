# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Where controllers are mounted (v1, v2, hybrid), what their files are called, and the paths of /proc/<pid>/cgroup."""

from libc.stdio cimport snprintf
from libc.string cimport memchr, memcmp, memcpy, memset, strlen

from procview._fast.kept cimport read_path
from procview._fast.posix cimport AT_FDCWD, O_CLOEXEC, O_DIRECTORY, O_PATH, close, openat
from procview._fast.scan cimport (
    next_line,
    scan_word,
    span,
    span_is,
    span_length,
    span_starts,
    unescape_octal,
)
from procview._fast.text cimport Text, text_free, text_init


cdef enum:
    MOUNTINFO_BYTES = 16 << 20


cdef unsigned int controller_bits(Span names) noexcept nogil:
    """The controllers of this product in a comma-separated list (``cpu,cpuacct``, ``rw,memory``)."""
    cdef unsigned int bits = 0
    cdef Span name
    cdef const char *comma
    while names.at < names.end:
        comma = <const char *>memchr(names.at, c",", span_length(names))
        name.at = names.at
        name.end = comma if comma != NULL else names.end
        names.at = name.end + 1
        if span_is(name, b"memory", 6):
            bits |= 1 << MEMORY
        elif span_is(name, b"cpu", 3):
            bits |= 1 << CPU
        elif span_is(name, b"cpuacct", 7):
            bits |= 1 << CPUACCT
        elif span_is(name, b"cpuset", 6):
            bits |= 1 << CPUSET
        elif span_is(name, b"blkio", 5) or span_is(name, b"io", 2):
            bits |= 1 << IO
        elif span_is(name, b"pids", 4):
            bits |= 1 << PIDS
        elif span_is(name, b"hugetlb", 7):
            bits |= 1 << HUGETLB
    return bits


cdef int layout_read(Layout *layout, Host *host, const char *cgroup_root) noexcept nogil:
    """Find the hierarchies in /proc/self/mountinfo; mount points below /sys/fs/cgroup are looked for below
    ``cgroup_root``.

    0, or a negative errno where mountinfo cannot be read. A host without any cgroup mount is an empty layout, not
    an error.
    """
    cdef Text text
    cdef Text controllers
    cdef Span rest
    cdef Span line
    cdef ssize_t got
    cdef int i
    memset(layout, 0, sizeof(Layout))
    layout.unified = -1
    for i in range(CONTROLLERS):
        layout.of[i] = -1
    name_files(layout, host)
    text_init(&text)
    text_init(&controllers)
    got = read_path(host.proc_fd, b"self/mountinfo", &text, MOUNTINFO_BYTES)
    if got < 0:
        text_free(&text)
        return <int>got
    rest = span(text.data, text.length)
    while next_line(&rest, &line) and layout.count < MOST_HIERARCHIES:
        add_hierarchy(layout, line, cgroup_root, &controllers)
    text_free(&text)
    text_free(&controllers)
    # v1 first: a controller is in one hierarchy at a time, but cpu.stat of v2 counts CPU time without a controller.
    for i in range(layout.count):
        if layout.hierarchy[i].version == 1:
            take_controllers(layout, i)
    if layout.unified >= 0:
        take_controllers(layout, layout.unified)
    return 0


cdef void take_controllers(Layout *layout, int hierarchy) noexcept nogil:
    cdef int i
    for i in range(CONTROLLERS):
        if layout.of[i] < 0 and layout.hierarchy[hierarchy].controllers & (1 << i):
            layout.of[i] = hierarchy


cdef void layout_free(Layout *layout) noexcept nogil:
    cdef int i
    for i in range(layout.count):
        close(layout.hierarchy[i].directory)
    layout.count = 0


cdef void add_hierarchy(Layout *layout, Span line, const char *cgroup_root, Text *scratch) noexcept nogil:
    """One line of mountinfo (proc(5)): id parent maj:min root point options [fields] - type source super-options."""
    cdef Hierarchy *hierarchy = &layout.hierarchy[layout.count]
    cdef Span word
    cdef Span root
    cdef Span point
    cdef int version = 0
    cdef int i
    cdef int _i
    cdef unsigned int bits
    cdef char path[PATH_BYTES]
    cdef size_t prefix
    for _i in range(3):
        if not scan_word(&line, &word):
            return
    if not scan_word(&line, &root) or not scan_word(&line, &point):
        return
    while scan_word(&line, &word) and not span_is(word, b"-", 1):
        pass
    if not scan_word(&line, &word):
        return
    if span_is(word, b"cgroup", 6):
        version = 1
    elif span_is(word, b"cgroup2", 7):
        version = 2
    else:
        return
    if not scan_word(&line, &word):
        return
    scan_word(&line, &word)
    bits = controller_bits(word) if version == 1 else 0
    if (version == 1 and bits == 0) or (version == 2 and layout.unified >= 0):
        return
    for i in range(layout.count):
        if version == 1 and layout.hierarchy[i].version == 1 and layout.hierarchy[i].controllers & bits:
            return   # the same hierarchy mounted a second time
    if span_length(root) >= PATH_BYTES or span_length(point) >= PATH_BYTES:
        return
    prefix = 0
    path[0] = 0
    if span_starts(point, b"/sys/fs/cgroup", 14) and (span_length(point) == 14 or point.at[14] == c"/"):
        prefix = strlen(cgroup_root)
        point.at += 14
    if prefix + span_length(point) >= PATH_BYTES:
        return
    memcpy(path, cgroup_root, prefix)
    memcpy(path + prefix, point.at, span_length(point))
    path[prefix + unescape_octal(path + prefix, span_length(point))] = 0
    hierarchy.directory = openat(AT_FDCWD, path, O_PATH | O_DIRECTORY | O_CLOEXEC)
    if hierarchy.directory < 0:
        return
    hierarchy.version = version
    hierarchy.controllers = bits
    memcpy(hierarchy.root, root.at, span_length(root))
    hierarchy.root_length = unescape_octal(hierarchy.root, span_length(root))
    if hierarchy.root_length == 1:
        hierarchy.root_length = 0   # "/": nothing to take off
    if version == 2:
        layout.unified = layout.count
        # cpu.stat's usage is there without any controller; the rest is what v1 has not taken.
        hierarchy.controllers = 1 << CPUACCT
        if read_path(hierarchy.directory, b"cgroup.controllers", scratch, PATH_BYTES) > 0:
            for i in range(<int>scratch.length):
                if scratch.data[i] == c" " or scratch.data[i] == c"\n":
                    scratch.data[i] = c","
            hierarchy.controllers |= controller_bits(span(scratch.data, scratch.length))
    layout.count += 1


cdef void name_file(Layout *layout, int which, const char *v1, const char *v2) noexcept nogil:
    snprintf(layout.names[0][which], NAME_BYTES, b"%s", v1)
    snprintf(layout.names[1][which], NAME_BYTES, b"%s", v2)


cdef void name_huge_file(
    Layout *layout, int which, const char *size, const char *v1, const char *v2
) noexcept nogil:
    snprintf(layout.names[0][which], NAME_BYTES, b"hugetlb.%s.%s", size, v1)
    snprintf(layout.names[1][which], NAME_BYTES, b"hugetlb.%s.%s", size, v2)


cdef void name_files(Layout *layout, Host *host) noexcept nogil:
    """Documentation/admin-guide/cgroup-v1/ and cgroup-v2.rst of the kernel; "" where a version has no such file."""
    cdef int i
    cdef int first
    cdef const char *size
    name_file(layout, MEMORY_LIMIT, b"memory.limit_in_bytes", b"memory.max")
    name_file(layout, MEMORY_USAGE, b"memory.usage_in_bytes", b"memory.current")
    name_file(layout, MEMORY_STAT, b"memory.stat", b"memory.stat")
    name_file(layout, MEMORY_EVENTS, b"memory.oom_control", b"memory.events")
    name_file(layout, MEMORY_BY_NODE, b"memory.numa_stat", b"memory.numa_stat")
    name_file(layout, SWAP_LIMIT, b"memory.memsw.limit_in_bytes", b"memory.swap.max")
    name_file(layout, SWAP_USAGE, b"memory.memsw.usage_in_bytes", b"memory.swap.current")
    name_file(layout, SWAPPINESS, b"memory.swappiness", b"")
    name_file(layout, KMEM_USAGE, b"memory.kmem.usage_in_bytes", b"")
    name_file(layout, CPU_QUOTA, b"cpu.cfs_quota_us", b"cpu.max")
    name_file(layout, CPU_PERIOD, b"cpu.cfs_period_us", b"")
    name_file(layout, CPU_STAT, b"cpu.stat", b"cpu.stat")
    name_file(layout, CPUACCT_USAGE, b"cpuacct.usage", b"")
    name_file(layout, CPUACCT_ALL, b"cpuacct.usage_all", b"")
    name_file(layout, CPUACCT_STAT, b"cpuacct.stat", b"")
    name_file(layout, CPUACCT_PERCPU, b"cpuacct.usage_percpu", b"")
    name_file(layout, CPUSET_EFFECTIVE, b"cpuset.effective_cpus", b"cpuset.cpus.effective")
    name_file(layout, CPUSET_CPUS, b"cpuset.cpus", b"")
    name_file(layout, CPUSET_MEMS_EFFECTIVE, b"cpuset.effective_mems", b"cpuset.mems.effective")
    name_file(layout, CPUSET_MEMS, b"cpuset.mems", b"")
    name_file(layout, IO_STAT, b"blkio.throttle.io_service_bytes_recursive", b"io.stat")
    name_file(layout, IO_SERVICED, b"blkio.throttle.io_serviced_recursive", b"")
    name_file(layout, PIDS_CURRENT, b"pids.current", b"pids.current")
    name_file(layout, PRESSURE_CPU, b"", b"cpu.pressure")
    name_file(layout, PRESSURE_MEMORY, b"", b"memory.pressure")
    name_file(layout, PRESSURE_IO, b"", b"io.pressure")
    for i in range(host.huge_page_sizes):
        first = HUGETLB_FILES + HUGETLB_FILES_OF_SIZE * i
        size = host.huge_page_name[i]
        name_huge_file(layout, first + HUGETLB_LIMIT, size, b"limit_in_bytes", b"max")
        name_huge_file(layout, first + HUGETLB_USAGE, size, b"usage_in_bytes", b"current")
        name_huge_file(layout, first + HUGETLB_RESERVED_LIMIT, size, b"rsvd.limit_in_bytes", b"rsvd.max")
        name_huge_file(layout, first + HUGETLB_RESERVED_USAGE, size, b"rsvd.usage_in_bytes", b"rsvd.current")


cdef void paths_parse(const Layout *layout, Span text, CgroupPaths *paths) noexcept nogil:
    """/proc/<pid>/cgroup (cgroups(7)): ``id:controllers:/path`` lines, v2's being ``0::/path``. Paths lose the
    mount's own root.
    """
    cdef Span line
    cdef Span names
    cdef const char *colon
    cdef const Hierarchy *hierarchy
    cdef unsigned int bits
    cdef bint is_unified
    cdef int i
    memset(paths, 0, sizeof(CgroupPaths))
    while next_line(&text, &line):
        colon = <const char *>memchr(line.at, c":", span_length(line))
        if colon == NULL:
            continue
        is_unified = colon == line.at + 1 and line.at[0] == c"0"
        names.at = colon + 1
        colon = <const char *>memchr(names.at, c":", <size_t>(line.end - names.at))
        if colon == NULL:
            continue
        names.end = colon
        line.at = colon + 1
        if line.at == line.end or line.at[0] != c"/":
            continue
        if span_is(line, b"/..", 3) or span_starts(line, b"/../", 4):
            continue   # above the daemon's own cgroup namespace, out of its sight
        bits = controller_bits(names)
        for i in range(layout.count):
            hierarchy = &layout.hierarchy[i]
            if hierarchy.version == 1:
                if hierarchy.controllers & bits == 0:
                    continue
            elif names.at != names.end or not is_unified:
                continue
            if hierarchy.root_length:
                if not path_is_below(line, span(hierarchy.root, hierarchy.root_length)):
                    break
                line.at += hierarchy.root_length
            paths.of[i] = line
            break


cdef bint is_root_in_v1(const Layout *layout, const CgroupPaths *paths) noexcept nogil:
    """Whether every v1 path is "/", as for a thread that exits, and there is one."""
    cdef bint found = False
    cdef int i
    for i in range(layout.count):
        if layout.hierarchy[i].version == 1 and paths.of[i].at != NULL:
            if span_length(paths.of[i]) > 1:
                return False
            found = True
    return found


cdef bint path_is_below(Span path, Span ancestor) noexcept nogil:
    """Whether ``path`` is ``ancestor`` or lies below it. Both begin with a slash; "/" (or "") is above all."""
    cdef size_t length = span_length(ancestor)
    if length == 0 or (length == 1 and ancestor.at[0] == c"/"):
        return True
    if span_length(path) < length or memcmp(path.at, ancestor.at, length) != 0:
        return False
    return span_length(path) == length or path.at[length] == c"/"
