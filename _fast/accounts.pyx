# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The accounts of a container's CPU time: what makes sure that no column of /proc/stat ever goes back.

In an *epoch*, while the CPUs of the container stay the same, what is shown is ``start + raw``: raw is what the
cgroup says now, shared over the visible CPUs, and start is fixed. When the CPUs change, a new epoch begins: new
CPUs start where the others are on average, what a vanished CPU had done goes to the first, and what was used since
the last render is added; start is set so that it fits. Beyond that, each column keeps its highest value: the
kernel's own numbers wobble by a tick.

Renders run in several threads. Each takes a ticket before it asks which CPUs there are: one that was begun before the
CPUs changed and ends after must not bring the old epoch back, and is taken anew.
"""

from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport realloc
from libc.string cimport memcpy, memset

from procview._fast.host cimport CpuSet


cdef uint64_t epoch_of(int cpus, const CpuSet *allowed, uint64_t group) noexcept nogil:
    """``group`` tells one source of counters from another."""
    cdef uint64_t value = <uint64_t>14695981039346656037 ^ <uint64_t>cpus ^ group
    cdef int i
    for i in range(allowed.used_words):
        value = (value ^ allowed.words[i]) * <uint64_t>1099511628211
    return value


cdef bint grow_accounts(Accounting *accounts, int cpus) noexcept nogil:
    cdef uint64_t *shown
    cdef int64_t *start
    if accounts.capacity >= cpus:
        return True
    shown = <uint64_t *>realloc(accounts.shown, <size_t>cpus * COLUMNS * sizeof(uint64_t))
    if shown == NULL:
        return False
    # What is shown of CPUs that are not there, or not yet
    memset(shown + accounts.capacity * COLUMNS, 0, <size_t>(cpus - accounts.capacity) * COLUMNS * sizeof(uint64_t))
    accounts.shown = shown
    start = <int64_t *>realloc(accounts.start, <size_t>cpus * COLUMNS * sizeof(int64_t))
    if start == NULL:
        return False
    accounts.start = start
    accounts.capacity = cpus
    return True


cdef void accounts_resume(
    Accounting *accounts, int cpus, const uint64_t *shown, const uint64_t *total, uint64_t elapsed
) noexcept nogil:
    """Of a container whose last numbers another process has shown: go on from there, as after a change of CPUs.

    An epoch is a number of this process's, and 0 is nobody's.
    """
    if not grow_accounts(accounts, cpus):
        return
    accounts.started = True
    accounts.epoch = 0
    accounts.cpus = cpus
    memcpy(accounts.shown, shown, <size_t>cpus * COLUMNS * sizeof(uint64_t))
    memcpy(accounts.total, total, sizeof(accounts.total))
    accounts.elapsed = elapsed


cdef uint64_t account_begin(Accounting *accounts) noexcept nogil:
    """A ticket for account(). The owner of the accounts holds their lock."""
    accounts.tickets += 1
    return accounts.tickets


cdef int account(
    Accounting *accounts,
    uint64_t ticket,
    uint64_t epoch,
    int cpus,
    uint64_t *columns,
    const uint64_t *total,
    uint64_t elapsed,
    bint force,
) noexcept nogil:
    """Turn raw ``columns`` (cpus x COLUMNS) into the ones to show, in place; not where that is STALE, which it never
    is with ``force``.

    ``total`` are the sums of what was used, ``elapsed`` the ticks since init's start; NULL where the columns are the
    host's own. The owner of the accounts holds their lock.
    """
    cdef int cells = cpus * COLUMNS
    cdef bint same = accounts.started and accounts.epoch == epoch and accounts.cpus == cpus
    cdef int64_t value
    cdef int i
    if not same and ticket < accounts.newest and not force:
        return STALE
    if not grow_accounts(accounts, cpus):
        return NO_MEMORY
    if not accounts.started:
        accounts.started = True
        memset(accounts.start, 0, <size_t>cells * sizeof(int64_t))
        memcpy(accounts.shown, columns, <size_t>cells * sizeof(uint64_t))
    elif same:
        for i in range(cells):
            # In unsigned numbers, which may wrap, should the kernel's be none
            value = <int64_t>(<uint64_t>accounts.start[i] + columns[i])
            if value > 0 and <uint64_t>value > accounts.shown[i]:
                accounts.shown[i] = <uint64_t>value
    else:
        change_cpus(accounts, cpus, longest(columns, elapsed))
        if total != NULL:
            add_since_last(accounts, cpus, total, elapsed)
        for i in range(cells):
            accounts.start[i] = <int64_t>(accounts.shown[i] - columns[i])
    accounts.epoch = epoch
    accounts.cpus = cpus
    if total != NULL:
        for i in range(COLUMNS):
            if not same or total[i] > accounts.total[i]:
                accounts.total[i] = total[i]
        if not same or elapsed > accounts.elapsed:
            accounts.elapsed = elapsed
    if ticket > accounts.newest:
        accounts.newest = ticket
    memcpy(columns, accounts.shown, <size_t>cells * sizeof(uint64_t))
    return ACCOUNTED


cdef uint64_t longest(const uint64_t *columns, uint64_t elapsed) noexcept nogil:
    """How long a CPU can have been there, in ticks: no shorter than what it did."""
    cdef uint64_t sum = 0
    cdef int column
    for column in range(COLUMNS):
        sum += columns[column]
    return sum if sum > elapsed else elapsed


cdef void change_cpus(Accounting *accounts, int cpus, uint64_t most) noexcept nogil:
    """From accounts.cpus to ``cpus``: newcomers get the others' average, the first takes over what the vanished had.

    A newcomer gets no more than ``most`` in all columns together, and no less than when it was there before. The first
    alone takes over, as it never vanishes itself: were it shared, a quota that goes up and down would hand on again
    what was handed on before, and all would grow by leaps and bounds, past 64 bits.
    """
    cdef uint64_t *shown = accounts.shown
    cdef uint64_t sums[COLUMNS]
    cdef uint64_t whole = 0
    cdef int before = accounts.cpus
    cdef int cpu
    cdef int column
    memset(sums, 0, sizeof(sums))
    if cpus > before:
        for cpu in range(before):
            for column in range(COLUMNS):
                sums[column] += shown[cpu * COLUMNS + column]
        for column in range(COLUMNS):
            sums[column] //= <uint64_t>before
            whole += sums[column]
        if whole > most:
            for column in range(COLUMNS):
                sums[column] = <uint64_t>(<double>sums[column] / <double>whole * <double>most)
        for cpu in range(before, cpus):
            for column in range(COLUMNS):
                if shown[cpu * COLUMNS + column] < sums[column]:
                    shown[cpu * COLUMNS + column] = sums[column]
    else:
        for cpu in range(cpus, before):
            for column in range(COLUMNS):
                shown[column] += shown[cpu * COLUMNS + column]


cdef void add_since_last(Accounting *accounts, int cpus, const uint64_t *total, uint64_t elapsed) noexcept nogil:
    cdef uint64_t *shown
    cdef uint64_t part
    cdef uint64_t left
    cdef int cpu
    cdef int column
    for cpu in range(cpus):
        shown = accounts.shown + cpu * COLUMNS
        left = less(elapsed, accounts.elapsed)
        for column in range(COLUMNS):
            part = share(less(total[column], accounts.total[column]), cpus, cpu)
            shown[column] += part
            left = less(left, part)
        shown[IDLE] += left
