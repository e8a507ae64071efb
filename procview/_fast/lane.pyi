from collections.abc import Iterable, Sequence
from typing import final

from procview._fast.engine import Engine
from procview._fast.open_files import OpenFiles

ENDED: int
LOADAVG: int
REFUSED: int
ABSENT: int
CALLERS: int
NO_RING: int
"""Bits of what :meth:`Lane.take_notices` returns."""

@final
class Lane:
    """Threads that answer requests from /dev/fuse; what they do not answer goes to pyfuse3, through a socket.

    ``device`` is a descriptor of /dev/fuse that is mounted, ``socket`` one end of a SOCK_SEQPACKET pair whose other end
    pyfuse3 takes for its device; both are the lane's from now on. ``nodes``: parent inode (0: not found by name here),
    name, inode, mode and path of what is the same for every caller. ``threads`` read the device; besides, each of
    ``rings`` is a thread bound to a CPU, and the CPUs whose requests come to it by io_uring if the kernel offers that
    to this mount. ``inherited``: another daemon has served it, whose state is that of ``files``; what was negotiated
    stays, and the kernel sends again what was not answered. Raises OSError, MemoryError.
    """

    def __init__(
        self,
        engine: Engine,
        files: OpenFiles,
        *,
        device: int,
        socket: int,
        nodes: Iterable[tuple[int, str, int, int, str]],
        static_seconds: int,
        start_ns: int,
        threads: int,
        rings: Sequence[tuple[int, Sequence[int]]] = (),
        inherited: bool = False,
    ) -> None: ...
    def start(self) -> None:
        """Begin to answer. Raises OSError when there can be no more threads, or a ring cannot be made, or an
        ``inherited`` device cannot be gone on with."""

    def stop(self) -> None:
        """End all threads, also those that wait for a request. For good."""

    def fileno(self) -> int:
        """A descriptor that is readable while there are notices."""

    def take_notices(self) -> int:
        """What has happened since the last call: ENDED (the connection), LOADAVG (one more container's load is
        watched), REFUSED (too many requests were waiting for pyfuse3), ABSENT (Engine.absent_bits has changed),
        CALLERS (Engine.callers_were_kept), NO_RING (the kernel does not offer any)."""

    def counters(self) -> dict[str, int]:
        """``answered`` here, of these ``by_ring``; ``relayed`` to pyfuse3, ``refused``; and how many are ``pending``
        there now.
        """

    def in_hand(self) -> dict[int, int]:
        """The threads that have a request in hand, and a number for that request: it is another one for the next."""

    @property
    def device(self) -> int:
        """The descriptor of /dev/fuse."""

    @property
    def can_be_continued(self) -> bool:
        """Whether the next daemon can go on with this connection. Not known before the first answer."""

    @property
    def disagrees(self) -> bool:
        """Whether pyfuse3 has negotiated something else than it did with the daemon before."""

    def ring_errors(self) -> list[int]:
        """The errno of each ring that has ended: ENOTCONN when the connection did."""
