# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The block devices that a container can name: the disk of its root file system, and the nodes in its /dev.

The container's /dev is hostile ground. It is opened beneath the container's root only (openat2, RESOLVE_IN_ROOT)
and no link is followed, no node is opened, no more than MOST_ENTRIES are looked at, and not at all where / or /dev
is of a file system that the container could serve itself (FUSE) or that may not answer (network): such a container
has no nodes here. The root disk is found from mount tables alone.
"""

from libc.stdint cimport int64_t, uint64_t
from libc.stdio cimport snprintf
from libc.stdlib cimport realloc
from libc.string cimport memchr, memcpy, memset, strlen

from procview._fast.container cimport Device
from procview._fast.host cimport STACKINGS, Stacking, host_is_fresh
from procview._fast.kept cimport read_path
from procview._fast.layout cimport PATH_BYTES
from procview._fast.posix cimport (
    AT_SYMLINK_NOFOLLOW,
    CLOCK_MONOTONIC,
    DIR,
    DT_BLK,
    DT_UNKNOWN,
    O_CLOEXEC,
    O_DIRECTORY,
    O_NOFOLLOW,
    O_NONBLOCK,
    O_PATH,
    O_RDONLY,
    SYS_openat2,
    S_ISBLK,
    clock_ns,
    close,
    closedir,
    dev_t,
    dirent,
    fdopendir,
    fstatat,
    major,
    minor,
    openat,
    pthread_mutex_lock,
    pthread_mutex_unlock,
    readdir,
    readlinkat,
    stat_t,
    syscall,
)
from procview._fast.scan cimport (
    Span,
    next_line,
    scan_u64,
    scan_word,
    span,
    span_is,
    span_length,
    span_starts,
    unescape_octal,
)
from procview._fast.text cimport text_free


cdef enum:
    MOST_ENTRIES = 4096
    MOST_NUMBER = 1 << 20   # majors have 12 bits, minors 20
    MOST_DEVICES = 256
    MOUNTINFO_BYTES = 1 << 20
    RESOLVE_NO_MAGICLINKS = 2
    RESOLVE_NO_SYMLINKS = 4
    RESOLVE_IN_ROOT = 16

cdef struct OpenHow:
    uint64_t flags
    uint64_t mode
    uint64_t resolve

cdef struct Mount:
    # One line of mountinfo; spans point into it. point.at == NULL: none.
    Span point
    Span root
    Span kind
    Span source
    Span options
    unsigned int major
    unsigned int minor


cdef bint parse_mount(Span line, Mount *mount) noexcept nogil:
    """proc(5), /proc/<pid>/mountinfo: id parent maj:min root point options [fields] - type source super-options."""
    cdef Span word
    cdef Span number
    memset(mount, 0, sizeof(Mount))
    if not scan_word(&line, &word) or not scan_word(&line, &word) or not scan_word(&line, &number):
        return False
    if not scan_device(&number, &mount.major, &mount.minor):
        return False
    if not scan_word(&line, &mount.root) or not scan_word(&line, &mount.point):
        return False
    while scan_word(&line, &word) and not span_is(word, b"-", 1):
        pass
    if not scan_word(&line, &mount.kind) or not scan_word(&line, &mount.source):
        mount.point.at = NULL
        return False
    scan_word(&line, &mount.options)
    return True


cdef bint scan_device(Span *text, unsigned int *major_number, unsigned int *minor_number) noexcept nogil:
    """``8:16``."""
    cdef uint64_t first
    cdef uint64_t second
    if not scan_u64(text, &first) or text.at == text.end or text.at[0] != c":":
        return False
    text.at += 1
    if not scan_u64(text, &second) or first > MOST_NUMBER or second > MOST_NUMBER:
        return False
    major_number[0] = <unsigned int>first
    minor_number[0] = <unsigned int>second
    return True


cdef bint add_device(
    Devices *devices,
    const Host *host,
    unsigned int major_number,
    unsigned int minor_number,
    const char *name,
    Text *scratch,
) noexcept nogil:
    """False when there are MOST_DEVICES already or memory ran out."""
    cdef Device *larger
    cdef int capacity
    if devices.count >= MOST_DEVICES:
        return False
    if devices.count == devices.capacity:
        capacity = devices.capacity * 2 if devices.capacity else 8
        larger = <Device *>realloc(devices.list, <size_t>capacity * sizeof(Device))
        if larger == NULL:
            return False
        devices.list = larger
        devices.capacity = capacity
    devices.list[devices.count].major = major_number
    devices.list[devices.count].minor = minor_number
    devices.list[devices.count].size_sectors = size_of_device(host, major_number, minor_number, scratch)
    snprintf(devices.list[devices.count].name, 64, b"%s", name)
    devices.count += 1
    return True


cdef uint64_t size_of_device(
    const Host *host, unsigned int major_number, unsigned int minor_number, Text *scratch
) noexcept nogil:
    """/sys/dev/block/<maj>:<min>/size: sectors of 512 bytes, whatever the device's own are. 0 where it is not known."""
    cdef char path[64]
    cdef uint64_t sectors = 0
    cdef Span rest
    snprintf(path, sizeof(path), b"dev/block/%u:%u/size", major_number, minor_number)
    if read_path(host.sys_fd, path, scratch, 64) > 0:
        rest = span(scratch.data, scratch.length)
        scan_u64(&rest, &sectors)
    return sectors


cdef bint read_device_file(
    const Host *host, const char *path, unsigned int *major_number, unsigned int *minor_number, Text *scratch
) noexcept nogil:
    cdef Span rest
    if read_path(host.sys_fd, path, scratch, 64) <= 0:
        return False
    rest = span(scratch.data, scratch.length)
    return scan_device(&rest, major_number, minor_number)


cdef bint whole_device(
    const Host *host, unsigned int *major_number, unsigned int *minor_number, Text *scratch
) noexcept nogil:
    """From a partition to its disk, which is what the kernel accounts. False where the host has no such block
    device.
    """
    cdef char path[96]
    cdef stat_t info
    snprintf(path, sizeof(path), b"dev/block/%u:%u", major_number[0], minor_number[0])
    if fstatat(host.sys_fd, path, &info, 0) != 0:
        return False
    snprintf(path, sizeof(path), b"dev/block/%u:%u/partition", major_number[0], minor_number[0])
    if fstatat(host.sys_fd, path, &info, 0) == 0:
        snprintf(path, sizeof(path), b"dev/block/%u:%u/../dev", major_number[0], minor_number[0])
        return read_device_file(host, path, major_number, minor_number, scratch)
    return True


cdef bint device_of_mount(
    const Host *host, const Mount *mount, unsigned int *major_number, unsigned int *minor_number, Text *scratch
) noexcept nogil:
    """The whole block device under a mount. False where there is none (tmpfs, network ...)."""
    cdef char path[160]
    cdef Span source = mount.source
    cdef const char *slash
    major_number[0] = mount.major
    minor_number[0] = mount.minor
    if mount.major != 0:
        return whole_device(host, major_number, minor_number, scratch)
    # btrfs and its like have a device number of their own for each file system: take the source's name.
    if not span_starts(source, b"/dev/", 5):
        return False
    while True:
        slash = <const char *>memchr(source.at, c"/", span_length(source))
        if slash == NULL:
            break
        source.at = slash + 1
    if span_length(source) == 0 or span_length(source) > 64 or span_is(source, b"..", 2) or span_is(source, b".", 1):
        return False
    snprintf(path, sizeof(path), b"class/block/%.*s/dev", <int>span_length(source), source.at)
    if not read_device_file(host, path, major_number, minor_number, scratch):
        return False
    return whole_device(host, major_number, minor_number, scratch)


cdef bint find_mount_at(Span text, const char *point, Mount *found) noexcept nogil:
    """The last line for a mount point: what is on top there."""
    cdef Span line
    cdef Mount mount
    cdef size_t length = strlen(point)
    found.point.at = NULL
    while next_line(&text, &line):
        if parse_mount(line, &mount) and span_is(mount.point, point, length):
            found[0] = mount
    return found.point.at != NULL


cdef bint find_mount_above(Span text, Span path, Mount *found) noexcept nogil:
    """The mount that a path lies on, by name: the longest mount point that is the path or above it."""
    cdef Span line
    cdef Mount mount
    cdef size_t length
    cdef size_t best = 0
    found.point.at = NULL
    while next_line(&text, &line):
        if not parse_mount(line, &mount):
            continue
        length = span_length(mount.point)
        if not span_starts(path, mount.point.at, length):
            continue
        if length > 1 and span_length(path) > length and path.at[length] != c"/":
            continue
        if length >= best:
            best = length
            found[0] = mount
    return found.point.at != NULL


cdef bint find_upper(Span options, char *path, size_t size, Span *upper) noexcept nogil:
    """The value of upperdir= in an overlay's options, its octal escapes undone. ``upper`` points into ``path``."""
    cdef const char *comma
    cdef Span option
    while options.at < options.end:
        comma = <const char *>memchr(options.at, c",", span_length(options))
        option.at = options.at
        option.end = comma if comma != NULL else options.end
        options.at = option.end + 1
        if span_starts(option, b"upperdir=", 9):
            # Not in place: an escaped newline in it would be one more line of the table, written by the container.
            option.at += 9
            if span_length(option) > size:
                return False
            memcpy(path, option.at, span_length(option))
            upper[0] = span(path, unescape_octal(path, span_length(option)))
            return upper.end > upper.at
    return False


cdef bint find_root_disk(
    const Host *host, Span mountinfo, unsigned int *major_number, unsigned int *minor_number, Text *scratch
) noexcept nogil:
    cdef Mount root
    cdef Mount below
    cdef Span upper
    cdef char path[PATH_BYTES]
    cdef char table[32]
    cdef Text own
    cdef bint found = False
    if not find_mount_at(mountinfo, b"/", &root):
        return False
    if not span_is(root.kind, b"overlay", 7):
        return device_of_mount(host, &root, major_number, minor_number, scratch)
    if not find_upper(root.options, path, sizeof(path), &upper):
        return False
    # A path of the host: looked up by name in the host's mounts, never by walking, since the container may have
    # written it.
    memset(&own, 0, sizeof(Text))
    snprintf(table, sizeof(table), b"%s/mountinfo", host.mounts_of)
    if read_path(host.proc_fd, table, &own, MOUNTINFO_BYTES) > 0:
        if find_mount_above(span(own.data, own.length), upper, &below):
            found = device_of_mount(host, &below, major_number, minor_number, scratch)
    text_free(&own)
    return found


cdef bint is_harmless(Span kind) noexcept nogil:
    """File systems that answer by themselves: neither served by somebody's process nor over a network."""
    return (
        span_is(kind, b"overlay", 7) or span_is(kind, b"tmpfs", 5) or span_is(kind, b"devtmpfs", 8)
        or span_is(kind, b"ext4", 4) or span_is(kind, b"ext3", 4) or span_is(kind, b"ext2", 4)
        or span_is(kind, b"xfs", 3) or span_is(kind, b"btrfs", 5) or span_is(kind, b"zfs", 3)
        or span_is(kind, b"f2fs", 4) or span_is(kind, b"bcachefs", 8) or span_is(kind, b"ramfs", 5)
        or span_is(kind, b"rootfs", 6) or span_is(kind, b"squashfs", 8) or span_is(kind, b"erofs", 5)
    )


cdef bint is_plain_name(const char *name) noexcept nogil:
    """Names with blanks or control characters would break the table that they are printed in; the kernel has none
    such.
    """
    cdef size_t i = 0
    while name[i] != 0:
        if <unsigned char>name[i] <= 0x20 or <unsigned char>name[i] == 0x7F or i >= 60:
            return False
        i += 1
    return i > 0


cdef void find_nodes(
    const Host *host, int init, Span mountinfo, Devices *into, Text *scratch
) noexcept nogil:
    cdef char path[96]
    cdef OpenHow how
    cdef Mount mount
    cdef DIR *directory
    cdef dirent *entry
    cdef stat_t info
    cdef dev_t device
    cdef int root
    cdef int fd
    cdef int looked = 0
    if not find_mount_at(mountinfo, b"/", &mount) or not is_harmless(mount.kind):
        return
    if find_mount_at(mountinfo, b"/dev", &mount) and not is_harmless(mount.kind):
        return
    snprintf(path, sizeof(path), b"%d/root", init)
    root = openat(host.proc_fd, path, O_PATH | O_DIRECTORY | O_CLOEXEC)
    if root < 0:
        return
    how.flags = <uint64_t>(O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)
    how.mode = 0
    how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS
    fd = <int>syscall(SYS_openat2, root, <const char *>b"dev", &how, sizeof(OpenHow))
    close(root)
    if fd < 0:
        return
    directory = fdopendir(fd)
    if directory == NULL:
        close(fd)
        return
    while looked < MOST_ENTRIES:
        entry = readdir(directory)
        if entry == NULL:
            break
        looked += 1
        if entry.d_type != DT_BLK and entry.d_type != DT_UNKNOWN:
            continue
        if not is_plain_name(entry.d_name):
            continue
        if fstatat(fd, entry.d_name, &info, AT_SYMLINK_NOFOLLOW) != 0 or not S_ISBLK(info.st_mode):
            continue
        device = info.st_rdev
        snprintf(path, sizeof(path), b"dev/block/%u:%u", major(device), minor(device))
        if fstatat(host.sys_fd, path, &info, 0) != 0:
            continue   # no such device on this host
        if not add_device(into, host, major(device), minor(device), entry.d_name, scratch):
            break
    closedir(directory)


cdef void find_devices(Host *host, int init, Devices *into, Text *mountinfo, Text *scratch) noexcept nogil:
    """Fill ``into``: the root disk first (``has_root``, its name left empty), then the nodes as they were found."""
    cdef char path[32]
    cdef Span text
    cdef unsigned int major_number
    cdef unsigned int minor_number
    into.count = 0
    into.has_root = False
    snprintf(path, sizeof(path), b"%d/mountinfo", init)
    if init <= 0 or read_path(host.proc_fd, path, mountinfo, MOUNTINFO_BYTES) <= 0:
        return
    text = span(mountinfo.data, mountinfo.length)
    if find_root_disk(host, text, &major_number, &minor_number, scratch):
        into.has_root = add_device(into, host, major_number, minor_number, b"", scratch)
    find_nodes(host, init, text, into, scratch)


cdef bint name_of_device(
    const Host *host, unsigned int major_number, unsigned int minor_number, char *name, size_t size
) noexcept nogil:
    """The kernel's name of a block device, from the link in /sys/dev/block. False where the host has no such device."""
    cdef char path[64]
    cdef char target[512]
    cdef ssize_t length
    cdef Span rest
    cdef const char *slash
    snprintf(path, sizeof(path), b"dev/block/%u:%u", major_number, minor_number)
    length = readlinkat(host.sys_fd, path, target, sizeof(target))
    if length <= 0:
        return False
    rest = span(target, <size_t>length)
    while True:
        slash = <const char *>memchr(rest.at, c"/", span_length(rest))
        if slash == NULL:
            break
        rest.at = slash + 1
    snprintf(name, size, b"%.*s", <int>span_length(rest), rest.at)
    return True


cdef bint stands_on_others(Host *host, unsigned int major_number, unsigned int minor_number) noexcept nogil:
    """Whether it is a device of the device mapper or a RAID (md), whose I/O is done by the devices below it. As of
    HOST_FRESH_NS ago at most: to ask takes two walks through sysfs for each device.
    """
    cdef Stacking *place = &host.stacking[(major_number * 31 + minor_number) & (STACKINGS - 1)]
    cdef int64_t now = clock_ns(CLOCK_MONOTONIC)
    cdef bint stands = False
    cdef bint known
    pthread_mutex_lock(&host.lock)
    known = (
        place.read_ns != 0 and place.major == major_number and place.minor == minor_number
        and host_is_fresh(host, place.read_ns, now)
    )
    if known:
        stands = place.stands
    pthread_mutex_unlock(&host.lock)
    if known:
        return stands
    stands = is_stacked(host, major_number, minor_number)
    pthread_mutex_lock(&host.lock)
    place.major = major_number
    place.minor = minor_number
    place.read_ns = now
    place.stands = stands
    pthread_mutex_unlock(&host.lock)
    return stands


cdef bint is_stacked(const Host *host, unsigned int major_number, unsigned int minor_number) noexcept nogil:
    cdef char path[64]
    cdef stat_t info
    snprintf(path, sizeof(path), b"dev/block/%u:%u/dm", major_number, minor_number)
    if fstatat(host.sys_fd, path, &info, 0) == 0:
        return True
    snprintf(path, sizeof(path), b"dev/block/%u:%u/md", major_number, minor_number)
    return fstatat(host.sys_fd, path, &info, 0) == 0
