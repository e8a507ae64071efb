# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Which disks a container has, under which names, and its I/O on them.

What its /dev holds is looked at again when the last look is older than FRESH_NS; the numbers are read each time. Of
two threads that would look at once, one goes: a container whose /dev does not answer costs one thread, and its
other readers see the last list; before there is one they wait for it.
"""

from libc.stdint cimport uint64_t
from libc.stdio cimport snprintf
from libc.stdlib cimport free, qsort, realloc
from libc.string cimport memchr, memcpy, memset, strcmp, strlen

from procview._fast.cgroup cimport Group, Groups, group_read, group_version
from procview._fast.container cimport INIT_GONE, Device, Devices, init_state
from procview._fast.devices cimport find_devices, name_of_device, size_of_device
from procview._fast.host cimport host_boottime_ns
from procview._fast.kept cimport read_path
from procview._fast.layout cimport IO, IO_SERVICED, IO_STAT
from procview._fast.posix cimport pthread_mutex_lock, pthread_mutex_unlock, usleep
from procview._fast.scan cimport (
    Span,
    next_line,
    scan_u64,
    scan_word,
    span,
    span_is,
    span_length,
    span_starts,
)
from procview._fast.snapshot cimport Disk, FAILED, HOST_FILE, NEED_DISK_COUNTS, SCOPED


cdef enum:
    FRESH_NS = 1000000000
    FIRST_LOOK_MILLISECONDS = 2000
    DISKSTATS_BYTES = 4 << 20


cdef bint devices_are_fresh(const Host *host, Container *container) noexcept nogil:
    cdef bint fresh
    pthread_mutex_lock(&container.lock)
    fresh = container.devices.found_ns != 0 and host_boottime_ns(host) - container.devices.found_ns <= FRESH_NS
    pthread_mutex_unlock(&container.lock)
    return fresh


cdef bint start_looking(const Host *host, Container *container) noexcept nogil:
    """Whether the caller is to look now; it then ends with store_devices."""
    cdef bint mine = False
    pthread_mutex_lock(&container.lock)
    if not container.devices_in_work and (
        container.devices.found_ns == 0 or host_boottime_ns(host) - container.devices.found_ns > FRESH_NS
    ):
        container.devices_in_work = True
        mine = True
    pthread_mutex_unlock(&container.lock)
    return mine


cdef bint first_look_is_over(Container *container) noexcept nogil:
    """Wait for whoever looks for the first time. False: that takes longer than any reader waits."""
    cdef bint over = False
    cdef int _i
    for _i in range(FIRST_LOOK_MILLISECONDS):
        pthread_mutex_lock(&container.lock)
        over = container.devices.found_ns != 0
        pthread_mutex_unlock(&container.lock)
        if over:
            break
        usleep(1000)
    return over


cdef void store_devices(const Host *host, Container *container, Devices *devices) noexcept nogil:
    cdef Device *old
    devices.found_ns = host_boottime_ns(host)
    if devices.found_ns == 0:
        devices.found_ns = 1
    pthread_mutex_lock(&container.lock)
    old = container.devices.list
    container.devices = devices[0]
    container.devices_in_work = False
    pthread_mutex_unlock(&container.lock)
    free(old)


cdef bint add_disk(
    Snapshot *snapshot, unsigned int major, unsigned int minor, uint64_t size_sectors, const char *name
) noexcept nogil:
    cdef Disk *larger
    cdef Disk *disk
    cdef int capacity
    if snapshot.disk_count == snapshot.disk_capacity:
        capacity = snapshot.disk_capacity * 2 if snapshot.disk_capacity else 8
        larger = <Disk *>realloc(snapshot.disks, <size_t>capacity * sizeof(Disk))
        if larger == NULL:
            return False
        snapshot.disks = larger
        snapshot.disk_capacity = capacity
    disk = &snapshot.disks[snapshot.disk_count]
    memset(disk, 0, sizeof(Disk))
    disk.major = major
    disk.minor = minor
    disk.size_sectors = size_sectors
    memcpy(disk.name, name, min(strlen(name), sizeof(disk.name) - 1))
    snapshot.disk_count += 1
    return True


cdef int by_number(const void *left, const void *right) noexcept nogil:
    cdef const Disk *a = <const Disk *>left
    cdef const Disk *b = <const Disk *>right
    if a.major != b.major:
        return -1 if a.major < b.major else 1
    if a.minor != b.minor:
        return -1 if a.minor < b.minor else 1
    return strcmp(a.name, b.name)


cdef bint name_is_taken(const Devices *devices, const char *name, const Device *but) noexcept nogil:
    """Whether a node of another device has this name."""
    cdef const Device *device
    cdef int i
    for i in range(1, devices.count):
        device = &devices.list[i]
        if strcmp(device.name, name) == 0 and (device.major != but.major or device.minor != but.minor):
            return True
    return False


cdef void name_root(const Devices *devices, char *name) noexcept nogil:
    """``sda``; where another node has that name, the root disk's own node's, or else the first free of sda, sdb ..."""
    cdef const Device *root = &devices.list[0]
    cdef int i
    memcpy(name, b"sda", 4)
    if not name_is_taken(devices, name, root):
        return
    for i in range(1, devices.count):
        if devices.list[i].major == root.major and devices.list[i].minor == root.minor:
            snprintf(name, 64, b"%s", devices.list[i].name)
            return
    for i in range(26 * 27):
        if i < 26:
            snprintf(name, 64, b"sd%c", c"a" + i)
        else:
            snprintf(name, 64, b"sd%c%c", c"a" + i // 26 - 1, c"a" + i % 26)
        if not name_is_taken(devices, name, root):
            return


cdef void name_disks(Snapshot *snapshot, Container *container) noexcept nogil:
    """From the container's devices to the lines to print: the root disk, then the others by number, each device
    once.
    """
    cdef const Devices *devices
    cdef Device *device
    cdef char name[64]
    cdef int first = 0
    cdef int kept
    cdef int i
    pthread_mutex_lock(&container.lock)
    devices = &container.devices
    if devices.has_root:
        name_root(devices, name)
        add_disk(snapshot, devices.list[0].major, devices.list[0].minor, devices.list[0].size_sectors, name)
        first = snapshot.disk_count
    for i in range(1 if devices.has_root else 0, devices.count):
        device = &devices.list[i]
        if not first or device.major != snapshot.disks[0].major or device.minor != snapshot.disks[0].minor:
            add_disk(snapshot, device.major, device.minor, device.size_sectors, device.name)
    pthread_mutex_unlock(&container.lock)
    if snapshot.disk_count > first:
        qsort(snapshot.disks + first, <size_t>(snapshot.disk_count - first), sizeof(Disk), by_number)
    kept = first
    for i in range(first, snapshot.disk_count):
        if (
            i > first and snapshot.disks[i].major == snapshot.disks[kept - 1].major
            and snapshot.disks[i].minor == snapshot.disks[kept - 1].minor
        ):
            continue   # a second node of the same device
        if kept != i:
            memcpy(&snapshot.disks[kept], &snapshot.disks[i], sizeof(Disk))
        kept += 1
    snapshot.disk_count = kept


cdef int read_disks(
    Snapshot *snapshot, Containers *containers, Container *container, const Scope *scope
) noexcept nogil:
    """Fill ``disks``: names, sizes and counts. Returns a Verdict."""
    cdef Host *host = containers.host
    cdef Groups *groups = containers.groups
    cdef Group *group = scope.of[IO]
    cdef Devices found
    cdef bint scoped = group != NULL and group.parent != NULL
    cdef bint counted
    snapshot.disk_count = 0
    snapshot.diskstats_columns = host.diskstats_columns
    if not scoped and (snapshot.settings.devices_of_host or container.pidns == host.pidns):
        return HOST_FILE
    if not snapshot.settings.devices_of_host:
        if start_looking(host, container):
            memset(&found, 0, sizeof(found))
            find_devices(host, container.init, &found, &snapshot.more_scratch, &snapshot.scratch)
            if init_state(containers, container, &snapshot.scratch) == INIT_GONE:
                found.count = 0   # or they are those of another process, with the same pid
                found.has_root = False
            store_devices(host, container, &found)
        elif not first_look_is_over(container):
            return FAILED
        name_disks(snapshot, container)
    counted = scoped and read_counts(snapshot, host, groups, group)
    if not counted and snapshot.needs & NEED_DISK_COUNTS:
        snapshot.absent |= 1 << IO
        read_hosts_counts(snapshot, host)
    if snapshot.settings.devices_of_host and snapshot.disk_count > 1:
        qsort(snapshot.disks, <size_t>snapshot.disk_count, sizeof(Disk), by_number)
    return SCOPED


cdef Disk *disk_of(Snapshot *snapshot, Host *host, uint64_t major, uint64_t minor) noexcept nogil:
    """The line of a device; with the host's names, a new one for each device that the cgroup has used."""
    cdef char name[64]
    cdef uint64_t size_sectors
    cdef int i
    for i in range(snapshot.disk_count):
        if snapshot.disks[i].major == major and snapshot.disks[i].minor == minor:
            return &snapshot.disks[i]
    if not snapshot.settings.devices_of_host:
        return NULL
    if not name_of_device(host, <unsigned int>major, <unsigned int>minor, name, sizeof(name)):
        return NULL
    size_sectors = size_of_device(host, <unsigned int>major, <unsigned int>minor, &snapshot.more_scratch)
    if not add_disk(snapshot, <unsigned int>major, <unsigned int>minor, size_sectors, name):
        return NULL
    return &snapshot.disks[snapshot.disk_count - 1]


cdef bint scan_number(Span *line, uint64_t *major, uint64_t *minor) noexcept nogil:
    """``8:16 `` at the start of a line."""
    if not scan_u64(line, major) or line.at == line.end or line.at[0] != c":":
        return False
    line.at += 1
    return scan_u64(line, minor)


cdef bint read_counts(Snapshot *snapshot, Host *host, Groups *groups, Group *group) noexcept nogil:
    """False where the cgroup does not count I/O. An empty file is an answer: nothing was read or written yet."""
    if group_read(groups, group, IO_STAT, &snapshot.scratch) < 0:
        return False
    if group_version(groups, group) == 2:
        take_v2(snapshot, host)
        return True
    take_v1(snapshot, host, True)
    if group_read(groups, group, IO_SERVICED, &snapshot.scratch) > 0:
        take_v1(snapshot, host, False)
    return True


cdef void take_v2(Snapshot *snapshot, Host *host) noexcept nogil:
    """io.stat: ``8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6``."""
    cdef Span rest = span(snapshot.scratch.data, snapshot.scratch.length)
    cdef Span line
    cdef Span word
    cdef Span number
    cdef uint64_t major
    cdef uint64_t minor
    cdef uint64_t value
    cdef Disk *disk
    while next_line(&rest, &line):
        if not scan_number(&line, &major, &minor):
            continue
        disk = disk_of(snapshot, host, major, minor)
        if disk == NULL:
            continue
        while scan_word(&line, &word):
            number.at = <const char *>memchr(word.at, c"=", span_length(word))
            number.end = word.end
            if number.at == NULL:
                continue
            number.at += 1
            if not scan_u64(&number, &value):
                continue
            if span_starts(word, b"rbytes=", 7):
                disk.read_bytes = value
            elif span_starts(word, b"wbytes=", 7):
                disk.written_bytes = value
            elif span_starts(word, b"rios=", 5):
                disk.read_count = value
            elif span_starts(word, b"wios=", 5):
                disk.write_count = value
            elif span_starts(word, b"dbytes=", 7):
                disk.discarded_bytes = value
            elif span_starts(word, b"dios=", 5):
                disk.discard_count = value


cdef void take_v1(Snapshot *snapshot, Host *host, bint are_bytes) noexcept nogil:
    """blkio.throttle.io_service_bytes_recursive and io_serviced_recursive: ``8:0 Read 512``; the kernel counts
    under every scheduler.
    """
    cdef Span rest = span(snapshot.scratch.data, snapshot.scratch.length)
    cdef Span line
    cdef Span word
    cdef uint64_t major
    cdef uint64_t minor
    cdef uint64_t value
    cdef Disk *disk
    while next_line(&rest, &line):
        if not scan_number(&line, &major, &minor) or not scan_word(&line, &word) or not scan_u64(&line, &value):
            continue
        disk = disk_of(snapshot, host, major, minor)
        if disk == NULL:
            continue
        if span_is(word, b"Read", 4):
            if are_bytes:
                disk.read_bytes = value
            else:
                disk.read_count = value
        elif span_is(word, b"Write", 5):
            if are_bytes:
                disk.written_bytes = value
            else:
                disk.write_count = value
        elif span_is(word, b"Discard", 7):
            if are_bytes:
                disk.discarded_bytes = value
            else:
                disk.discard_count = value


cdef void read_hosts_counts(Snapshot *snapshot, Host *host) noexcept nogil:
    """No I/O accounting for this container: the host's counts of its disks."""
    cdef Span rest
    cdef Span line
    cdef Span name
    cdef uint64_t major
    cdef uint64_t minor
    cdef uint64_t fields[14]
    cdef Disk *disk
    cdef int field
    if read_path(host.proc_fd, b"diskstats", &snapshot.scratch, DISKSTATS_BYTES) <= 0:
        return
    rest = span(snapshot.scratch.data, snapshot.scratch.length)
    while next_line(&rest, &line):
        if not scan_u64(&line, &major) or not scan_u64(&line, &minor) or not scan_word(&line, &name):
            continue
        disk = disk_of(snapshot, host, major, minor)
        if disk == NULL:
            continue
        memset(fields, 0, sizeof(fields))
        for field in range(14):
            if not scan_u64(&line, &fields[field]):
                break
        disk.read_count = fields[0]
        disk.read_bytes = fields[2] * 512
        disk.write_count = fields[4]
        disk.written_bytes = fields[6] * 512
        disk.discard_count = fields[11]
        disk.discarded_bytes = fields[13] * 512
