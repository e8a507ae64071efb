# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""/proc/pressure/{cpu,memory,io}: the container's cgroup's own file, as it is (Documentation/accounting/psi.rst)."""

from procview._fast.text cimport put


cdef void render_pressure(const Snapshot *snapshot, Text *out) noexcept nogil:
    put(out, snapshot.pressure.data, snapshot.pressure.length)
