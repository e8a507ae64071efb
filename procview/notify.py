"""sd_notify(3): one datagram to the socket that systemd names in NOTIFY_SOCKET.

Own code, because it is one sendto: the wrappers on PyPI are either unmaintained or need libsystemd's headers to build.
"""

import logging
import os
import socket

log = logging.getLogger(__name__)


class Notifier:
    """Tells the service manager how the daemon is; does nothing where there is none."""

    def __init__(self, address: str | None) -> None:
        """``address`` is a path, or an abstract name written with a leading ``@``. None or empty: nobody listens."""
        self._address: str | bytes | None = None
        self._socket: socket.socket | None = None
        if not address:
            return
        self._address = b"\0" + os.fsencode(address[1:]) if address.startswith("@") else address
        # Non-blocking: a manager that does not read must not stop the event loop.
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)

    @classmethod
    def from_environment(cls) -> "Notifier":
        """The notifier that NOTIFY_SOCKET asks for."""
        return cls(os.environ.get("NOTIFY_SOCKET"))

    def send(self, *assignments: str) -> None:
        """Send e.g. ``"READY=1", "STATUS=serving"`` as one message. A failure is logged, never raised."""
        if self._socket is None or self._address is None:
            return
        message = "\n".join(assignment.replace("\n", " ") for assignment in assignments)
        try:
            self._socket.sendto(os.fsencode(message), self._address)
        except OSError as error:
            log.warning("NOTIFY_SOCKET does not take messages: %s", error, extra={"event": "notify"})

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
