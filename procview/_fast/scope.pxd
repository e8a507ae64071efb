"""The cgroups of a container, one for each controller. See ``_fast/scope.pyx``."""

from procview._fast.cgroup cimport Group, Groups
from procview._fast.host cimport Host
from procview._fast.layout cimport CONTROLLERS, CgroupPaths
from procview._fast.text cimport Text


cdef struct Scope:
    int references
    Group *of[CONTROLLERS]   # NULL: the controller is mounted nowhere, or see unopened
    Group *unified           # the v2 cgroup, for pressure; NULL where there is none
    unsigned int unopened    # bits 1 << Controller: there is such a cgroup, and its path is too long to open


cdef Scope *scope_new(Groups *groups, const CgroupPaths *paths) noexcept nogil
cdef void scope_put(Groups *groups, Scope *scope) noexcept nogil
cdef bint scope_has_vanished(Groups *groups, const Scope *scope) noexcept nogil
cdef void without_init_scope(CgroupPaths *paths, int count) noexcept nogil
cdef bint roots_of_cgroup_namespace(
    Host *host, Groups *groups, int init, const CgroupPaths *own, CgroupPaths *roots, Text *mountinfo
) noexcept nogil
cdef bint settle_in_scope(Groups *groups, const Scope *scope, CgroupPaths *paths) noexcept nogil
