# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The hot path as Python sees it: a caller's pid and a path in, bytes out.

What cannot be scoped is the host's own file, and is counted.
"""

import errno as errnos
import os

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int64_t
from libc.stdio cimport snprintf
from libc.stdlib cimport free

from procview._fast.caller cimport PLACED, SEARCH_NEEDED, container_is_known
from procview._fast.callers cimport callers_forget_gone, callers_were_kept
from procview._fast.changes cimport changes_watch
from procview._fast.container cimport Container, container_cgroups, container_put, container_settle
from procview._fast.containers cimport containers_all
from procview._fast.kept cimport keeper_close_idle
from procview._fast.load cimport sample_all
from procview._fast.posix cimport store
from procview._fast.renderer cimport (
    REASON_UNSCOPABLE,
    REASONS,
    Counts,
    count_fallback,
    is_settled,
    may_wait,
    place_caller,
    render_uncounted,
    renderer_configure,
    renderer_counts,
    renderer_free,
    renderer_init,
    whole_text,
)
from procview._fast.report cimport known_containers, latencies_of, numbers_of
from procview._fast.settings cimport Settings, settings_of_words
from procview._fast.snapshot cimport FAILED, NEED_PRESSURE, NO_SUCH_FILE, SCOPED
from procview._fast.text cimport Text, text_free, text_init
from procview._fast.trees cimport Trees, is_below
from procview._fast.views cimport ViewSpec, view_spec

from procview._fast.cpudirs import CPU_DIRECTORY
from procview._fast.nodedirs import NODE_DIRECTORY
from procview._fast import views
from procview._fast.views import DIRECTORIES, INDEX


PROC_VIEWS = views.PROC_VIEWS
_NODE_PARENT = NODE_DIRECTORY.rpartition("/")[0]

cdef tuple REASON_NAMES = (
    None, "unknown-caller", "unreadable-caller", "unknown-init", None, "out-of-memory", None, None, "unscopable"
)
cdef tuple CONTROLLER_NAMES = ("memory", "cpu", "cpuacct", "cpuset", "io", "pids", "hugetlb")


@cython.final
cdef class Engine:
    def __init__(
        self, *, str proc="/proc", str sys="/sys", str cgroup="/sys/fs/cgroup", str mounts_of="self", boottime_ns=None,
        max_descriptors=None
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
        result = renderer_init(&self._renderer, proc_fd, sys_fd, root, frozen, most_descriptors)
        if result < 0:
            raise OSError(-result, f"not a proc file system that can be read ({os.strerror(-result)})", proc)
        self._ready = True
        whose = os.fsencode(mounts_of)
        snprintf(self._renderer.host.mounts_of, sizeof(self._renderer.host.mounts_of), b"%s", <const char *>whose)
        self._trees = Trees.below(sys, &self._renderer)
        self._fallbacks = {}
        self.configure()

    def __dealloc__(self):
        if self._ready:
            renderer_free(&self._renderer)

    def configure(
        self, *, str cpus="quota", str topology="container", bint swap=True, str devices="container",
        str uptime="container", bint loadavg=True, ask=None
    ):
        cdef Settings settings = settings_of_words(cpus, topology, swap, devices, uptime, loadavg)
        self._generation = object()
        self._ask = ask
        if ask is not None:
            # Before the others follow: if all containers had to be asked for at once, some readers would be refused.
            self.settle_known()
        renderer_configure(&self._renderer, &settings, ask is not None)

    def settle_known(self):
        """Ask anew for every container there is; one that fails is asked for again by its next reader, who says why."""
        cdef Container **known
        cdef size_t count
        cdef size_t i
        if self._ask is None:
            return
        with nogil:
            known = containers_all(&self._renderer.containers, &count)
        if known == NULL:
            raise MemoryError
        for i in range(count):
            try:
                self._ask_for(known[i])
            except Exception:
                store(&known[i].is_settled, False)
            container_put(&self._renderer.containers, known[i])
        free(known)

    cdef int _settle(self, Container *container) except -1:
        """See that it is known which settings the container has."""
        return 0 if container == NULL or is_settled(&self._renderer, container) else self._ask_for(container)

    cdef int _ask_for(self, Container *container) except -1:
        cdef Text cgroups
        cdef Settings settings
        generation, ask = self._generation, self._ask
        if ask is None:
            return 0
        text_init(&cgroups)
        try:
            with nogil:
                container_cgroups(container, &cgroups)
            if cgroups.broken:
                raise MemoryError
            found = ask(
                container.pidns, container.init_start_ticks,
                PyBytes_FromStringAndSize(cgroups.data, <ssize_t>cgroups.length)
            )
            settings = settings_of_words(
                found["cpus"], found["topology"], found["swap"], found["devices"], found["uptime"], found["loadavg"]
            )
            if self._generation is generation:   # else somebody asks anew, or will
                container_settle(container, &settings, cgroups.data, cgroups.length)
        finally:
            text_free(&cgroups)
        return 0

    def close(self):
        """Renders under way end as they would have; their descriptors are closed behind them."""
        self._closed = True
        if self._ready:
            keeper_close_idle(&self._renderer.keeper)

    cdef int _check(self) except -1:
        if self._closed or not self._ready:
            raise ValueError("the engine is closed")
        return 0

    # --- files -------------------------------------------------------------------------------------------------

    def open(self, pid, str path, *, bint search=True):
        cdef View view = self._opened(pid, path, search)
        if view._container == NULL:
            self._count_fallback(view)
        return view

    cdef View _opened(self, pid, str path, bint search):
        """As open, for whoever only looks whether there is such a file."""
        cdef View view
        self._check()
        index = INDEX.get(path)
        if index is None:
            if path in DIRECTORIES or path == NODE_DIRECTORY:
                self.kind(pid, path)
                raise IsADirectoryError(errnos.EISDIR, os.strerror(errnos.EISDIR), path)
            if not is_below(path):
                raise FileNotFoundError(errnos.ENOENT, os.strerror(errnos.ENOENT), path)
        view = View.__new__(View)
        view._engine = self
        view._path = path
        view._spec = -1 if index is None else index
        self._place(_number(pid), view, search)
        if index is None:
            kind = self._trees.kind(view._container, path)
            if kind == "dir":
                raise IsADirectoryError(errnos.EISDIR, os.strerror(errnos.EISDIR), path)
            if kind == "link":
                raise OSError(errnos.ELOOP, os.strerror(errnos.ELOOP), path)
        elif view_spec(view._spec).needs & NEED_PRESSURE:
            view.render()   # says whether this caller has such a file
        return view

    cdef int _place(self, int pid, View view, bint search) except -1:
        cdef int placement
        with nogil:
            placement = place_caller(&self._renderer, pid, search, &view._container, &view._number)
        if placement == SEARCH_NEEDED:
            raise BlockingIOError(errnos.EAGAIN, "init of the caller's pid namespace has to be searched for")
        view._reason = placement
        self._settle(view._container)
        return 0

    cdef void _count_fallback(self, View view):
        key = view._path if view._spec >= 0 else view._path.partition("/")[0], REASON_NAMES[view._reason]
        self._fallbacks[key] = self._fallbacks.get(key, 0) + 1

    def open_blocks(self, pid):
        cdef int number = _number(pid)
        cdef bint known
        self._check()
        with nogil:
            known = container_is_known(&self._renderer.containers, number)
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
        cdef View view = self._caller(pid)
        return self._trees.cpus_of(view._container)

    def kind(self, pid, str path):
        cdef View view
        if path in DIRECTORIES:
            return "dir"
        if path in INDEX:
            if path.startswith("proc/pressure/"):
                self._opened(pid, path, True)
            return "file"
        if path == NODE_DIRECTORY:
            return self._trees.kind(NULL, path)   # the same for everyone
        if is_below(path):
            view = self._caller(pid)
            return self._trees.kind(view._container, path)
        raise FileNotFoundError(errnos.ENOENT, os.strerror(errnos.ENOENT), path)

    def listdir(self, pid, str path):
        cdef View view
        if path in (CPU_DIRECTORY, NODE_DIRECTORY) or (path not in DIRECTORIES and is_below(path)):
            view = self._caller(pid)
            return self._trees.listdir(view._container, path)
        if path not in DIRECTORIES:
            self.kind(pid, path)
            raise NotADirectoryError(errnos.ENOTDIR, os.strerror(errnos.ENOTDIR), path)
        names = DIRECTORIES[path]
        if path == "proc/pressure":
            return [name for name in names if self._has(pid, f"{path}/{name}")]
        if path == _NODE_PARENT and self._trees.has_nodes():
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
            watched = sample_all(&self._renderer.containers)
        if watched < 0:
            raise MemoryError
        return watched

    def watch_changes(self):
        cdef int result
        self._check()
        if self._renderer.containers.changes.watch >= 0:
            raise RuntimeError("changes are watched already")
        with nogil:
            result = changes_watch(&self._renderer.containers.changes, &self._renderer.host)
        if result < 0:
            raise OSError(-result, os.strerror(-result))

    def callers_were_kept(self):
        return callers_were_kept(&self._renderer.containers.callers)

    def forget_gone_callers(self):
        cdef bint used
        self._check()
        with nogil:
            used = callers_forget_gone(&self._renderer.containers.callers)
        return used

    def counters(self):
        cdef Counts counted
        cdef int i
        with nogil:
            renderer_counts(&self._renderer, &counted)
        counts = {"reads": counted.reads}
        for i in range(REASONS):
            if REASON_NAMES[i] is not None:
                counts["fallback_" + REASON_NAMES[i].replace("-", "_")] = counted.fallbacks[i]
        counts["unchanged_callers"] = counted.as_seen
        counts["containers"] = counted.containers
        counts["cgroups"] = counted.cgroups
        counts["descriptors"] = counted.descriptors
        return counts

    def containers(self):
        self._check()
        return known_containers(&self._renderer)

    def numbers(self, pid):
        cdef View view = self._caller(pid)
        return None if view._container == NULL else numbers_of(&self._renderer, view._container)

    def text(self, pid, str path):
        cdef View view = self._caller(pid)
        cdef Text out
        cdef int verdict = FAILED
        cdef const ViewSpec *spec = view_spec(INDEX[path])
        if view._container == NULL:
            return None
        with nogil:
            text_init(&out)
            verdict = render_uncounted(&self._renderer, spec, view._container, view._number, &out)
        try:
            return PyBytes_FromStringAndSize(out.data, <ssize_t>out.length) if verdict == SCOPED else None
        finally:
            text_free(&out)

    def latencies(self):
        return latencies_of(&self._renderer)

    def fallbacks(self):
        return dict(self._fallbacks)

    @property
    def absent_bits(self):
        return self._renderer.absent

    def absent_controllers(self):
        return [name for i, name in enumerate(CONTROLLER_NAMES) if self._renderer.absent & (1 << i)]


@cython.final
@cython.no_gc_clear
cdef class View:
    def __dealloc__(self):
        if self._container != NULL:
            container_put(&self._engine._renderer.containers, self._container)

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
        self._engine._settle(self._container)
        return self._spec >= 0 and may_wait(&self._engine._renderer, view_spec(self._spec), self._container)

    cdef void _is_unscopable(self):
        self._reason = REASON_UNSCOPABLE
        count_fallback(&self._engine._renderer, REASON_UNSCOPABLE)
        self._engine._count_fallback(self)

    def render(self):
        cdef Text out
        cdef int verdict
        cdef ssize_t got
        cdef bint failed = False
        cdef const ViewSpec *spec
        self._engine._check()
        self._engine._settle(self._container)
        if self._spec < 0:
            try:
                return self._engine._trees.text_of(self._container, self._path, &failed)
            finally:
                if failed:
                    self._is_unscopable()
        spec = view_spec(self._spec)
        with nogil:
            text_init(&out)
            got = whole_text(&self._engine._renderer, spec, self._container, self._number, &out, &verdict)
            self._number = 0   # who comes again has not asked again
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
