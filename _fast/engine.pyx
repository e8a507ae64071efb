# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The hot path as Python sees it: a caller's pid and a path in, bytes out.

The way through is one: container_of -> snapshot_take -> render. What cannot be scoped is the host's own file, and
is counted.
"""

import errno as errnos
import os
import re

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from procview._fast.caller cimport PLACED, SEARCH_NEEDED, container_is_known, container_of
from procview._fast.cgroup cimport Groups, groups_free, groups_init
from procview._fast.container cimport Container, Containers, container_put
from procview._fast.containers cimport containers_free, containers_init
from procview._fast.cpuinfo_host cimport CpuinfoCache, cpuinfo_cache_free, cpuinfo_cache_init
from procview._fast.disks cimport devices_are_fresh
from procview._fast.host cimport Host, cpuset_next, host_free, host_init
from procview._fast.kept cimport Keeper, keeper_close_idle, keeper_free, keeper_init, read_path
from procview._fast.layout cimport Layout, layout_free, layout_read
from procview._fast.load cimport load_is_watched, sample_all
from procview._fast.meminfo_host cimport meminfo_forget
from procview._fast.posix cimport (
    count_now,
    pthread_mutex_destroy,
    pthread_mutex_init,
    pthread_mutex_lock,
    pthread_mutex_t,
    pthread_mutex_unlock,
)
from procview._fast.snapshot cimport (
    FAILED,
    HOST_FILE,
    NEED_CPUS,
    NEED_DISKS,
    NEED_LOAD,
    NEED_NODES,
    NEED_PRESSURE,
    NO_SUCH_FILE,
    SCOPED,
    Settings,
    Snapshot,
    snapshot_free,
    snapshot_init,
    snapshot_settle,
    snapshot_take,
)
from procview._fast.text cimport Text, text_free, text_init
from procview._fast.vmstat_host cimport vmstat_forget
from procview._fast.views cimport ViewSpec, view_spec

from procview._fast.cpudirs import CPU_DIRECTORY, CpuTree
from procview._fast.nodedirs import NODE_DIRECTORY, NodeTree
from procview._fast import views
from procview._fast.views import DIRECTORIES, INDEX


cdef enum:
    HOST_FILE_BYTES = 64 << 20   # more than any of the files below has on the largest host
    MOST_IDLE_SNAPSHOTS = 16     # kept with their buffers; one is in use for each render under way

cdef enum:
    # Reasons for the host's file, beside the Placements
    REASON_UNSCOPABLE = 8
    REASONS = 9

PROC_VIEWS = views.PROC_VIEWS
_CPU_PREFIX = CPU_DIRECTORY + "/"
_NODE_PREFIX = NODE_DIRECTORY + "/"
_NODE_PARENT = NODE_DIRECTORY.rpartition("/")[0]
_MEMINFO = "proc/meminfo"
_NODE_OF_CPU = re.compile(re.escape(CPU_DIRECTORY) + r"/cpu(0|[1-9][0-9]{0,7})/node(0|[1-9][0-9]{0,7})", re.ASCII)

cdef tuple REASON_NAMES = (
    None, "unknown-caller", "unreadable-caller", "unknown-init", None, "out-of-memory", None, None, "unscopable"
)
cdef tuple CONTROLLER_NAMES = ("memory", "cpu", "cpuacct", "cpuset", "io", "pids", "hugetlb")


@cython.final
cdef class Engine:
    cdef Keeper _keeper
    cdef Host _host
    cdef Layout _layout
    cdef Groups _groups
    cdef Containers _containers
    cdef CpuinfoCache _cpuinfo
    cdef Settings _settings
    cdef pthread_mutex_t _lock          # of the settings, the idle snapshots and the counts
    cdef Snapshot *_idle[MOST_IDLE_SNAPSHOTS]
    cdef int _idle_count
    cdef uint64_t _reads
    cdef uint64_t _fallbacks[REASONS]
    cdef unsigned int _absent
    cdef bint _ready
    cdef bint _closed
    cdef object _tree
    cdef object _nodes
    cdef object _sys

    def __init__(
        self, *, str proc="/proc", str sys="/sys", str cgroup="/sys/fs/cgroup", boottime_ns=None, max_descriptors=None
    ):
        cdef int64_t frozen = -1 if boottime_ns is None else boottime_ns
        cdef int most_descriptors
        cdef int proc_fd
        cdef int sys_fd
        cdef int result
        if self._ready:
            raise RuntimeError("an engine is initialised once")
        if max_descriptors is None:
            import resource
            soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
            max_descriptors = 1 << 20 if soft == resource.RLIM_INFINITY else min(soft * 3 // 4, 1 << 20)
        most_descriptors = max_descriptors
        root = os.fsencode(cgroup.rstrip("/"))
        proc_fd = os.open(proc, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            sys_fd = os.open(sys, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            os.close(proc_fd)
            raise
        keeper_init(&self._keeper, most_descriptors)
        pthread_mutex_init(&self._lock, NULL)
        result = host_init(&self._host, &self._keeper, proc_fd, sys_fd, frozen)
        if result < 0:
            host_free(&self._host)
            raise OSError(-result, "no self/ns/pid: not a proc file system", proc)
        result = layout_read(&self._layout, &self._host, root)
        if result < 0:
            host_free(&self._host)
            raise OSError(-result, os.strerror(-result), f"{proc}/self/mountinfo")
        if groups_init(&self._groups, &self._layout, &self._keeper) < 0:
            raise MemoryError
        if containers_init(&self._containers, &self._host, &self._groups) < 0:
            raise MemoryError
        cpuinfo_cache_init(&self._cpuinfo)
        self._ready = True
        self._sys = sys
        self._tree = CpuTree(sys)
        self._nodes = NodeTree(sys)
        self.configure()

    def __dealloc__(self):
        cdef int i
        if not self._ready:
            return
        for i in range(self._idle_count):
            snapshot_free(self._idle[i])
            free(self._idle[i])
        containers_free(&self._containers)
        groups_free(&self._groups)
        cpuinfo_cache_free(&self._cpuinfo)
        meminfo_forget(&self._host)
        vmstat_forget(&self._host)
        layout_free(&self._layout)
        host_free(&self._host)
        keeper_free(&self._keeper)
        pthread_mutex_destroy(&self._lock)

    def configure(
        self, *, str cpus="quota", str topology="container", bint swap=True, str devices="container",
        str uptime="container", bint loadavg=True
    ):
        cdef Settings settings
        memset(&settings, 0, sizeof(settings))
        settings.cpus_by_quota = _choose("cpus", cpus, "quota", "cpuset")
        settings.topology_of_host = _choose("topology", topology, "host", "container")
        settings.swap = swap
        settings.devices_of_host = _choose("devices", devices, "host", "container")
        settings.uptime_of_host = _choose("uptime", uptime, "host", "container")
        settings.loadavg = loadavg
        pthread_mutex_lock(&self._lock)
        self._settings = settings
        pthread_mutex_unlock(&self._lock)

    def close(self):
        """Renders under way end as they would have; their descriptors are closed behind them."""
        self._closed = True
        if self._ready:
            keeper_close_idle(&self._keeper)

    cdef int _check(self) except -1:
        if self._closed or not self._ready:
            raise ValueError("the engine is closed")
        return 0

    # --- files -------------------------------------------------------------------------------------------------

    def open(self, pid, str path, *, bint search=True):
        cdef View view
        self._check()
        index = INDEX.get(path)
        if index is None:
            if path in DIRECTORIES or path == NODE_DIRECTORY:
                self.kind(pid, path)
                raise IsADirectoryError(errnos.EISDIR, os.strerror(errnos.EISDIR), path)
            if not path.startswith((_CPU_PREFIX, _NODE_PREFIX)):
                raise FileNotFoundError(errnos.ENOENT, os.strerror(errnos.ENOENT), path)
        view = View.__new__(View)
        view._engine = self
        view._path = path
        view._spec = -1 if index is None else index
        self._place(_number(pid), view, search)
        if index is None:
            kind = self._kind_below(view, path)
            if kind == "dir":
                raise IsADirectoryError(errnos.EISDIR, os.strerror(errnos.EISDIR), path)
            if kind == "link":
                raise OSError(errnos.ELOOP, os.strerror(errnos.ELOOP), path)
        elif view_spec(view._spec).needs & NEED_PRESSURE:
            view.render()   # says whether this caller has such a file
        return view

    cdef int _place(self, int pid, View view, bint search) except -1:
        cdef Text scratch
        cdef Text other
        cdef int placement
        with nogil:
            text_init(&scratch)
            text_init(&other)
            placement = container_of(&self._containers, pid, search, &view._container, &scratch, &other)
            text_free(&scratch)
            text_free(&other)
        if placement == SEARCH_NEEDED:
            raise BlockingIOError(errnos.EAGAIN, "init of the caller's pid namespace has to be searched for")
        if placement != PLACED:
            view._reason = placement
            pthread_mutex_lock(&self._lock)
            self._fallbacks[placement] += 1
            pthread_mutex_unlock(&self._lock)
        return 0

    def open_blocks(self, pid):
        cdef int number = _number(pid)
        cdef bint known
        self._check()
        with nogil:
            known = container_is_known(&self._containers, number)
        return not known

    cdef View _caller(self, pid):
        """A view of no file, for who has opened it."""
        cdef View view = View.__new__(View)
        self._check()
        view._engine = self
        view._path = ""
        view._spec = -1
        self._place(_number(pid), view, True)
        return view

    def cpus(self, pid):
        return self._caller(pid)._cpus()

    cdef str _kind_below(self, View view, str path):
        """What a path below the CPU tree or the node tree is, for who has opened ``view``."""
        if path.startswith(_NODE_PREFIX):
            return self._nodes.kind(view._node_place(), path)
        of_cpu = _NODE_OF_CPU.fullmatch(path)
        if of_cpu is None:
            return self._tree.kind(view._cpus(), path)
        if view._node_of_cpu(int(of_cpu[1])) != int(of_cpu[2]):
            raise FileNotFoundError(errnos.ENOENT, os.strerror(errnos.ENOENT), path)
        return "link"

    def kind(self, pid, str path):
        if path in DIRECTORIES:
            return "dir"
        if path in INDEX:
            if path.startswith("proc/pressure/"):
                self.open(pid, path)
            return "file"
        if path == NODE_DIRECTORY:
            return self._nodes.kind(None, path)   # the same for everyone
        if path.startswith((_CPU_PREFIX, _NODE_PREFIX)):
            return self._kind_below(self._caller(pid), path)
        raise FileNotFoundError(errnos.ENOENT, os.strerror(errnos.ENOENT), path)

    def listdir(self, pid, str path):
        cdef View view
        if path == NODE_DIRECTORY or path.startswith(_NODE_PREFIX):
            return self._nodes.listdir(self._caller(pid)._node_place(), path)
        if path == CPU_DIRECTORY or (path not in DIRECTORIES and path.startswith(_CPU_PREFIX)):
            view = self._caller(pid)
            names = self._tree.listdir(view._cpus(), path)
            number = path.removeprefix(_CPU_PREFIX).removeprefix("cpu")
            if number.isdecimal():
                node = view._node_of_cpu(int(number))
                names += [] if node is None else [f"node{node}"]
            return names
        if path not in DIRECTORIES:
            self.kind(pid, path)
            raise NotADirectoryError(errnos.ENOTDIR, os.strerror(errnos.ENOTDIR), path)
        names = DIRECTORIES[path]
        if path == "proc/pressure":
            return [name for name in names if self._has(pid, f"{path}/{name}")]
        if path == _NODE_PARENT and self._nodes.is_there:
            return [*names, NODE_DIRECTORY.rpartition("/")[2]]
        return list(names)

    def _has(self, pid, path):
        try:
            self.kind(pid, path)
        except FileNotFoundError:
            return False
        return True

    # --- the rest ----------------------------------------------------------------------------------------------

    def sample(self):
        cdef int watched
        self._check()
        with nogil:
            watched = sample_all(&self._containers)
        if watched < 0:
            raise MemoryError
        return watched

    def counters(self):
        cdef uint64_t fallbacks[REASONS]
        cdef uint64_t reads
        cdef size_t containers
        cdef size_t cgroups
        cdef int i
        pthread_mutex_lock(&self._lock)
        reads = self._reads
        for i in range(REASONS):
            fallbacks[i] = self._fallbacks[i]
        pthread_mutex_unlock(&self._lock)
        with nogil:
            # A sweep holds the first one for a while.
            pthread_mutex_lock(&self._containers.lock)
            containers = self._containers.count
            pthread_mutex_unlock(&self._containers.lock)
            pthread_mutex_lock(&self._groups.lock)
            cgroups = self._groups.count
            pthread_mutex_unlock(&self._groups.lock)
        counts = {"reads": reads}
        for i in range(REASONS):
            if REASON_NAMES[i] is not None:
                counts["fallback_" + REASON_NAMES[i].replace("-", "_")] = fallbacks[i]
        counts["containers"] = containers
        counts["cgroups"] = cgroups
        counts["descriptors"] = count_now(&self._keeper.open_count)
        return counts

    @property
    def absent_bits(self):
        return self._absent

    def absent_controllers(self):
        return [name for i, name in enumerate(CONTROLLER_NAMES) if self._absent & (1 << i)]

    cdef Snapshot *_take_idle(self) noexcept nogil:
        cdef Snapshot *snapshot = NULL
        pthread_mutex_lock(&self._lock)
        if self._idle_count > 0:
            self._idle_count -= 1
            snapshot = self._idle[self._idle_count]
        pthread_mutex_unlock(&self._lock)
        if snapshot == NULL:
            snapshot = <Snapshot *>calloc(1, sizeof(Snapshot))
            if snapshot != NULL:
                snapshot_init(snapshot)
        return snapshot

    cdef void _give_back(self, Snapshot *snapshot) noexcept nogil:
        snapshot_settle(snapshot)
        pthread_mutex_lock(&self._lock)
        self._absent |= snapshot.absent
        if self._idle_count < MOST_IDLE_SNAPSHOTS:
            self._idle[self._idle_count] = snapshot
            self._idle_count += 1
            snapshot = NULL
        pthread_mutex_unlock(&self._lock)
        if snapshot != NULL:
            snapshot_free(snapshot)
            free(snapshot)

    cdef int _render(self, const ViewSpec *spec, Container *container, Text *out) noexcept nogil:
        """The container's text. Returns a Verdict; with any but SCOPED there is none."""
        cdef Snapshot *snapshot = self._take_idle()
        cdef Settings settings
        cdef int verdict
        if snapshot == NULL:
            return FAILED
        pthread_mutex_lock(&self._lock)
        settings = self._settings
        self._reads += 1
        pthread_mutex_unlock(&self._lock)
        verdict = snapshot_take(
            snapshot, spec.needs, spec.which, &settings, &self._containers, &self._cpuinfo, container
        )
        if verdict == SCOPED:
            spec.render(snapshot, out)
            if out.broken:
                verdict = FAILED
        self._give_back(snapshot)
        return verdict

    cdef Snapshot *_snapshot_of(self, Container *container, int needs) except NULL:
        """A snapshot outside of a view's rendering, to be given back."""
        cdef Snapshot *snapshot = self._take_idle()
        cdef Settings settings
        if snapshot == NULL:
            raise MemoryError
        pthread_mutex_lock(&self._lock)
        settings = self._settings
        pthread_mutex_unlock(&self._lock)
        with nogil:
            snapshot_take(snapshot, needs, 0, &settings, &self._containers, &self._cpuinfo, container)
        return snapshot

    cdef list _visible_cpus(self, Container *container):
        """The host's CPUs behind 0..N-1; all that are online where there is no container."""
        cdef Snapshot *snapshot
        if container == NULL:
            return self._tree.online()
        snapshot = self._snapshot_of(container, NEED_CPUS)
        cpus = _visible_of(snapshot)
        self._give_back(snapshot)
        return cpus


cdef list _visible_of(Snapshot *snapshot):
    cdef int cpu = -1
    cdef int _i
    cpus = []
    for _i in range(snapshot.cpus):
        cpu = cpuset_next(&snapshot.allowed, cpu)
        cpus.append(cpu)
    return cpus


@cython.final
@cython.no_gc_clear
cdef class View:
    cdef Engine _engine
    cdef str _path
    cdef int _spec              # -1: a file of one CPU, or of the node tree
    cdef Container *_container  # NULL: the host's file
    cdef int _reason

    def __dealloc__(self):
        if self._container != NULL:
            container_put(&self._engine._containers, self._container)

    @property
    def path(self):
        return self._path

    @property
    def owner(self):
        return self._container.pidns if self._container != NULL else 0

    @property
    def fallback(self):
        return REASON_NAMES[self._reason]

    @property
    def blocking(self):
        cdef const ViewSpec *spec
        if self._spec < 0 or self._container == NULL:
            return False
        spec = view_spec(self._spec)
        if spec.needs & NEED_DISKS:
            if self._engine._settings.devices_of_host:
                return False
            return not devices_are_fresh(&self._engine._host, self._container)
        if spec.needs & NEED_LOAD:
            return not load_is_watched(self._container)
        return False

    cdef list _cpus(self):
        return self._engine._visible_cpus(self._container)

    cdef object _node_place(self):
        """Which nodes the opener has; None where there is no container, for the host's own tree."""
        cdef Snapshot *snapshot
        cdef int node = -1
        if self._container == NULL:
            return None
        snapshot = self._engine._snapshot_of(self._container, NEED_CPUS | NEED_NODES)
        cpus = _visible_of(snapshot)
        mems = [] if snapshot.mems_known else None
        while mems is not None:
            node = cpuset_next(&snapshot.mems, node)
            if node < 0:
                break
            mems.append(node)
        self._engine._give_back(snapshot)
        return self._engine._nodes.place(cpus, mems)

    cdef object _node_of_cpu(self, int cpu):
        place = self._node_place() if self._engine._nodes.is_there else None
        return None if place is None else self._engine._nodes.node_of_cpu(place, cpu)

    def _node_numbers(self):
        """See NodeTree.render."""
        cdef Snapshot *snapshot
        cdef Text out
        cdef int verdict
        cdef const ViewSpec *spec = view_spec(INDEX[_MEMINFO])
        with nogil:
            text_init(&out)
            verdict = self._engine._render(spec, self._container, &out)
        try:
            if verdict == FAILED:
                self._is_unscopable()
            meminfo = PyBytes_FromStringAndSize(out.data, <ssize_t>out.length).decode() if verdict == SCOPED else None
        finally:
            text_free(&out)
        snapshot = self._engine._snapshot_of(self._container, NEED_CPUS | NEED_NODES)
        by_node = PyBytes_FromStringAndSize(snapshot.numa_stat.data, <ssize_t>snapshot.numa_stat.length)
        v1 = snapshot.numa_stat_is_v1
        self._engine._give_back(snapshot)
        return meminfo, by_node.decode("ascii", "replace"), v1, self._engine._host.page_bytes

    cdef void _is_unscopable(self) noexcept:
        self._reason = REASON_UNSCOPABLE
        pthread_mutex_lock(&self._engine._lock)
        self._engine._fallbacks[REASON_UNSCOPABLE] += 1
        pthread_mutex_unlock(&self._engine._lock)

    cdef bytes _render_below(self):
        """A file of the CPU tree or of the node tree."""
        if self._path.startswith(_NODE_PREFIX):
            return self._engine._nodes.render(self._node_place(), self._path, numbers=self._node_numbers)
        if self._container == NULL:
            return self._engine._tree.host_text(self._path)
        return self._engine._tree.render(
            self._cpus(), self._path, topology_of_host=self._engine._settings.topology_of_host
        )

    def render(self):
        cdef Text out
        cdef int verdict = HOST_FILE
        cdef ssize_t got
        cdef const ViewSpec *spec
        self._engine._check()
        if self._spec < 0:
            return self._render_below()
        spec = view_spec(self._spec)
        with nogil:
            text_init(&out)
            if self._container != NULL:
                verdict = self._engine._render(spec, self._container, &out)
            got = <ssize_t>out.length
            if verdict == HOST_FILE or verdict == FAILED:
                got = read_path(
                    self._engine._host.sys_fd if spec.of_sys else self._engine._host.proc_fd,
                    spec.host_path, &out, HOST_FILE_BYTES
                )
        try:
            if verdict == FAILED:
                self._is_unscopable()
            elif self._container != NULL:
                self._reason = PLACED
            if verdict == NO_SUCH_FILE:
                raise FileNotFoundError(errnos.ENOENT, os.strerror(errnos.ENOENT), self._path)
            if got < 0:
                raise OSError(-got, os.strerror(-got), self._path)
            return PyBytes_FromStringAndSize(out.data, got)
        finally:
            text_free(&out)


cdef int _number(pid) except? -1:
    """A pid; 0, which is nobody's, for what no pid can be."""
    try:
        return pid
    except OverflowError:
        return 0


cdef bint _choose(str setting, str word, str yes, str no) except *:
    if word == yes:
        return True
    if word == no:
        return False
    raise ValueError(f"{setting}: {word!r} is neither {yes!r} nor {no!r}")
