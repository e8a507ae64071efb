"""What the engine needs at times: loads sampled, callers that have ended forgotten. While nobody reads, it sleeps."""

import trio

from procview._fast.engine import Engine
from procview.logs import Log

log = Log(__name__)

SAMPLE_SECONDS = 5.0
"""How often the load of watched containers is sampled, as the kernel does for its own."""

CALLERS_SECONDS = 2.0
"""How often, while callers come again, what is kept of those that have ended is closed."""


class Upkeep:
    """Of one engine. ``run`` it in the nursery of whoever serves; the other methods may be called before."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._sampling = trio.Event()
        self._callers = trio.Event()

    def loadavg_was_read(self) -> None:
        """Of some container: its load is watched from now on."""
        self._sampling.set()

    def callers_were_kept(self) -> None:
        """Something is kept open for a process that reads."""
        self._callers.set()

    async def run(self) -> None:
        """Until it is cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._sample)
            nursery.start_soon(self._forget_callers)

    async def _sample(self) -> None:
        """Sample loads while a container is being watched; otherwise wait for the next read of a loadavg."""
        watched, next_sample = 0, 0.0
        while True:
            if not watched:
                await self._sampling.wait()
                next_sample = trio.current_time()
            self._sampling = trio.Event()
            try:
                watched = await trio.to_thread.run_sync(self._engine.sample, abandon_on_cancel=True)
            except Exception:  # the load of everyone may not depend on one odd container
                log.exception("sampling-failed", "sampling loads failed")
            # Whole periods, as the decay assumes; ones that were missed (a suspend, an overload) are skipped.
            missed = (trio.current_time() - next_sample) // SAMPLE_SECONDS
            next_sample += SAMPLE_SECONDS * (missed + 1)
            await trio.sleep_until(next_sample)

    async def _forget_callers(self) -> None:
        """Let go of callers that have ended, some time after new ones came; while nobody reads nothing wakes up."""
        while True:
            await self._callers.wait()
            self._callers = trio.Event()
            await trio.sleep(CALLERS_SECONDS)
            if await trio.to_thread.run_sync(self._engine.forget_gone_callers, abandon_on_cancel=True):
                self._callers.set()
