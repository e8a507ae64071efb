# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""/proc/partitions: the container's disks and partitions, sizes in blocks of 1 KiB (block/genhd.c, show_partition)."""

from procview._fast.snapshot cimport Disk
from procview._fast.text cimport put_char, put_str, put_u64_right


cdef void render_partitions(const Snapshot *snapshot, Text *out) noexcept nogil:
    cdef const Disk *disk
    cdef int i
    put_str(out, b"major minor  #blocks  name\n\n")
    for i in range(snapshot.disk_count):
        disk = &snapshot.disks[i]
        if disk.size_sectors == 0:
            continue   # an empty drive, an unbound loop device: the kernel leaves them out, too
        put_u64_right(out, disk.major, 4)
        put_char(out, c" ")
        put_u64_right(out, disk.minor, 8)
        put_char(out, c" ")
        put_u64_right(out, disk.size_sectors // 2, 10)
        put_char(out, c" ")
        put_str(out, disk.name)
        put_char(out, c"\n")
