"""The mount's life cycle: directories, what a crash left behind, the mount itself, and the way back.

Each step pushes its own undo on an exit stack, so that nothing is left whichever step fails. Nothing is ever unmounted
that is not procview's own.
"""

import errno
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress

import pyfuse3
import trio

from procview._fast.lane import Lane
from procview.fs.lane import LaneError, LaneOptions, heed, lane_in_front
from procview.fs.operations import ViewOperations
from procview.fs.waiting import linger
from procview.logs import Log
from procview.mount_namespace import chosen, where_views_are
from procview.mounts import MountEntry, clone_tree, detach, detach_exactly, move_mount, real_place, top_mount

log = Log(__name__)

OPTIONS = frozenset(
    # allow_other: the readers are other users'. default_permissions: the kernel checks modes itself, so that no ACCESS
    # request comes.
    {"fsname=procview", "subtype=procview", "allow_other", "default_permissions", "nosuid", "nodev", "noexec"}
)
MAX_REQUESTS = 1000
"""Requests in hand at once. Only those that wait for a thread take long, and each owner may have only 64 of them."""
DRAIN_SECONDS = 1.0
"""How long files that are open when the daemon stops are still served."""
PROBE_SECONDS = 5.0
"""A file system that does not answer statfs(2) within this time, in which the process that asks has to start as well,
is taken to be hung.
"""


class MountError(Exception):
    """The mount cannot be made or has gone; the text says why."""


_ASK = """
import os, sys, time
time.sleep(float(sys.argv[2]))
if sys.argv[3:]:
    import ctypes
    if ctypes.CDLL(None).setns(os.open(sys.argv[3], os.O_RDONLY), 0x20000):
        sys.exit(255)
try:
    os.statvfs(sys.argv[1])
except OSError as error:
    sys.exit(error.errno)
"""


async def answers(path: str, deadline_seconds: float = PROBE_SECONDS, *, after_seconds: float = 0) -> bool:
    """Whether the FUSE file system at ``path`` serves requests, asked by a process that first waits ``after_seconds``.

    statfs(2) is the one question that the kernel never answers from a cache. Raises OSError, ENOTCONN when the daemon
    behind it is dead.
    """
    # Not by a thread: one that waits for this very daemon keeps it from ending when it is killed, and its connection
    # and whoever waits for it with it. A process of its own holds nothing that is ours.
    words = [sys.executable, "-I", "-S", "-c", _ASK, path, str(after_seconds)]
    if (namespace := chosen()) is not None:
        words.append(namespace)
    process = await trio.lowlevel.open_process(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True, cwd="/"
    )
    try:
        with trio.move_on_after(deadline_seconds):
            status = await process.wait()
            if status > 0:
                raise OSError(status, os.strerror(status), path)
            return status == 0
        return False
    finally:
        if process.returncode is None:
            process.kill()  # and not waited for: that may take until the question is answered


class Mount:
    """A mounted procview. Get one from :func:`mounted`."""

    def __init__(self, path: str, operations: ViewOperations, lane: Lane | None) -> None:
        self.path = path
        self._operations = operations
        self._lane = lane
        with where_views_are():
            entry = top_mount(path)
        if entry is None or not entry.ours:
            raise MountError(f"{path}: mounted, but not to be found in /proc/self/mountinfo")
        self.device = entry.device
        """Its number, ``0:53``, by which its views are told from those of others."""
        self._detached = False
        self._in_hand: dict[int, int] = {}

    async def serve(self, stop: trio.Event) -> None:
        """Answer requests until ``stop`` is set. Raises MountError if the mount goes away before that."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._end, stop)
            if self._lane is not None:
                nursery.start_soon(heed, self._lane, self._operations, pyfuse3.terminate)
            try:
                await pyfuse3.main(max_tasks=MAX_REQUESTS)
            except BaseException as error:
                if not _connection_ended(error):
                    raise
            nursery.cancel_scope.cancel()
        if not stop.is_set():
            raise MountError(f"{self.path}: somebody else unmounted it or aborted its connection")

    @property
    def connection(self) -> int | None:
        """The descriptor by which another daemon could go on; None: none can, because the kernel would not send again
        what this one has not answered (before Linux 6.9), or there is no lane. Known after the first answer.
        """
        return self._lane.device if self._lane is not None and self._lane.can_be_continued else None

    @property
    def may_oversleep(self) -> bool:
        """Whether the event loop may be asleep until the next request comes: it reads /dev/fuse itself."""
        return self._lane is None

    def is_stuck(self) -> bool:
        """Whether a thread of the lane has the same request in hand as when this was last asked."""
        before = self._in_hand
        self._in_hand = {} if self._lane is None else self._lane.in_hand()
        return bool(before.items() & self._in_hand.items())

    @property
    def has_lane(self) -> bool:
        """Whether compiled threads answer."""
        return self._lane is not None

    def counters(self) -> dict[str, int]:
        """What the lane counts; nothing without one."""
        return {} if self._lane is None else self._lane.counters()

    @where_views_are()
    def check(self) -> None:
        """Raise MountError unless it is still what is mounted there."""
        entry = top_mount(self.path)
        if entry is None or entry.device != self.device:
            raise MountError(f"{self.path}: somebody else unmounted it or mounted over it")

    @where_views_are()
    def move(self, path: str) -> None:
        """Be mounted at ``path``, an empty folder, instead. Raises OSError, MountError when something is there."""
        if top_mount(path) is not None:
            raise MountError(f"{path}: something is mounted there")
        # A copy, and then the old one away: to move a mount, its parent may not be shared, and /run is.
        tree = clone_tree(self.path)
        try:
            move_mount(tree, path)
        finally:
            os.close(tree)
        detach(self.path)
        with suppress(OSError):
            os.rmdir(self.path)
        self.path = path

    async def _end(self, stop: trio.Event) -> None:
        await stop.wait()
        self.detach()
        # When the last file is closed the connection ends, pyfuse3.main() returns and this sleep is cancelled.
        await trio.sleep(DRAIN_SECONDS)
        pyfuse3.terminate()

    @where_views_are()
    def detach(self) -> None:
        """Take the mount out of the tree, unless it is gone or somebody has mounted over it."""
        if self._detached:
            return
        self._detached = True
        entry = top_mount(self.path)
        if entry is None:
            return
        if entry.device != self.device:
            log.error(
                "mount-covered", "%s: %s of %s is mounted over it; left alone", self.path, entry.fs_type, entry.source
            )
            return
        try:
            detach(self.path)
        except OSError as error:
            log.error("unmount-failed", "cannot unmount: %s", error)


def _connection_ended(error: BaseException) -> bool:
    """Whether pyfuse3's main loop failed because there is no connection any more.

    An unmount normally ends that loop quietly (ENODEV); in a race with requests the kernel says ECONNABORTED instead.
    """
    if isinstance(error, BaseExceptionGroup):
        return all(_connection_ended(one) for one in error.exceptions)
    return isinstance(error, OSError) and error.errno == errno.ECONNABORTED


@asynccontextmanager
async def mounted(
    path: str,
    operations: ViewOperations,
    *,
    lane_options: LaneOptions | None = None,
    inherited: int | None = None,
) -> AsyncIterator[Mount]:
    """Mount ``operations`` at ``path``, made if need be; nothing is left behind. With options for it, a lane stands in
    front; if there can be none, that is logged, and pyfuse3 serves alone. ``inherited``: it is mounted there, and this
    is the descriptor, ours from now on, to serve it by. Raises MountError, OSError.
    """
    async with AsyncExitStack() as stack:
        stack.enter_context(directories(os.path.dirname(path)))
        path = real_place(path)
        if inherited is None:
            await _clear(path)
            stack.enter_context(directories(path))
            with where_views_are():
                if os.path.islink(path) or not os.path.isdir(path):
                    raise MountError(f"{path}: is not a directory")
        else:
            # It is a file system that nobody serves yet: whatever asks it would wait for us.
            stack.callback(_remove_directory, path)
        linger(lambda: operations.blocking_now)
        lane = None
        if lane_options is not None:
            try:
                lane = stack.enter_context(lane_in_front(path, operations, lane_options, OPTIONS, inherited))
            except LaneError as error:
                if inherited is not None:
                    raise MountError(f"{path}: cannot go on with the connection of another daemon: {error}") from error
                log.error("lane-missing", "no fast lane: %s; pyfuse3 serves alone, which is slower", error)
        if lane is None:
            try:
                with where_views_are():
                    pyfuse3.init(operations, path, set(OPTIONS))
            except RuntimeError as error:
                why = "there is no /dev/fuse" if not _has_device() else "libfuse has said why on stderr"
                raise MountError(f"{path}: cannot mount ({error}): {why}") from error
            stack.callback(pyfuse3.close, unmount=False)
        mount = Mount(path, operations, lane)
        stack.callback(mount.detach)
        yield mount


@contextmanager
def directories(path: str) -> Iterator[None]:
    """``path`` as a directory. The ones made here go away again, unless somebody has put something there."""
    made: list[str] = []
    try:
        _make_directories(path, made)
        yield
    finally:
        for directory in reversed(made):
            _remove_directory(directory)


@where_views_are()
def _make_directories(path: str, made: list[str]) -> None:
    missing = []
    at = path
    while not os.path.lexists(at):
        missing.append(at)
        at = os.path.dirname(at)
    for directory in reversed(missing):
        with suppress(FileExistsError):
            os.mkdir(directory, 0o755)
            made.append(directory)


@where_views_are()
def _has_device() -> bool:
    return os.path.exists("/dev/fuse")


@where_views_are()
def _remove_directory(path: str) -> None:
    with suppress(OSError):
        os.rmdir(path)


@where_views_are()
def _mounted_at(path: str) -> MountEntry | None:
    return top_mount(path)


async def _clear(path: str) -> None:
    """Remove what a crashed procview left mounted at ``path``. Raises MountError when anything else is there."""
    while (entry := _mounted_at(path)) is not None:
        if not entry.ours:
            raise MountError(f"{path}: {entry.fs_type} of {entry.source!r} is mounted there, which is not procview's")
        try:
            alive = await answers(path)
        except OSError as error:
            if error.errno not in (errno.ENOTCONN, errno.ECONNABORTED):
                raise
            with where_views_are():
                gone = detach_exactly(entry)
            if gone:
                log.warning("mount-left-over", "%s: removed the mount of a procview that had died", path)
        else:
            if _mounted_at(path) != entry:
                continue  # the dead one's guard was quicker: what was asked is what had been below
            how = "is served by another procview" if alive else "is a procview that does not answer"
            raise MountError(f"{path}: {how}; stop it first")
