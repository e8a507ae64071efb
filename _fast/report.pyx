# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Containers and their numbers as Python objects, for those who look at all of them from outside.

Nothing here is of the way from a request to its reply. Lists are made in two steps: entries are counted under the
table's lock, and become objects without it, since making those may run anything.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint64_t
from libc.stdlib cimport free, malloc

from procview._fast.cgroup cimport Group, group_number, group_read, group_version
from procview._fast.container cimport container_put, container_ref, scope_take
from procview._fast.cpus cimport Quota, smallest_quota
from procview._fast.latency cimport LATENCY_BUCKETS, latency_bound_ns
from procview._fast.layout cimport CONTROLLERS, CPU, CPUACCT, CPUACCT_USAGE, CPU_STAT, MEMORY
from procview._fast.posix cimport pthread_mutex_lock, pthread_mutex_unlock, u64_now
from procview._fast.scope cimport Scope, scope_put
from procview._fast.text cimport Text, text_free, text_init

from procview._fast.views import PATHS


cdef list known_containers(Renderer *renderer):
    cdef Container **held
    cdef Container *container
    cdef size_t capacity
    cdef size_t count = 0
    cdef size_t i
    pthread_mutex_lock(&renderer.containers.lock)
    capacity = renderer.containers.count
    held = <Container **>malloc((capacity + 1) * sizeof(Container *))
    if held != NULL:
        for i in range(renderer.containers.bucket_count):
            container = renderer.containers.buckets[i]
            while container != NULL and count < capacity:
                container_ref(container)
                held[count] = container
                count += 1
                container = container.next
    pthread_mutex_unlock(&renderer.containers.lock)
    if held == NULL:
        raise MemoryError
    found = []
    try:
        for i in range(count):
            container = held[i]
            found.append({
                "pid_namespace": container.pidns,
                "init_pid": container.init,
                "init_start_ticks": container.init_start_ticks,
                "is_own_scope": container.key.length > 0,
                "cgroup": cgroup_of(renderer, container),
                "reads": u64_now(&container.reads),
            })
    finally:
        for i in range(count):
            container_put(&renderer.containers, held[i])
        free(held)
    return found


cdef str cgroup_of(Renderer *renderer, Container *container):
    """The path of its cgroup of the memory controller, else of another one; "/" for the root."""
    cdef Scope *scope = scope_take(container)
    cdef Group *group = scope.of[MEMORY]
    cdef int i
    try:
        for i in range(CONTROLLERS):
            if group == NULL:
                group = scope.of[i]
        if group == NULL:
            return "/"
        return "/" + PyBytes_FromStringAndSize(group.path, <ssize_t>group.path_length).decode(
            "utf-8", "surrogateescape"
        )
    finally:
        scope_put(&renderer.groups, scope)


cdef dict numbers_of(Renderer *renderer, Container *container):
    cdef Scope *scope
    cdef Group *group
    cdef Text text
    cdef uint64_t usage_ns = 0
    cdef Quota quota
    cdef bint is_counted = False
    cdef int version = 2
    with nogil:
        text_init(&text)
        scope = scope_take(container)
        quota = smallest_quota(&renderer.groups, scope.of[CPU], 0, &text)
        group = scope.of[CPUACCT]
        if group != NULL and group_version(&renderer.groups, group) == 1:
            is_counted = group_number(&renderer.groups, group, CPUACCT_USAGE, &usage_ns, &text) == 0
        group = scope.of[CPU]
        text.length = 0
        if group != NULL:
            version = group_version(&renderer.groups, group)
            if group_read(&renderer.groups, group, CPU_STAT, &text) < 0:
                text.length = 0
        scope_put(&renderer.groups, scope)
    try:
        stat = {}
        for line in PyBytes_FromStringAndSize(text.data, <ssize_t>text.length).decode("ascii", "replace").splitlines():
            key, _, value = line.partition(" ")
            if value.isdecimal():
                stat[key] = int(value)
    finally:
        text_free(&text)
    throttled = stat.get("throttled_usec")
    if version == 1:
        throttled = stat["throttled_time"] // 1000 if "throttled_time" in stat else None
    return {
        "cpu_quota": quota.quota_usec / <double>quota.period_usec if quota.period_usec else None,
        "cpu_usage_usec": usage_ns // 1000 if is_counted else stat.get("usage_usec"),
        "cpu_periods": stat.get("nr_periods"),
        "cpu_throttled_periods": stat.get("nr_throttled"),
        "cpu_throttled_usec": throttled,
    }


cdef dict latencies_of(Renderer *renderer):
    found = {}
    for number, path in enumerate(PATHS):
        buckets = [
            (latency_bound_ns(i), u64_now(&renderer.latencies[<int>number].buckets[i])) for i in range(LATENCY_BUCKETS)
        ]
        found[path] = (u64_now(&renderer.latencies[<int>number].total_ns), buckets)
    return found
