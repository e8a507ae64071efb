"""The daemon: wires engine, file system, signals, load sampler and service manager into one trio nursery.

Signals: SIGTERM and SIGINT unmount and end it, SIGHUP reads the configuration again, SIGUSR1 logs its counters.
While nobody reads and no watchdog is set, no task wakes up.
"""

import logging
import resource
import signal
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack

import psutil
import trio

from procview import logs
from procview.fs.mount import Mount, MountError, answers, mounted
from procview.fs.operations import ViewOperations
from procview.notify import Notifier, watchdog_seconds
from procview.roots import Roots, configure, open_engine
from procview.settings import SettingsError, load

log = logging.getLogger(__name__)

SAMPLE_SECONDS = 5.0
"""How often the load of watched containers is sampled, as the kernel does for its own."""

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)


class Daemon:
    """One running procview. ``config`` is the file as given (None: the default one), ``mount`` overrides its mount."""

    def __init__(self, *, config: str | None, mount: str | None, roots: Roots) -> None:
        self._config = config
        self._settings = load(config)
        self._mount_at_start = self._settings.mount
        self._path = mount or self._mount_at_start
        self._roots = roots
        self._sampling = trio.Event()

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT. Raises MountError and OSError when it cannot, or no longer."""
        logs.set_level(self._settings.log_level)
        _raise_descriptor_limit()
        with ExitStack() as stack:
            signals = stack.enter_context(trio.open_signal_receiver(*_SIGNALS))
            self._notifier = Notifier.from_environment()
            stack.callback(self._notifier.close)
            self._engine = open_engine(self._roots, self._settings)
            stack.callback(self._engine.close)
            self._operations = ViewOperations(
                self._engine, proc=self._roots.proc, loadavg_was_read=self._loadavg_was_read
            )
            async with mounted(self._path, self._operations) as mount:
                self._path = mount.path
                await self._serve(mount, signals)
        log.info("stopped")

    async def _serve(self, mount: Mount, signals: AsyncIterator[int]) -> None:
        stop = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._obey, signals, stop)
            nursery.start_soon(self._report_ready, stop)
            nursery.start_soon(self._sample)
            nursery.start_soon(self._watch)
            await mount.serve(stop)
            nursery.cancel_scope.cancel()

    async def _report_ready(self, stop: trio.Event) -> None:
        """READY=1 once a request has gone through the kernel and back."""
        if not await answers(self._path):
            raise MountError(f"{self._path}: mounted, but requests are not answered")
        if not stop.is_set():
            log.info("serving %s", self._path)
            self._notifier.send("READY=1", self._status())

    async def _obey(self, signals: AsyncIterator[int], stop: trio.Event) -> None:
        async for number in signals:
            if number == signal.SIGHUP:
                self._reload()
            elif number == signal.SIGUSR1:
                log.info("%s", self._described())
            elif not stop.is_set():
                log.info("%s: stopping", signal.Signals(number).name)
                self._notifier.send("STOPPING=1", "STATUS=stopping")
                stop.set()

    def _reload(self) -> None:
        """Read the configuration again; a bad one changes nothing."""
        self._notifier.send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            settings = load(self._config)
        except SettingsError as error:
            log.error("configuration not reloaded, the old one stays: %s", error)
        else:
            if settings.mount != self._mount_at_start:
                log.error("the setting mount = %r needs a restart; %s is served on", settings.mount, self._path)
            configure(self._engine, settings)
            logs.set_level(settings.log_level)
            self._settings = settings
            log.info("configuration reloaded")
        self._notifier.send("READY=1", self._status())

    def _loadavg_was_read(self) -> None:
        if self._settings.loadavg:
            self._sampling.set()

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
                log.exception("sampling loads failed", extra={"event": "sample"})
            # Whole periods, as the decay assumes; ones that were missed (a suspend, an overload) are skipped.
            missed = (trio.current_time() - next_sample) // SAMPLE_SECONDS
            next_sample += SAMPLE_SECONDS * (missed + 1)
            await trio.sleep_until(next_sample)

    async def _watch(self) -> None:
        """Feed systemd's watchdog (if any) while requests go through the kernel and back to this event loop."""
        seconds = watchdog_seconds()
        if seconds is None:
            return
        self._notifier.send("WATCHDOG=1")
        while True:
            try:
                # The thread keeps the time, not this event loop: the loop may be asleep in a read(2) of /dev/fuse whose
                # request was taken back (its reader was killed), and then the question itself wakes it.
                if await answers(self._path, seconds * 0.9, after_seconds=seconds / 2):
                    self._notifier.send("WATCHDOG=1", self._status())
                    continue
                log.error("%s does not answer; the watchdog is not fed", self._path, extra={"event": "watchdog"})
            except OSError as error:
                log.error("%s fails (%s); the watchdog is not fed", self._path, error, extra={"event": "watchdog"})
                await trio.sleep(seconds / 2)

    def _status(self) -> str:
        counters = self._engine.counters()
        rss_mib = psutil.Process().memory_info().rss / (1 << 20)
        return (
            f"STATUS=serving {self._path}: {counters.get('containers', 0)} containers, "
            f"{counters.get('reads', 0)} reads, {rss_mib:.0f} MiB"
        )

    def _described(self) -> str:
        """The counters and what the process itself uses, in one line of ``name=value``."""
        process = psutil.Process()
        with process.oneshot():
            numbers: dict[str, object] = {
                "rss_bytes": process.memory_info().rss,
                "fds": process.num_fds(),
                "threads": process.num_threads(),
                "cpu_seconds": round(sum(process.cpu_times()[:2]), 2),
            }
        numbers |= {f"engine_{name}": value for name, value in sorted(self._engine.counters().items())}
        numbers |= {f"fs_{name}": value for name, value in sorted(self._operations.counters().items())}
        numbers["absent_controllers"] = ",".join(self._engine.absent_controllers()) or "none"
        return " ".join(f"{name}={value}" for name, value in numbers.items())


def _raise_descriptor_limit() -> None:
    """The engine keeps cgroup files open: allow as many as we may have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError) as error:
        log.warning("cannot raise the limit of open files: %s", error)


def run(*, config: str | None, mount: str | None, roots: Roots) -> None:
    """Serve in the foreground until told to stop. Raises SettingsError, MountError, OSError."""

    async def main() -> None:
        await Daemon(config=config, mount=mount, roots=roots).run()

    try:
        trio.run(main)
    except BaseExceptionGroup as group:
        # Of a nursery's children, the one that cannot go on says it all.
        known, other = group.split((MountError, OSError))
        if known is None or other is not None:
            raise
        error: BaseException = known
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from None
