"""The FUSE requests: thin over the engine, and the one place where exceptions stop.

Concurrency: every handler runs on the event loop, and the only checkpoints are the awaits of :class:`BlockingWork`;
between them nothing else runs, so the tables need no locks. Rendering happens on the loop itself unless it can wait for
a container: a hop into a thread costs more than the 10 to 40 microseconds a view takes.
"""

# ruff: noqa: ARG001, ARG002 - FUSE sets the argument lists of its handlers

import errno
import functools
import os
import stat
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Concatenate, ParamSpec, TypeVar

import pyfuse3

from procview._fast.engine import Engine, View
from procview._fast.inherit import inherit
from procview._fast.open_files import OpenFiles
from procview._fast.state import State
from procview.fs.blocking import BlockingWork, TooSlowError
from procview.fs.nodes import Node, Tree
from procview.logs import Log

log = Log(__name__)

STATIC_SECONDS = 365 * 86400.0
"""How long the kernel may keep what never changes: all attributes, and the names every caller has. A path walk to
/proc/meminfo then costs no request. Names that only some callers have get 0, since containers share the kernel's cache
of names: it has to ask each time, also for names it found missing."""

UNKNOWN_OWNER = 0

_ORDINARY = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.ENFILE, errno.ENODEV, errno.EBADF}
)
"""Errors that are an answer. Any other is logged."""

P = ParamSpec("P")
R = TypeVar("R")


def _edge(
    handler: Callable[Concatenate["ViewOperations", P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate["ViewOperations", P], Coroutine[Any, Any, R]]:
    """The exception boundary: on anything but FUSEError pyfuse3 ends its main loop, taking /proc from everyone."""

    @functools.wraps(handler)
    async def guarded(self: "ViewOperations", /, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return await handler(self, *args, **kwargs)
        except pyfuse3.FUSEError:
            raise
        except OSError as error:
            number = error.errno or errno.EIO
            if number not in _ORDINARY:
                self.count("failed")
                log.warning("request-failed", "%s failed: %s", handler.__name__, error)
            raise pyfuse3.FUSEError(number) from None
        except Exception:
            self.unexpected(handler.__name__)
            raise pyfuse3.FUSEError(errno.EIO) from None

    return guarded


def _refusing(number: int) -> Any:
    """A handler that always fails with the errno ``number``."""

    async def refuse(self: "ViewOperations", *args: object) -> None:
        raise pyfuse3.FUSEError(number)

    return refuse


def _mode(node: Node) -> int:
    if node.is_link:
        return stat.S_IFLNK | 0o777
    return stat.S_IFDIR | 0o555 if node.is_dir else stat.S_IFREG | 0o444


class _OpenDirectory:
    """One opendir(3): what the caller saw then."""

    __slots__ = ("entries",)

    def __init__(self, entries: list[tuple[str, Node]]) -> None:
        self.entries = entries


class ViewOperations(pyfuse3.Operations):
    """Serves ``engine``. ``loadavg_was_read`` is called after each rendering of a loadavg, to wake the sampler;
    ``callers_were_kept`` when some time later the engine should forget callers that have gone.

    ``blocking`` runs what may wait. ``proc`` is where the callers' pids can be looked up. With ``state``, what is open
    goes on where another daemon has left it. To be made inside the trio event loop.
    """

    supports_dot_lookup = True
    enable_writeback_cache = False
    enable_acl = False

    def __init__(
        self,
        engine: Engine,
        *,
        blocking: BlockingWork,
        proc: str = "/proc",
        loadavg_was_read: Callable[[], None] = lambda: None,
        callers_were_kept: Callable[[], None] = lambda: None,
        files: OpenFiles | None = None,
        state: State | None = None,
    ) -> None:
        super().__init__()
        self.engine = engine
        self._proc = proc
        self.loadavg_was_read = loadavg_was_read
        self.callers_were_kept = callers_were_kept
        self._tree = Tree(engine, state)
        self._state = state
        self.files = OpenFiles(engine, state=state) if files is None else files
        self._blocking = blocking
        self._counts: dict[str, int] = {}
        self._attributes: dict[int, pyfuse3.EntryAttributes] = {}
        self.start_ns = time.time_ns()
        self._absent_bits = 0
        self._absent: set[str] = set()
        if state is not None:
            self._inherit(state)

    def _inherit(self, state: State) -> None:
        """Go on with what is open, from the same memory as the daemon before."""
        if state.found:
            self.start_ns = state.start_ns
        else:
            state.start_ns = self.start_ns
        for handle, view, is_directory in inherit(self.engine, self.files, state):
            opened = self._directory_again(handle, view.path) if is_directory else view
            if opened is None:
                self.files.close(handle)
            else:
                self.files.give(handle, opened)

    def _directory_again(self, handle: int, path: str) -> _OpenDirectory | None:
        """What an open directory showed, by the names that were kept of it; None if there was no room for them."""
        node, text = self._tree.named(path), self.files.text(handle)
        if node is None or text is None:
            return None
        named = [(name, self._tree.known(node, name)) for name in os.fsdecode(text).split("\n")]
        return _OpenDirectory([(name, child) for name, child in named if child is not None])

    # What is counted and logged

    def count(self, name: str) -> None:
        """Count one ``name``."""
        self._counts[name] = self._counts.get(name, 0) + 1

    def counters(self) -> dict[str, int]:
        """Counts since start, and gauges: open files, kept text, threads at blocking work, known paths."""
        return self._counts | {
            "open": self.files.open_count,
            "text_bytes": self.files.text_bytes,
            "blocking": self._blocking.running,
            "nodes": len(self._tree),
        }

    def unexpected(self, what: str) -> None:
        """Count and log the exception in hand: a mistake in procview."""
        self.count("unexpected")
        log.exception("request-unexpected", "unexpected error in %s", what)

    def _host_instead(self, pid: int, path: str, reason: str) -> None:
        self.count("fallback_" + reason.replace("-", "_"))
        log.warning("fallback", "pid %d gets the host's %s: %s", pid, path, reason, reason=reason)

    def log_absent(self) -> None:
        """Say, once for each controller, that a container lacked it: the host's numbers stand in for its usage."""
        self._absent_bits = self.engine.absent_bits
        names = set(self.engine.absent_controllers())
        for name in sorted(names - self._absent):
            log.warning(
                "controller-missing",
                "a container has no cgroup of its own for %r: it sees the host's numbers where that would count",
                name,
            )
        self._absent |= names

    def static_nodes(self) -> Iterator[tuple[int, Node]]:
        """What is the same for every caller, with its parent's inode; and, with parent 0, files that are only the same
        for all callers that have them."""
        return self._tree.static_nodes()

    @property
    def blocking_now(self) -> bool:
        """Whether a reader waits for a thread."""
        return self._blocking.running > 0

    # Who asks

    def _owner(self, pid: int) -> int:
        """Whom to charge for what ``pid`` opens: its pid namespace. A readlink(2), about 1 microsecond."""
        try:
            return int(os.readlink(f"{self._proc}/{pid}/ns/pid")[5:-1])  # "pid:[4026531836]"
        except (OSError, ValueError):
            return UNKNOWN_OWNER

    async def _as_caller(self, owner: int, pid: int, path: str, ask: Callable[[int], R]) -> R:
        """``ask(pid)``; or, if that is too slow or broken, ``ask(0)``: the host's answer. OSErrors pass through."""
        try:
            if self.engine.open_blocks(pid):
                return await self._blocking.run(owner, lambda: ask(pid))
            return ask(pid)
        except OSError:
            raise
        except TooSlowError:
            self._host_instead(pid, path, "deadline")
        except Exception:
            self.unexpected(f"{path} for pid {pid}")
        return ask(0)

    async def _open_as(self, pid: int, path: str) -> View:
        """The view of ``path`` for ``pid``, or the host's; as :meth:`_as_caller`, but identified only once."""
        try:
            return self.engine.open(pid, path, search=False)
        except BlockingIOError:
            return await self._as_caller(self._owner(pid), pid, path, lambda pid: self.engine.open(pid, path))
        except OSError:
            raise
        except Exception:
            self.unexpected(f"{path} for pid {pid}")
        return self.engine.open(UNKNOWN_OWNER, path)

    def _admitted(self, owner: int, admit: Callable[[], R]) -> R:
        """What ``admit`` returns, unless too much is open. Raises OSError ENFILE."""
        try:
            return admit()
        except OSError:
            self.count("refused_opens")
            log.warning(
                "open-files-refused", "%d files are open: no more by pid namespace %d", self.files.open_count, owner
            )
            raise

    # Names and attributes

    def _entry(self, node: Node) -> pyfuse3.EntryAttributes:
        entry = self._attributes.get(node.inode)
        if entry is not None:
            return entry
        entry = pyfuse3.EntryAttributes()
        entry.st_ino = pyfuse3.InodeT(node.inode)
        entry.generation = 0
        entry.entry_timeout = 0.0 if node.per_caller else STATIC_SECONDS
        entry.attr_timeout = STATIC_SECONDS
        entry.st_mode = pyfuse3.ModeT(_mode(node))
        entry.st_nlink = 1  # of a directory: "not counted", as the number of cpuN would depend on the caller
        entry.st_uid = entry.st_gid = 0
        entry.st_size = entry.st_blocks = 0
        entry.st_blksize = 4096
        entry.st_atime_ns = entry.st_mtime_ns = entry.st_ctime_ns = self.start_ns
        if not node.per_caller:  # the others are many and seldom asked for
            self._attributes[node.inode] = entry
        return entry

    @_edge
    async def lookup(
        self, parent_inode: pyfuse3.InodeT, name: pyfuse3.FileNameT, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        parent = self._tree.node(parent_inode)
        text = os.fsdecode(name)
        node = self._tree.static_child(parent, text)
        if node is None:
            node = await self._as_caller(
                self._owner(ctx.pid), ctx.pid, parent.path, lambda pid: self._tree.child(parent, text, pid)
            )
        return self._entry(node)

    @_edge
    async def getattr(self, inode: pyfuse3.InodeT, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        return self._entry(self._tree.node(inode))

    @_edge
    async def access(self, inode: pyfuse3.InodeT, mode: pyfuse3.ModeT, ctx: pyfuse3.RequestContext) -> bool:
        # Only without default_permissions does the kernel ask.
        node = self._tree.node(inode)
        return not mode & os.W_OK and (node.is_dir or not mode & os.X_OK)

    @_edge
    async def statfs(self, ctx: pyfuse3.RequestContext) -> pyfuse3.StatvfsData:
        data = pyfuse3.StatvfsData()
        data.f_bsize = data.f_frsize = 4096
        data.f_blocks = data.f_bfree = data.f_bavail = 0
        data.f_files = data.f_ffree = data.f_favail = 0
        data.f_namemax = 255
        return data

    @_edge
    async def readlink(self, inode: pyfuse3.InodeT, ctx: pyfuse3.RequestContext) -> pyfuse3.FileNameT:
        node = self._tree.node(inode)
        if not node.is_link:
            raise OSError(errno.EINVAL, node.path)
        return pyfuse3.FileNameT(os.fsencode(node.target))

    # Files

    @_edge
    async def open(self, inode: pyfuse3.InodeT, flags: pyfuse3.FlagT, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        node = self._tree.node(inode)
        if node.is_dir:
            raise IsADirectoryError(errno.EISDIR, node.path)
        if flags & os.O_ACCMODE != os.O_RDONLY or flags & os.O_TRUNC:
            raise PermissionError(errno.EACCES, node.path)
        view = await self._open_as(ctx.pid, node.path)
        handle = self._admitted(view.owner, lambda: self.files.open(view.owner, view, node.path))
        if view.fallback is not None:
            self._host_instead(ctx.pid, node.path, view.fallback)
        if self.engine.callers_were_kept():
            self.callers_were_kept()
        # direct_io: the bytes depend on the reader, so the page cache, which is the inode's, must hold none of them.
        return pyfuse3.FileInfo(fh=pyfuse3.FileHandleT(handle), direct_io=True, keep_cache=False)

    @_edge
    async def read(self, fh: pyfuse3.FileHandleT, off: int, size: int) -> bytes:
        view = self.files.view(fh)
        if view is None or isinstance(view, _OpenDirectory):
            raise OSError(errno.EBADF, f"handle {fh} is not open")
        if off:
            part = self.files.part(fh, off, size)
            if part is not None:
                return part
        text = await self._render(view)
        self.files.keep(fh, text, delivered=not off and size >= len(text))
        return text[off : off + size]

    async def _render(self, view: View) -> bytes:
        """The text as of now; the host's if the container's is too slow or rendering breaks. OSErrors pass through."""
        try:
            if view.blocking:
                text = await self._blocking.run(view.owner, view.render)
            else:
                text = view.render()
            if view.path == "proc/loadavg":
                self.loadavg_was_read()
            if self.engine.absent_bits != self._absent_bits:
                self.log_absent()
            return text
        except OSError:
            raise
        except TooSlowError:
            self.count("fallback_deadline")
            log.warning("fallback", "a reader gets the host's %s: deadline", view.path, reason="deadline")
        except Exception:
            self.unexpected(f"rendering {view.path}")
        return self.engine.open(0, view.path).render()

    @_edge
    async def release(self, fh: pyfuse3.FileHandleT) -> None:
        self.files.close(fh)

    # Directories

    @_edge
    async def opendir(self, inode: pyfuse3.InodeT, ctx: pyfuse3.RequestContext) -> pyfuse3.FileHandleT:
        node = self._tree.node(inode)
        owner = self._owner(ctx.pid)
        directory = _OpenDirectory([(".", node), ("..", self._tree.child(node, "..", 0))])
        handle = self._admitted(owner, lambda: self.files.open(owner, directory, node.path, is_directory=True))
        try:
            directory.entries += [
                (child.path.rpartition("/")[2], child)
                for child in await self._as_caller(
                    owner, ctx.pid, node.path, lambda pid: list(self._tree.children(node, pid))
                )
            ]
            if self._state is not None:
                names = "\n".join(name for name, _ in directory.entries)
                self.files.keep(handle, os.fsencode(names), delivered=False)
        except BaseException:
            self.files.close(handle)
            raise
        return pyfuse3.FileHandleT(handle)

    @_edge
    async def readdir(self, fh: pyfuse3.FileHandleT, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        directory = self.files.view(fh)
        if not isinstance(directory, _OpenDirectory):
            raise OSError(errno.EBADF, f"handle {fh} is not open")
        for number in range(start_id, len(directory.entries)):
            name, node = directory.entries[number]
            entry = self._entry(node)
            if not pyfuse3.readdir_reply(token, pyfuse3.FileNameT(os.fsencode(name)), entry, number + 1):
                break

    @_edge
    async def releasedir(self, fh: pyfuse3.FileHandleT) -> None:
        self.files.close(fh)

    # What procfs does not do either. What is not listed gets pyfuse3's ENOSYS, which tells the kernel never to ask
    # again: right for flush, fsync, poll and extended attributes.

    @_edge
    async def setattr(
        self,
        inode: pyfuse3.InodeT,
        attr: pyfuse3.EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: pyfuse3.FileHandleT | None,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        raise pyfuse3.FUSEError(errno.EACCES if fields.update_size else errno.EPERM)

    mknod = mkdir = unlink = rmdir = symlink = rename = link = _refusing(errno.EPERM)
    create = _refusing(errno.EACCES)
    write = _refusing(errno.EBADF)
