# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""/proc/diskstats: the container's I/O on its disks (Documentation/admin-guide/iostats.rst).

A cgroup counts operations and bytes; merges, times, requests in flight and flushes are 0. A sector is 512 bytes.
There are as many columns as the host has.
"""

from libc.stdint cimport uint64_t
from libc.string cimport memset

from procview._fast.snapshot cimport Disk
from procview._fast.text cimport put, put_char, put_str, put_u64, put_u64_right


cdef void render_diskstats(const Snapshot *snapshot, Text *out) noexcept nogil:
    cdef const Disk *disk
    cdef uint64_t fields[17]
    cdef int field
    cdef int i
    memset(fields, 0, sizeof(fields))
    for i in range(snapshot.disk_count):
        disk = &snapshot.disks[i]
        fields[0] = disk.read_count
        fields[2] = disk.read_bytes // 512
        fields[4] = disk.write_count
        fields[6] = disk.written_bytes // 512
        fields[11] = disk.discard_count
        fields[13] = disk.discarded_bytes // 512
        put_u64_right(out, disk.major, 4)
        put_char(out, c" ")
        put_u64_right(out, disk.minor, 7)
        put_char(out, c" ")
        put_str(out, disk.name)
        for field in range(snapshot.diskstats_columns - 3):
            if field < 17 and fields[field]:
                put_char(out, c" ")
                put_u64(out, fields[field])
            else:
                put(out, b" 0", 2)   # most of them
        put_char(out, c"\n")
