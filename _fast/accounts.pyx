# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The accounts of a container's CPU time: what makes sure that no column of /proc/stat ever goes back.

In an *epoch*, while the CPUs of the container stay the same, what is shown is ``start + raw``: raw is what the
cgroup says now, shared over the visible CPUs, and start is fixed. When the CPUs change, a new epoch begins: new
CPUs start where the others are on average, what a vanished CPU had done is shared among the rest, and what was used
since the last render is added; start is set so that it fits. Beyond that, each column keeps its highest value: the
kernel's own numbers wobble by a tick.
"""

from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport realloc
from libc.string cimport memcpy, memset

from procview._fast.host cimport CpuSet


cdef uint64_t epoch_of(int cpus, const CpuSet *allowed, const void *group) noexcept nogil:
    cdef uint64_t value = <uint64_t>14695981039346656037 ^ <uint64_t>cpus ^ <uint64_t><size_t>group
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
    accounts.shown = shown
    start = <int64_t *>realloc(accounts.start, <size_t>cpus * COLUMNS * sizeof(int64_t))
    if start == NULL:
        return False
    accounts.start = start
    accounts.capacity = cpus
    return True


cdef bint account(
    Accounting *accounts, uint64_t epoch, int cpus, uint64_t *columns, const uint64_t *total, uint64_t elapsed
) noexcept nogil:
    """Turn raw ``columns`` (cpus x COLUMNS) into the ones to show, in place. False when memory ran out.

    ``total`` are the sums of what was used, ``elapsed`` the ticks since init's start; NULL where the columns are the
    host's own. The owner of the accounts holds their lock.
    """
    cdef int cells = cpus * COLUMNS
    cdef int64_t value
    cdef int i
    if not grow_accounts(accounts, cpus):
        return False
    if not accounts.started:
        accounts.started = True
        memset(accounts.start, 0, <size_t>cells * sizeof(int64_t))
        memcpy(accounts.shown, columns, <size_t>cells * sizeof(uint64_t))
    elif accounts.epoch == epoch and accounts.cpus == cpus:
        for i in range(cells):
            value = accounts.start[i] + <int64_t>columns[i]
            if value > 0 and <uint64_t>value > accounts.shown[i]:
                accounts.shown[i] = <uint64_t>value
    else:
        change_cpus(accounts, cpus)
        if total != NULL:
            add_since_last(accounts, cpus, total, elapsed)
        for i in range(cells):
            accounts.start[i] = <int64_t>accounts.shown[i] - <int64_t>columns[i]
    accounts.epoch = epoch
    accounts.cpus = cpus
    if total != NULL:
        accounts.elapsed = elapsed
        memcpy(accounts.total, total, sizeof(accounts.total))
    memcpy(columns, accounts.shown, <size_t>cells * sizeof(uint64_t))
    return True


cdef void change_cpus(Accounting *accounts, int cpus) noexcept nogil:
    """From accounts.cpus to ``cpus``: newcomers get the others' average, the rest share what the vanished had."""
    cdef uint64_t *shown = accounts.shown
    cdef uint64_t sums[COLUMNS]
    cdef int before = accounts.cpus
    cdef int cpu
    cdef int column
    memset(sums, 0, sizeof(sums))
    if cpus > before:
        for cpu in range(before):
            for column in range(COLUMNS):
                sums[column] += shown[cpu * COLUMNS + column]
        for cpu in range(before, cpus):
            for column in range(COLUMNS):
                shown[cpu * COLUMNS + column] = sums[column] // <uint64_t>before
    elif cpus < before:
        for cpu in range(cpus, before):
            for column in range(COLUMNS):
                sums[column] += shown[cpu * COLUMNS + column]
        for cpu in range(cpus):
            for column in range(COLUMNS):
                shown[cpu * COLUMNS + column] += share(sums[column], cpus, cpu)


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
