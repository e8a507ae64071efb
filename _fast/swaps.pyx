# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""/proc/swaps: one virtual area with the container's swap, or the header alone (mm/swapfile.c, swap_show)."""

from libc.stdint cimport uint64_t

from procview._fast.text cimport put_str, put_u64


cdef void render_swaps(const Snapshot *snapshot, Text *out) noexcept nogil:
    cdef uint64_t total_kb = snapshot.memory.swap.total_bytes >> 10
    cdef uint64_t used_kb = snapshot.memory.swap.used_bytes >> 10
    put_str(out, b"Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n")
    if total_kb == 0:
        return
    # The name is padded to 40 columns; a number of more than seven digits takes one tab, not two.
    put_str(out, b"none                                    virtual\t\t")
    put_u64(out, total_kb)
    put_str(out, b"\t" if total_kb >= 10000000 else b"\t\t")
    put_u64(out, used_kb)
    put_str(out, b"\t" if used_kb >= 10000000 else b"\t\t")
    put_str(out, b"0\n")
