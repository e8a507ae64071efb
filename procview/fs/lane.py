"""The lane in front of pyfuse3: what it needs of Python, and what it tells.

The lane's threads own /dev/fuse and the mount. pyfuse3 takes one end of a SOCK_SEQPACKET pair for its device (libfuse
takes a descriptor that is open already by the name /dev/fd/N, and mounts nothing then) and answers what comes through
it, as if that were the kernel.
"""

import errno
import os
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import pyfuse3
import trio

from procview._fast.lane import ABSENT, CALLERS, ENDED, LOADAVG, NO_RING, REFUSED, Lane
from procview.fs.nodes import Node
from procview.fs.operations import STATIC_SECONDS, ViewOperations
from procview.fs.transport import NoRingError, Transport, rings
from procview.logs import Log
from procview.mount_namespace import where_views_are
from procview.mounts import detach, mount_fuse

log = Log(__name__)

_BUFFER_BYTES = 4 << 20
_LARGEST_REPLY_BYTES = (32 << 12) + 4096
"""A READ of 32 pages, and a page for headers."""
_SO_SNDBUFFORCE = 32
"""asm-generic/socket.h; the same on all architectures that procview runs on."""


class LaneError(Exception):
    """There can be no lane; the text says why."""


@dataclass(frozen=True, slots=True)
class LaneOptions:
    threads: int = 2
    """That read /dev/fuse. With rings there is one, for what never comes by a ring."""
    transport: Transport = "auto"


@contextmanager
def lane_in_front(
    path: str,
    operations: ViewOperations,
    lane_options: LaneOptions,
    options: frozenset[str],
    inherited: int | None = None,
) -> Iterator[Lane]:
    """Mount at ``path``, with the lane's threads on the one side and pyfuse3 behind them. ``inherited`` is the
    descriptor, ours from now on, of a mount that another daemon has served there. Raises LaneError.
    """
    try:
        ours_to_serve = rings(lane_options.transport)
    except (NoRingError, OSError) as error:
        log.error("ring-missing", 'transport = "uring" cannot be: %s; requests come by /dev/fuse', error)
        ours_to_serve = []
    with ExitStack() as stack:
        try:
            device = _new_device() if inherited is None else inherited
            closing = stack.enter_context(ExitStack())
            closing.callback(os.close, device)
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            closing.enter_context(ours)
            with theirs:
                for end in (ours, theirs):
                    _enlarge(end)
                pyfuse3.init(operations, f"/dev/fd/{theirs.fileno()}", set(options))
                theirs.detach()  # closed by libfuse
            stack.callback(pyfuse3.close, unmount=False)
            if inherited is None:
                with where_views_are():
                    mount_fuse(device, path)
        except (OSError, RuntimeError) as error:
            raise LaneError(str(error)) from error
        with ExitStack() as failed:
            failed.callback(where_views_are()(detach), path)
            try:
                lane = Lane(
                    operations.engine,
                    operations.files,
                    device=device,
                    socket=ours.fileno(),
                    nodes=[_known(node, parent) for parent, node in operations.static_nodes()],
                    static_seconds=int(STATIC_SECONDS),
                    start_ns=operations.start_ns,
                    threads=1 if ours_to_serve else lane_options.threads,
                    rings=ours_to_serve,
                    inherited=inherited is not None,
                )
                ours.detach()
                closing.pop_all()
                lane.start()
            except (OSError, MemoryError) as error:
                raise LaneError(str(error)) from error
            failed.pop_all()
        stack.callback(lane.stop)
        yield lane


@where_views_are()
def _new_device() -> int:
    return os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)


def _enlarge(end: socket.socket) -> None:
    """Room for the replies of a moment, and at least for the largest one. Raises OSError."""
    for option in (_SO_SNDBUFFORCE, socket.SO_SNDBUF):  # the first needs CAP_NET_ADMIN, the other has a limit
        try:
            end.setsockopt(socket.SOL_SOCKET, option, _BUFFER_BYTES)
            break
        except PermissionError:
            continue
    room = end.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
    if room < 2 * _LARGEST_REPLY_BYTES:
        raise OSError(f"a socket buffer of {room} bytes is too small: raise net.core.wmem_max")


def _known(node: Node, parent: int) -> tuple[int, str, int, int, str]:
    mode = stat.S_IFDIR | 0o555 if node.is_dir else stat.S_IFREG | 0o444
    return parent, node.path.rpartition("/")[2], node.inode, mode, node.path


async def heed(lane: Lane, operations: ViewOperations, ended: Callable[[], None]) -> None:
    """Do what the lane's notices ask for; call ``ended`` and return when there is no connection any more."""
    while True:
        await trio.lowlevel.wait_readable(lane)
        notices = lane.take_notices()
        if notices & LOADAVG:
            operations.loadavg_was_read()
        if notices & ABSENT:
            operations.log_absent()
        if notices & CALLERS:
            operations.callers_were_kept()
        if notices & REFUSED:
            log.warning(
                "relay-refused",
                "refused requests (EAGAIN): a container has too many at once that the lane does not answer",
            )
        if notices & NO_RING:
            log.error("ring-missing", "the kernel does not offer a ring to this mount; requests come by /dev/fuse")
        if notices & ENDED:
            if lane.disagrees:
                log.error(
                    "takeover-refused",
                    "pyfuse3 negotiates something else than the daemon before: its connection is of no use",
                )
            for error in lane.ring_errors():
                if error != errno.ENOTCONN:
                    log.error("ring-failed", "a ring has failed: %s", os.strerror(error))
            ended()
            return
