"""How the file system waits for its next request: a moment in the kernel first, and only then in trio.

A read of /proc is four requests, microseconds apart. pyfuse3 takes a trio.Lock and waits through trio for each of them:
two passes of the event loop and a hand-over between tasks, which is most of what a request costs with a handler that
does nothing (docs/performance.md has figures). So the task that served a request stays, blocks in select(2) for a
moment, and takes the next one itself.

Nothing else runs on the event loop meanwhile. That is bounded: LINGER_SECONDS without a request, TURN_SECONDS in all;
and nobody lingers while ``others_wait()``, as for a thread whose result a reader waits for.

pyfuse3 has a place for another event loop: its module attribute ``trio``, which ``pyfuse3.asyncio.enable()`` sets too.
"""

import select
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

import pyfuse3
import trio

LINGER_SECONDS = 0.0002
TURN_SECONDS = 0.002
FD_SETSIZE = 1024
"""select(2) takes no descriptor from here on; such a one waits through trio."""


class _BargingLock:
    """A lock that its last holder may take again before those it woke: they run when it really waits, and try then."""

    def __init__(self) -> None:
        self._held = False
        self._waiting = trio.lowlevel.ParkingLot()

    async def __aenter__(self) -> None:
        while self._held:
            await self._waiting.park()
        self._held = True

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._held = False
        self._waiting.unpark()


class _Lowlevel:
    def __init__(self, others_wait: Callable[[], bool]) -> None:
        self._others_wait = others_wait
        self._turn_ends = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(trio.lowlevel, name)

    async def wait_readable(self, fd: int) -> None:
        lingers = fd < FD_SETSIZE and time.monotonic() < self._turn_ends and not self._others_wait()
        if lingers and select.select((fd,), (), (), LINGER_SECONDS)[0]:
            return
        await trio.lowlevel.wait_readable(fd)
        self._turn_ends = time.monotonic() + TURN_SECONDS


class _Trio:
    Lock = _BargingLock

    def __init__(self, others_wait: Callable[[], bool]) -> None:
        self.lowlevel = _Lowlevel(others_wait)

    def __getattr__(self, name: str) -> Any:
        return getattr(trio, name)


def linger(others_wait: Callable[[], bool]) -> None:
    """Make pyfuse3.main() wait like this. Call it first; ``others_wait``: whether a handler waits for a thread now."""
    pyfuse3.trio = _Trio(others_wait)  # type: ignore[attr-defined]
