# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""What is below /sys/devices/system/cpu and /sys/devices/system/node, for a caller's container.

``cpudirs`` and ``nodedirs`` know the host's files and how they are renumbered; here is what they have to be told of a
container: its CPUs, its nodes, its memory. A container that is NULL is none: the host's own trees.
"""

import errno as errnos
import os
import re

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize

from procview._fast.host cimport cpuset_next
from procview._fast.renderer cimport give_back, render, settings_of, take_snapshot
from procview._fast.snapshot cimport FAILED, NEED_CPUS, NEED_NODES, SCOPED, Snapshot
from procview._fast.text cimport Text, text_free, text_init
from procview._fast.views cimport ViewSpec, view_spec

from procview._fast.cpudirs import CPU_DIRECTORY, CpuTree
from procview._fast.nodedirs import NODE_DIRECTORY, NodeTree
from procview._fast.views import INDEX


_CPU_PREFIX = CPU_DIRECTORY + "/"
_NODE_PREFIX = NODE_DIRECTORY + "/"
_MEMINFO = "proc/meminfo"
_NODE_OF_CPU = re.compile(re.escape(CPU_DIRECTORY) + r"/cpu(0|[1-9][0-9]{0,7})/node(0|[1-9][0-9]{0,7})", re.ASCII)


cdef bint is_below(str path) except *:
    """Whether a path is below one of the trees."""
    return path.startswith(_CPU_PREFIX) or path.startswith(_NODE_PREFIX)


@cython.final
cdef class Trees:
    @staticmethod
    cdef Trees below(str sys, Renderer *renderer):
        cdef Trees trees = Trees.__new__(Trees)
        trees._renderer = renderer
        trees._cpus = CpuTree(sys)
        trees._nodes = NodeTree(sys)
        return trees

    cdef bint has_nodes(self) except *:
        """Whether the host has a tree of nodes."""
        return self._nodes.is_there

    cdef list cpus_of(self, Container *container):
        """The host's CPUs behind 0..N-1; all that are online where there is no container."""
        cdef Snapshot *snapshot
        if container == NULL:
            return self._cpus.online()
        snapshot = _snapshot_of(self._renderer, container, NEED_CPUS)
        cpus = _visible_of(snapshot)
        give_back(self._renderer, snapshot)
        return cpus

    cdef str kind(self, Container *container, str path):
        """What a path below the trees, or the directory of nodes, is. FileNotFoundError where it is not."""
        if path == NODE_DIRECTORY or path.startswith(_NODE_PREFIX):
            return self._nodes.kind(self._place_of(container), path)
        of_cpu = _NODE_OF_CPU.fullmatch(path)
        if of_cpu is None:
            return self._cpus.kind(self.cpus_of(container), path)
        if self._node_of_cpu(container, int(of_cpu[1])) != int(of_cpu[2]):
            raise FileNotFoundError(errnos.ENOENT, os.strerror(errnos.ENOENT), path)
        return "link"

    cdef list listdir(self, Container *container, str path):
        """The names in a directory of the trees, or in one of the two at the top."""
        if path == NODE_DIRECTORY or path.startswith(_NODE_PREFIX):
            return self._nodes.listdir(self._place_of(container), path)
        names = self._cpus.listdir(self.cpus_of(container), path)
        number = path.removeprefix(_CPU_PREFIX).removeprefix("cpu")
        if number.isdecimal():
            node = self._node_of_cpu(container, int(number))
            names += [] if node is None else [f"node{node}"]
        return names

    cdef bytes text_of(self, Container *container, str path, bint *failed):
        """A file's text. ``failed`` is set where the container's memory should have been known, and was not."""
        cdef _Memory memory
        if path.startswith(_NODE_PREFIX):
            memory = _Memory.__new__(_Memory)
            memory._renderer = self._renderer
            memory._container = container
            try:
                return self._nodes.render(self._place_of(container), path, numbers=memory)
            finally:
                failed[0] = memory._failed
        if container == NULL:
            return self._cpus.host_text(path)
        return self._cpus.render(
            self.cpus_of(container), path, topology_of_host=settings_of(self._renderer, container).topology_of_host
        )

    cdef object _place_of(self, Container *container):
        """Which nodes it has; None where there is no container, for the host's own tree."""
        cdef Snapshot *snapshot
        cdef int node = -1
        if container == NULL:
            return None
        snapshot = _snapshot_of(self._renderer, container, NEED_CPUS | NEED_NODES)
        cpus = _visible_of(snapshot)
        mems = [] if snapshot.mems_known else None
        while mems is not None:
            node = cpuset_next(&snapshot.mems, node)
            if node < 0:
                break
            mems.append(node)
        give_back(self._renderer, snapshot)
        return self._nodes.place(cpus, mems)

    cdef object _node_of_cpu(self, Container *container, int cpu):
        place = self._place_of(container) if self._nodes.is_there else None
        return None if place is None else self._nodes.node_of_cpu(place, cpu)


@cython.final
cdef class _Memory:
    """What there is to know of a container's memory by nodes, once it is asked for: see NodeTree.render."""

    cdef Renderer *_renderer
    cdef Container *_container
    cdef bint _failed

    def __call__(self):
        cdef Snapshot *snapshot
        cdef Text out
        cdef int verdict
        cdef const ViewSpec *spec = view_spec(INDEX[_MEMINFO])
        with nogil:
            text_init(&out)
            verdict = render(self._renderer, spec, self._container, 0, &out)
        try:
            self._failed = verdict == FAILED
            meminfo = None
            if verdict == SCOPED:
                # Lines of the host's that nobody here knows are in it as they are.
                meminfo = PyBytes_FromStringAndSize(out.data, <ssize_t>out.length).decode("ascii", "replace")
        finally:
            text_free(&out)
        snapshot = _snapshot_of(self._renderer, self._container, NEED_CPUS | NEED_NODES)
        by_node = PyBytes_FromStringAndSize(snapshot.numa_stat.data, <ssize_t>snapshot.numa_stat.length)
        v1 = snapshot.numa_stat_is_v1
        give_back(self._renderer, snapshot)
        return meminfo, by_node.decode("ascii", "replace"), v1, self._renderer.host.page_bytes


cdef Snapshot *_snapshot_of(Renderer *renderer, Container *container, int needs) except NULL:
    """A snapshot outside of a view's rendering, to be given back."""
    cdef Snapshot *snapshot
    cdef int _verdict
    with nogil:
        snapshot = take_snapshot(renderer, container, 0, needs, 0, &_verdict)
    if snapshot == NULL:
        raise MemoryError
    return snapshot


cdef list _visible_of(Snapshot *snapshot):
    cdef int cpu = -1
    cdef int _i
    cpus = []
    for _i in range(snapshot.cpus):
        cpu = cpuset_next(&snapshot.allowed, cpu)
        cpus.append(cpu)
    return cpus
