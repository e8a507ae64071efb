# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""/proc/loadavg: the container's load over 1, 5 and 15 minutes, its threads, and the highest pid as it numbers them
(proc(5)).
"""

from procview._fast.text cimport put_char, put_hundredths, put_u64


cdef void render_loadavg(const Snapshot *snapshot, Text *out) noexcept nogil:
    cdef int i
    for i in range(3):
        put_hundredths(out, snapshot.load_hundredths[i])
        put_char(out, c" ")
    put_u64(out, snapshot.threads_running)
    put_char(out, c"/")
    put_u64(out, snapshot.threads)
    put_char(out, c" ")
    put_u64(out, snapshot.highest_pid)
    put_char(out, c"\n")
