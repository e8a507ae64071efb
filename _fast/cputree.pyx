# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""/sys/devices/system/cpu: the files that list CPUs (Documentation/ABI/testing/sysfs-devices-system-cpu). N is the
same as everywhere.
"""

from libc.stdint cimport uint64_t

from procview._fast.text cimport put_char, put_str, put_u64


cdef void render_online(const Snapshot *snapshot, Text *out) noexcept nogil:
    """``online``, ``possible`` and ``present``: 0-(N-1), or 0 for one CPU."""
    if snapshot.cpus > 1:
        put_str(out, b"0-")
        put_u64(out, <uint64_t>(snapshot.cpus - 1))
    else:
        put_char(out, c"0")
    put_char(out, c"\n")


cdef void render_offline(const Snapshot *snapshot, Text *out) noexcept nogil:
    put_char(out, c"\n")
