"""The supervisor's end of NOTIFY_SOCKET: messages, with the descriptors and the process that they come from.

Touches /run (or the folder for temporary files) for an instant: the socket's file goes at once, and its path leads
through /proc to the descriptor that is left. So nobody finds it but who may look at this process's descriptors, and
there is nothing to clear up, however this process ends.
"""

import array
import os
import socket
import struct
import tempfile
from dataclasses import dataclass, field

from procview.logs import Log

log = Log(__name__)

_MESSAGE_BYTES = 1 << 16
_MOST_RIGHTS = 253
"""Descriptors that one message can have (SCM_MAX_FD)."""
_CREDENTIALS = struct.Struct("@iII")
_CONTROL_BYTES = socket.CMSG_SPACE(_MOST_RIGHTS * 4) + socket.CMSG_SPACE(_CREDENTIALS.size)


@dataclass
class Message:
    """One message. ``descriptors`` are the receiver's, to keep or to close."""

    pid: int
    """The sender's, as the kernel says; 0: it is in another pid namespace."""
    values: dict[str, str]
    descriptors: list[int] = field(default_factory=list)

    def says(self, word: str) -> bool:
        """Whether it has the line ``word=1``."""
        return self.values.get(word) == "1"

    def close(self) -> None:
        """Close the descriptors that are left in it."""
        for fd in self.descriptors:
            os.close(fd)
        self.descriptors = []


class Listener:
    """The socket. ``place`` is a descriptor of its file."""

    def __init__(self, end: socket.socket, place: int) -> None:
        self._socket = end
        self._place = place

    @classmethod
    def open(cls) -> "Listener":
        """A new one. Raises OSError."""
        end = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        with tempfile.TemporaryDirectory(
            prefix="procview-", dir="/run" if os.access("/run", os.W_OK) else None
        ) as place:
            path = os.path.join(place, "notify")
            end.bind(path)
            return cls(end, os.open(path, os.O_PATH | os.O_CLOEXEC))

    @classmethod
    def resumed(cls, descriptors: list[int]) -> "Listener":
        """The one of the process that this one was, before it executed itself anew."""
        end, place = descriptors
        return cls(socket.socket(fileno=end), place)

    @property
    def descriptors(self) -> list[int]:
        """What ``resumed`` needs, under the same numbers: they are part of the address."""
        return [self._socket.fileno(), self._place]

    @property
    def address(self) -> str:
        """For NOTIFY_SOCKET."""
        return f"/proc/{os.getpid()}/fd/{self._place}"

    def fileno(self) -> int:
        """To wait for messages."""
        return self._socket.fileno()

    def receive(self) -> Message | None:
        """The next message; None: there is none now. One that cannot be read is logged, and has no values."""
        try:
            data, control, flags, _ = self._socket.recvmsg(_MESSAGE_BYTES, _CONTROL_BYTES, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return None
        message = Message(0, {})
        for level, kind, content in control:
            if level != socket.SOL_SOCKET:
                continue
            if kind == socket.SCM_CREDENTIALS:
                message.pid = _CREDENTIALS.unpack(content[: _CREDENTIALS.size])[0]
            elif kind == socket.SCM_RIGHTS:
                message.descriptors += array.array("i", content[: len(content) - len(content) % 4])
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            log.warning(
                "message-refused", "a message of pid %d is too long, or has too many descriptors: left out", message.pid
            )
            message.close()
            return message
        lines = data.decode(errors="replace").split("\n")
        message.values = {name: value for name, equals, value in (line.partition("=") for line in lines) if equals}
        return message
