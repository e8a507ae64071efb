"""The accounts of a container's CPU time. See ``_fast/accounts.pyx``."""

from libc.stdint cimport int64_t, uint64_t

from procview._fast.host cimport CpuSet


cdef enum:
    # Columns of a cpu line (proc(5)); iowait, irq, softirq, guest and guest_nice are 4, 5, 6, 8, 9
    USER = 0
    NICE = 1
    SYSTEM = 2
    IDLE = 3
    STEAL = 7
    COLUMNS = 10

cdef struct Accounting:
    # What /proc/stat showed last, so that no column ever goes back. See _fast/cputime.pyx.
    bint started
    int cpus
    uint64_t epoch
    uint64_t tickets          # renders begun
    uint64_t newest           # the latest-begun render that was accounted
    int capacity              # CPUs that the arrays below have room for
    uint64_t *shown           # cpus x COLUMNS, ticks
    int64_t *start            # cpus x COLUMNS, ticks: shown = start + raw
    uint64_t total[COLUMNS]   # raw sums at the last render
    uint64_t elapsed          # ticks since init's start, at the last render


cdef enum:  # results of account()
    ACCOUNTED
    STALE            # the CPUs changed meanwhile: begin anew
    NO_MEMORY

cdef uint64_t epoch_of(int cpus, const CpuSet *allowed, uint64_t group) noexcept nogil
cdef void accounts_resume(
    Accounting *accounts, int cpus, const uint64_t *shown, const uint64_t *total, uint64_t elapsed
) noexcept nogil
cdef uint64_t account_begin(Accounting *accounts) noexcept nogil
cdef int account(
    Accounting *accounts,
    uint64_t ticket,
    uint64_t epoch,
    int cpus,
    uint64_t *columns,
    const uint64_t *total,
    uint64_t elapsed,
    bint force,
) noexcept nogil


cdef inline uint64_t share(uint64_t total, int parts, int part) noexcept nogil:
    """An even share in whole numbers; the remainder goes to the lowest."""
    return total // <uint64_t>parts + (1 if <uint64_t>part < total % <uint64_t>parts else 0)


cdef inline uint64_t less(uint64_t from_ticks, uint64_t ticks) noexcept nogil:
    return from_ticks - ticks if from_ticks > ticks else 0
