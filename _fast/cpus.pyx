# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""How many CPUs a container has, and which: N = min(|S|, ceil(quota / period)), at least 1. And of which
nodes it may have memory.
"""

from libc.stdint cimport uint64_t

from procview._fast.cgroup cimport Group, group_read, group_read_limit, group_version
from procview._fast.host cimport (
    cpuset_add,
    cpuset_clear,
    cpuset_count,
    cpuset_intersect,
    cpuset_parse,
    host_online,
)
from procview._fast.layout cimport (
    CPU,
    CPUSET,
    CPUSET_CPUS,
    CPUSET_EFFECTIVE,
    CPUSET_MEMS,
    CPUSET_MEMS_EFFECTIVE,
    CPU_PERIOD,
    CPU_QUOTA,
)
from procview._fast.scan cimport Span, scan_u64, span


cdef int count_cpus(
    Host *host, Groups *groups, const Scope *scope, bint by_quota, uint64_t number, CpuSet *allowed, Text *scratch
) noexcept nogil:
    """N, with S in ``allowed``: what the cpuset grants, of what is online. Visible CPU i stands for the i-th CPU of
    S. ``number``: see group_read_limit.
    """
    cdef CpuSet online
    cdef uint64_t stretch
    cdef bint online_known = host_online(host, &online, &stretch, scratch)
    cdef uint64_t cpuset_number = 0
    cdef int count
    cdef uint64_t quota
    # The kernel takes CPUs that are offline out of cpusets, and puts them back, without being asked.
    if number != 0 and stretch != 0:
        cpuset_number = number + (stretch << 40)
    if not find_set(
        groups, scope.of[CPUSET], CPUSET_EFFECTIVE, CPUSET_CPUS, cpuset_number, allowed, scratch
    ):
        allowed[0] = online
    elif online_known:
        cpuset_intersect(allowed, &online)
        if allowed.used_words == 0:
            # A cpuset whose CPUs have all gone offline: the kernel lets its tasks run on the others.
            allowed[0] = online
    count = cpuset_count(allowed)
    if count == 0:
        cpuset_clear(allowed)
        cpuset_add(allowed, 0)
        count = 1
    if by_quota:
        quota = quota_in_cpus(groups, scope.of[CPU], number, scratch)
        if quota < <uint64_t>count:
            count = <int>quota
    return count


cdef bint find_mems(Groups *groups, const Scope *scope, CpuSet *nodes, Text *scratch) noexcept nogil:
    """The memory nodes that the cpuset grants. False where none says so."""
    return find_set(groups, scope.of[CPUSET], CPUSET_MEMS_EFFECTIVE, CPUSET_MEMS, 0, nodes, scratch)


cdef bint find_set(
    Groups *groups, Group *group, int effective, int asked, uint64_t number, CpuSet *members, Text *scratch
) noexcept nogil:
    """What the nearest cgroup that says it has. v1's ``asked`` is for kernels before 3.17, without effective files."""
    while group != NULL:
        if group_read_limit(groups, group, effective, number, scratch) > 0:
            if cpuset_parse(members, scratch.data, scratch.length) and members.used_words > 0:
                return True
        elif group_version(groups, group) == 1 and group_read(groups, group, asked, scratch) > 0:
            if cpuset_parse(members, scratch.data, scratch.length) and members.used_words > 0:
                return True
        group = group.parent
    return False


cdef uint64_t quota_in_cpus(Groups *groups, Group *group, uint64_t number, Text *scratch) noexcept nogil:
    """The quota rounded up to whole CPUs, at least 1; 2^64-1 where there is none."""
    cdef Quota quota = smallest_quota(groups, group, number, scratch)
    cdef uint64_t whole
    if quota.period_usec == 0:
        return <uint64_t>-1
    whole = quota.quota_usec // quota.period_usec + (1 if quota.quota_usec % quota.period_usec else 0)
    return whole if whole > 0 else 1


cdef Quota smallest_quota(Groups *groups, Group *group, uint64_t number, Text *scratch) noexcept nogil:
    """The one that allows the fewest CPUs, from here up. ``number``: see group_read_limit."""
    cdef Quota smallest = Quota(0, 0)
    cdef uint64_t quota
    cdef uint64_t period
    cdef Span rest
    # The root of a hierarchy has no quota.
    while group != NULL and group.parent != NULL:
        if group_read_limit(groups, group, CPU_QUOTA, number, scratch) > 0:
            # "max 100000" and "-1" do not begin with a digit: no quota here.
            rest = span(scratch.data, scratch.length)
            if scan_u64(&rest, &quota):
                if group_version(groups, group) == 1:
                    rest = span(NULL, 0)
                    if group_read_limit(groups, group, CPU_PERIOD, number, scratch) > 0:
                        rest = span(scratch.data, scratch.length)
                if scan_u64(&rest, &period) and period > 0 and (
                    smallest.period_usec == 0
                    or <double>quota / period < <double>smallest.quota_usec / smallest.period_usec
                ):
                    smallest = Quota(quota, period)
        group = group.parent
    return smallest
