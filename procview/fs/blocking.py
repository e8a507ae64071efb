"""Work that may wait for something a container controls: in a thread, with a deadline, and not too much per container.

A thread that is stuck cannot be stopped. It is left behind, and counts against its owner until it comes back, so that a
container whose /dev hangs uses up its own allowance and not the pool.
"""

from collections.abc import Callable
from typing import TypeVar

import trio

PER_HANG = 2
"""A reader waits this many times ``hang_seconds`` before it is served the host's file instead: the setting says how
slow this host may be."""
THREADS = 16
"""Threads for all containers together."""
THREADS_PER_OWNER = 2
"""Threads of one container, stuck ones included. More readers wait for one of them, within their deadline."""
WAITING_PER_OWNER = 64
"""Readers of one container that may wait at once: each occupies one of the requests that can be in hand at a time."""

T = TypeVar("T")


class TooSlowError(Exception):
    """No result within the deadline, or too many readers of that owner wait already."""


class _Allowance:
    """One owner's share of the threads. trio asks it for a thread, and hands that back when it has really ended."""

    def __init__(self, work: "BlockingWork", owner: int) -> None:
        self._work = work
        self._owner = owner
        self.own = trio.CapacityLimiter(THREADS_PER_OWNER)
        self.waiting = 0

    async def acquire_on_behalf_of(self, borrower: object) -> None:
        await self.own.acquire_on_behalf_of(borrower)
        try:
            await self._work.pool.acquire_on_behalf_of(borrower)
        except BaseException:
            self.own.release_on_behalf_of(borrower)
            raise

    def release_on_behalf_of(self, borrower: object) -> None:
        self._work.pool.release_on_behalf_of(borrower)
        self.own.release_on_behalf_of(borrower)
        self._work.tidy(self._owner)


class BlockingWork:
    """Runs functions in worker threads. To be made and used inside one trio event loop."""

    def __init__(self, deadline_seconds: float) -> None:
        self._deadline_seconds = deadline_seconds
        self.pool = trio.CapacityLimiter(THREADS)
        self._allowances: dict[int, _Allowance] = {}

    @property
    def running(self) -> int:
        """Threads at work or stuck now."""
        return self.pool.borrowed_tokens

    async def run(self, owner: int, function: Callable[[], T]) -> T:
        """The result of ``function()``, whose errors pass through. Raises TooSlowError."""
        allowance = self._allowances.get(owner)
        if allowance is None:
            allowance = self._allowances[owner] = _Allowance(self, owner)
        if allowance.waiting >= WAITING_PER_OWNER:
            raise TooSlowError(f"{WAITING_PER_OWNER} readers of this container wait already")
        allowance.waiting += 1
        try:
            with trio.move_on_after(self._deadline_seconds):
                # trio types its limiter as the concrete class and documents the two methods that _Allowance has.
                limiter: trio.CapacityLimiter = allowance  # type: ignore[assignment]
                return await trio.to_thread.run_sync(function, abandon_on_cancel=True, limiter=limiter)
        finally:
            allowance.waiting -= 1
            self.tidy(owner)
        raise TooSlowError(f"no answer within {self._deadline_seconds} s")

    def tidy(self, owner: int) -> None:
        """Forget the allowance of ``owner`` if nothing of it is in use."""
        allowance = self._allowances.get(owner)
        if allowance is not None and not allowance.waiting and not allowance.own.borrowed_tokens:
            del self._allowances[owner]
