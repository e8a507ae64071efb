"""sd_notify(3): one datagram to the socket that systemd, or procview's own supervisor, names in NOTIFY_SOCKET.

Own code, because it is one sendmsg: the wrappers on PyPI are either unmaintained or need libsystemd's headers to build.
"""

import array
import os
import socket
import struct
from collections.abc import Sequence

from procview.logs import Log

log = Log(__name__)

_PATIENCE_USEC = 200_000
"""How long a message with descriptors waits for room in the manager's queue. Any other is dropped instead."""


class Notifier:
    """Tells the service manager how the daemon is; does nothing where there is none."""

    def __init__(self, address: str | None) -> None:
        """``address`` is a path, or an abstract name written with a leading ``@``. None or empty: nobody listens."""
        self._address: str | bytes | None = None
        self._socket: socket.socket | None = None
        self._silent = False
        if not address:
            return
        self._address = b"\0" + os.fsencode(address[1:]) if address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", 0, _PATIENCE_USEC))

    @classmethod
    def from_environment(cls) -> "Notifier":
        """The notifier that NOTIFY_SOCKET asks for."""
        return cls(os.environ.get("NOTIFY_SOCKET"))

    @property
    def listened_to(self) -> bool:
        """Whether there is a service manager at all."""
        return self._socket is not None

    def send(self, *assignments: str, descriptors: Sequence[int] = ()) -> bool:
        """Send e.g. ``"READY=1", "STATUS=serving"`` as one message, and whether it was taken.

        A failure is logged, never raised; one line for each time that the manager stops listening.
        """
        if self._socket is None or self._address is None:
            return False
        message = os.fsencode("\n".join(assignment.replace("\n", " ") for assignment in assignments))
        # A manager that does not read must not stop the event loop.
        flags = 0 if descriptors else socket.MSG_DONTWAIT
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        try:
            self._socket.sendmsg([message], rights, flags, self._address)
        except OSError as error:
            if not self._silent:
                log.warning(
                    "manager-lost",
                    "NOTIFY_SOCKET does not take messages: %s; whoever started this daemon may be gone, and would "
                    "then neither start it again nor keep anything for the next one",
                    error,
                )
            self._silent = True
            return False
        self._silent = False
        return True

    def close(self) -> None:
        """Close the socket; later messages go nowhere."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def watchdog_seconds() -> float | None:
    """How often systemd wants WATCHDOG=1 at the least (WATCHDOG_USEC, if it is meant for this process), in seconds."""
    pid = os.environ.get("WATCHDOG_PID")
    if pid and pid != str(os.getpid()):
        return None
    try:
        seconds = int(os.environ.get("WATCHDOG_USEC", "")) / 1e6
    except ValueError:
        return None
    return seconds if seconds > 0 else None
