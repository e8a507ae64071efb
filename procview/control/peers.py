"""Who is at the other end of a connection: what the kernel says of it (unix(7), SO_PEERCRED), and nothing that it says.

Touches the connection and /proc/<pid>/ns/pid.
"""

import errno
import os
import select
import socket
import struct
from contextlib import ExitStack
from dataclasses import dataclass

from procview.slots.containers import namespace_of

_SO_PEERPIDFD = 77
"""asm-generic/socket.h; Linux 6.5."""


@dataclass(frozen=True, slots=True)
class Peer:
    """One process, as it was when it connected."""

    pid: int
    """As the daemon numbers it; 0: it is in no pid namespace that the daemon sees."""
    uid: int
    """As the host numbers it."""
    pid_namespace: int
    """0: cannot be told, as when the process has ended."""
    is_of_host: bool
    """Whether it is in the daemon's own pid namespace, and so in no container."""

    def __str__(self) -> str:
        place = "the host" if self.is_of_host else f"pid namespace {self.pid_namespace or 'unknown'}"
        return f"uid {self.uid}, pid {self.pid} of {place}"


def identify(connection: socket.socket, proc: str = "/proc") -> Peer:
    """Whoever has connected. Raises OSError.

    Before Linux 6.5 there is no descriptor of the peer: if that ends before it is looked at, and its number is given to
    another process meanwhile, that one counts.
    """
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("=iII"))
    pid, uid, _ = struct.unpack("=iII", credentials)
    namespace = 0
    with ExitStack() as stack:
        descriptor = _descriptor(connection)
        if descriptor is not None:
            stack.callback(os.close, descriptor)
        if pid > 0:
            namespace = namespace_of(proc, str(pid), "pid")
        if descriptor is not None and _has_ended(descriptor):
            namespace = 0  # its number may have been another's when we looked
    return Peer(pid, uid, namespace, is_of_host=namespace != 0 and namespace == namespace_of(proc, "self", "pid"))


def _descriptor(connection: socket.socket) -> int | None:
    """A pidfd of the peer, None where the kernel has none to give. Raises OSError."""
    try:
        return connection.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD)
    except OSError as error:
        if error.errno == errno.ENOPROTOOPT:
            return None
        raise  # ESRCH before Linux 6.16, EINVAL: it has ended already


def _has_ended(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))
