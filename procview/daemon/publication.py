"""The daemon's half of the slots: it makes them, publishes its views, withdraws them, and keeps a guard beside itself.

Touches the run directory and nothing else. procview/slots/ knows how mounts get into containers; this knows when.
"""

import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

import trio

from procview._fast.engine import PROC_VIEWS
from procview.fs.mount import Mount
from procview.fs.nodes import CPU_DIR, NODE_DIR
from procview.guard import LET_GO_STATUS
from procview.history import History
from procview.logs import Log
from procview.notes import Notes
from procview.settings import Settings
from procview.slots import compat
from procview.slots.publish import is_published, publish, withdraw
from procview.slots.skeleton import Skeleton

log = Log(__name__)

SLOT_NAMES = (*dict.fromkeys("proc/" + name.partition("/")[0] for name in PROC_VIEWS), CPU_DIR, NODE_DIR)
"""What is put over a container's files: each view, or the folder that holds several."""
_GUARD_PAUSE_SECONDS = 1.0
_MAX_NOTE_BYTES = 4096
_SWEEP_SECONDS = 60.0


class Publication:
    """The views of one daemon in all containers. Get one from :func:`prepared`."""

    def __init__(self, skeleton: Skeleton, settings: Settings, device: str | None = None) -> None:
        """``device`` is the file system whose views are in place already, and ours to withdraw."""
        self._skeleton = skeleton
        self._patience = (str(settings.hang_seconds), str(settings.takeover_seconds))
        self._device = device
        self._watched: bytes | None = None
        self._channel: socket.socket | None = None
        self._guard: trio.Process | None = None

    async def publish(self, device: str, mount: str) -> None:
        """Put the views of the file system ``device``, mounted at ``mount``, over every slot. Raises OSError."""
        self._device = device
        self.watch(mount)
        try:
            # In a thread: looking the views up asks our own event loop.
            if not is_published(self._skeleton, device):
                await trio.to_thread.run_sync(publish, self._skeleton, mount)
        except BaseException:
            self.withdraw()
            raise
        if (seconds := History(self._skeleton.base).published()) is not None:
            log.info("published", "containers have their views again, after %.3f s with the host's files", seconds)

    def watch(self, mount: str) -> None:
        """Have the guard watch what is published, which is mounted at ``mount``."""
        self._watched = os.fsencode(f"watch {self._device} {mount}\n")
        self._tell_guard(self._watched)

    def withdraw(self) -> None:
        """Take our views out of all containers, which read the host's files then; those of a successor stay."""
        if self._device is None:
            return
        try:
            withdraw(self._skeleton, self._device)
        except OSError:
            return  # logged, one by one; the guard stays, and tries again when we have gone
        self._watched = None
        self._tell_guard(b"end\n")

    def _tell_guard(self, message: bytes) -> None:
        if self._channel is not None:
            with suppress(OSError):  # it has died, and the next one will be told
                self._channel.send(message)

    async def start_guard(self) -> None:
        """Start the guard's process. Raises OSError."""
        ours, guards = socket.socketpair()
        if self._channel is not None:
            self._channel.close()
        self._channel = ours
        if self._watched is not None:
            # Before it is there: as soon as it is, we may be killed, and then it has to know.
            self._tell_guard(self._watched)
        with guards:
            command = [sys.executable, "-P", "-m", "procview.guard", self._skeleton.base, *self._patience]
            # A session of its own: a signal to our process group (^C) is not for it.
            self._guard = await trio.lowlevel.open_process(
                command, stdin=guards, stdout=subprocess.DEVNULL, start_new_session=True, cwd="/"
            )

    async def keep_guard(self) -> None:
        """Start the guard again whenever somebody ends it."""
        while True:
            assert self._guard is not None
            status = await self._guard.wait()
            if self._watched is None or status == LET_GO_STATUS:
                return  # told to, or because this daemon hung: its connection has ended then
            log.error("guard-ended", "the guard has ended (status %s); starting it again", status)
            await trio.sleep(_GUARD_PAUSE_SECONDS)
            try:
                await self.start_guard()
            except OSError as error:
                log.error("guard-not-started", "cannot start the guard: %s", error)

    async def end_guard(self) -> None:
        """Close the channel and wait for the guard's end. Without a withdrawal before, the guard does that."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        if self._guard is not None:
            with trio.CancelScope(shield=True):
                await self._guard.wait()

    async def hear_hooks(self) -> None:
        """Log which containers have got their files, as their hooks tell it; and at times see which ones have ended."""
        notes, next_sweep = Notes(self._skeleton.base), 0.0
        with _bound(self._skeleton.hook_socket) as listener:
            while True:
                if trio.current_time() >= next_sweep:
                    await trio.to_thread.run_sync(notes.sweep)
                    next_sweep = trio.current_time() + _SWEEP_SECONDS
                note = await listener.recv(_MAX_NOTE_BYTES)
                try:
                    told = json.loads(note)
                    container, pid = str(told["id"])[:128], int(told["pid"])
                except (ValueError, KeyError, TypeError):
                    log.warning(
                        "hook-message-refused", "not understood on %s: %.100r", self._skeleton.hook_socket, note
                    )
                else:
                    log.info("hooked", "container %.128r (pid %d) has its files", container, pid)


@contextmanager
def _bound(path: str) -> Iterator[trio.socket.SocketType]:
    """A datagram socket at ``path`` that only root may write to; what a dead daemon left there goes."""
    with suppress(FileNotFoundError):
        os.unlink(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        mask = os.umask(0o177)
        try:
            listener.bind(path)
        finally:
            os.umask(mask)
        ours = os.stat(path)
        try:
            yield trio.socket.from_stdlib_socket(listener)
        finally:
            with suppress(FileNotFoundError):
                if os.path.samestat(os.stat(path), ours):  # else it is a successor's
                    os.unlink(path)


@asynccontextmanager
async def prepared(
    run_directory: str, settings: Settings, *, succeed: bool, inherited: Mount | None = None
) -> AsyncIterator[Publication]:
    """The slots made, dead views gone, and a guard running. Raises OSError.

    Needs the run directory's lock, or to ``succeed`` its owner, whose views stay; as do those of the device that is
    ``inherited``. ``settings`` are the ones at the start: they say how patient the guard is.
    """
    skeleton = Skeleton(run_directory)
    device = None if inherited is None else inherited.device
    if not succeed:
        # Whose they were is dead: we hold the lock. The host's files are better than the errors that they give.
        stale = withdraw(skeleton, but=device)
        if stale:
            log.warning("views-left-over", "removed %d views of a procview that had died", stale)
    skeleton.make(SLOT_NAMES)
    Notes(run_directory).make()
    if settings.control:
        with suppress(OSError):  # it is said when the socket is to be made
            skeleton.make_control()
    if settings.compat == "lxcfs":
        compat.make(skeleton, settings.compat_directory)
    else:
        compat.remove(skeleton)
    publication = Publication(skeleton, settings, device)
    if inherited is not None:
        # From now on, however soon we end: the guard of the daemon before us goes as soon as we answer it.
        publication.watch(inherited.path)
    await publication.start_guard()
    try:
        yield publication
    finally:
        await publication.end_guard()
