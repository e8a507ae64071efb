"""The daemon's life: engine, file system, slots, upkeep, signals and service manager in one trio nursery.

Signals: SIGTERM and SIGINT withdraw the views, unmount and end it; SIGQUIT leaves all that to the next one. SIGHUP
reads the configuration again, SIGUSR1 logs its counters, SIGUSR2 starts a successor. While nobody reads and no watchdog
is set, no task wakes up.
"""

import dataclasses
import errno
import os
import resource
import signal
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, ExitStack
from typing import Any

import trio

from procview import faults, logs, mount_namespace
from procview._fast.state import State
from procview.daemon import watchdog
from procview.daemon.control import Control
from procview.daemon.inheritance import Inheritance, forget, inherited, leave
from procview.daemon.publication import Publication, prepared
from procview.daemon.succession import place_beside, start_successor, take_over
from procview.daemon.upkeep import Upkeep
from procview.daemon.vitals import Vitals
from procview.fs.blocking import PER_HANG, BlockingWork
from procview.fs.lane import LaneOptions
from procview.fs.mount import Mount, MountError, answers, directories, mounted
from procview.fs.operations import ViewOperations
from procview.history import History
from procview.lock import LockedError, held, holder
from procview.logs import Log
from procview.mounts import detach_what_shows_below, real_place
from procview.notes import Notes
from procview.roots import Roots, configure, open_engine
from procview.settings import SettingsError, load
from procview.slots.skeleton import Skeleton
from procview.store import Store

log = Log(__name__)

FIRST_ANSWER_SECONDS = 20.0
"""For the first request, and for the process that makes it, on a machine that has much else to do. Service managers
give a start longer than that.
"""

_NEED_A_RESTART = (
    "slots",
    "run_directory",
    "mount",
    "compat",
    "compat_directory",
    "lane",
    "lane_threads",
    "transport",
    "hang_seconds",
    "takeover_seconds",
    "control",
)

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


class Daemon:
    """One running procview. ``config`` is the file as given (None: the default one).

    ``overrides`` are settings that the command line has; they stay when the file is read again. With ``replace`` it
    takes the place of the one that runs.
    """

    def __init__(
        self,
        *,
        config: str | None,
        overrides: Mapping[str, Any],
        replace: bool,
        roots: Roots,
        store: Store,
    ) -> None:
        self._config = config
        self._settings = self._at_start = load(config)
        placed = dataclasses.replace(self._at_start, **overrides)
        self._lane_options = LaneOptions(placed.lane_threads, placed.transport) if placed.lane else None
        self._run_directory, self._path = placed.run_directory, placed.mount_point
        self._replace = replace
        self._roots = roots
        self._store = store
        self._notifier = store.notifier
        self._publication: Publication | None = None
        self._state: State | None = None
        self._is_left = False
        self._took_over = False
        self._reloading = trio.Lock()
        self._control: Control | None = None
        self._predecessor: int | None = None
        self._successor: int | None = None  # 0: one is being started

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT. Raises MountError, LockedError and OSError when it cannot, or no longer."""
        logs.set_level(self._settings.log_level)
        _raise_descriptor_limit()
        async with AsyncExitStack() as stack:
            signals = stack.enter_context(trio.open_signal_receiver(*_SIGNALS))
            stack.callback(self._notifier.close)
            stack.enter_context(directories(self._run_directory))
            self._run_directory = real_place(self._run_directory)
            if mount_namespace.chosen() is not None:
                # Copies that this process alone has: with them, connections would end later than their mounts.
                detach_what_shows_below(self._run_directory)
            self._locks = stack.enter_context(ExitStack())
            self._find_predecessor()
            if self._predecessor is None:
                self._locks.enter_context(held(self._lock))
            before = self._inherited()
            self._store.close_rest()
            if before is None:
                # Before the file system is mounted: that may be below the run directory, which becomes a mount here.
                await self._prepare(stack, None)
            self._engine = open_engine(self._roots, self._settings, self._notes)
            stack.callback(self._engine.close)
            self._watch_changes()
            self._upkeep = Upkeep(self._engine)
            self._operations = ViewOperations(
                self._engine,
                proc=self._roots.proc,
                blocking=BlockingWork(PER_HANG * self._at_start.hang_seconds),
                loadavg_was_read=self._loadavg_was_read,
                callers_were_kept=self._upkeep.callers_were_kept,
                state=self._state,
            )
            path = self._path if self._predecessor is None else place_beside(self._path)
            inherited = None if before is None else before.connection
            mount = await stack.enter_async_context(
                mounted(path, self._operations, lane_options=self._lane_options, inherited=inherited)
            )
            if self._state is not None:
                self._state.device = mount.device
                stack.callback(forget, self._store, mount.device)
            if before is not None:
                # Afterwards: readers wait, and what they see is in place.
                await self._prepare(stack, mount)
                self._loadavg_was_read()  # somebody's may be watched
            self._path = real_place(self._path)
            stack.callback(self._withdraw)
            await self._serve(mount, signals)
        log.info("stopped", "stopped")

    def _watch_changes(self) -> None:
        try:
            self._engine.watch_changes()
        except OSError as error:
            if error.errno != errno.ENODEV:  # what an older kernel says, and nobody can do anything about
                log.info(
                    "changes-unwatched", "cgroups are read anew at each open: cannot be told of changes: %s", error
                )

    async def _prepare(self, stack: AsyncExitStack, inherited: Mount | None) -> None:
        """The slots, and a guard for them; views of the file system that is ``inherited`` stay."""
        if self._at_start.slots:
            context = prepared(
                self._run_directory,
                self._at_start,
                succeed=self._predecessor is not None,
                inherited=inherited,
            )
            self._publication = await stack.enter_async_context(context)

    def _inherited(self) -> Inheritance | None:
        """What a daemon that died has left, if anything; and the memory for what this one leaves.

        With rings, what the daemon has not answered is not sent again, and without a lane the connection is libfuse's.
        """
        options = self._lane_options
        wanted = options is not None and options.transport != "uring" and self._predecessor is None
        before = inherited(self._store, real_place(self._path), wanted=wanted)
        self._took_over = before is not None
        if before is not None:
            self._state = before.state
        elif options is not None and options.transport != "uring" and self._store.keeps:
            self._state = State()
        return before

    @property
    def _lock(self) -> str:
        return f"{self._run_directory}/lock"

    @property
    def _notes(self) -> Notes:
        return Notes(self._run_directory)

    @property
    def _history(self) -> History:
        return History(self._run_directory)

    def _find_predecessor(self) -> None:
        """Whom to replace, if that was asked for. Raises MountError where it cannot be done."""
        owner = holder(self._lock) if self._replace else None
        if owner is None:
            return
        if owner.pid is None:
            raise MountError(f"cannot replace the daemon: {owner}")
        if not self._at_start.slots:
            raise MountError("a daemon without slots cannot be replaced while it runs: stop it first")
        self._predecessor = owner.pid

    async def _serve(self, mount: Mount, signals: AsyncIterator[int]) -> None:
        stop = trio.Event()
        self._mount = mount
        self._vitals = Vitals(self._engine, self._operations, mount, self._history, took_over=self._took_over)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._obey, signals, stop, nursery)
            nursery.start_soon(self._publish, mount, stop, nursery)
            nursery.start_soon(self._upkeep.run)
            nursery.start_soon(watchdog.feed, self._notifier, mount, stop, self._path, self._status)
            if self._publication is not None:
                nursery.start_soon(self._publication.keep_guard)
                nursery.start_soon(self._publication.hear_hooks)
            await mount.serve(stop)
            nursery.cancel_scope.cancel()

    async def _publish(self, mount: Mount, stop: trio.Event, nursery: trio.Nursery) -> None:
        """Views into all containers, then READY=1; both only once a request has gone through the kernel and back."""
        if not await answers(mount.path, FIRST_ANSWER_SECONDS):
            raise MountError(f"{mount.path}: mounted, but requests are not answered")
        if self._publication is not None and not stop.is_set():
            try:
                await self._publication.publish(mount.device, mount.path)
            except OSError:
                if not stop.is_set():  # else: unmounted under it
                    raise
            if self._predecessor is not None and not stop.is_set():
                await take_over(self._predecessor, self._lock, mount, self._path, self._locks)
                self._publication.watch(self._path)
        if not stop.is_set():
            self._leave_for_the_next(mount)
            if self._publication is not None:
                self._vitals.published()
                self._history.started(took_over=self._took_over)
            log.info("serving", "serving %s", self._path)
            self._notifier.send("READY=1", f"MAINPID={os.getpid()}", self._status())
            if self._at_start.control:
                self._control = self._new_control()
                nursery.start_soon(self._control.run)

    def _new_control(self) -> Control:
        return Control(
            Skeleton(self._run_directory),
            self._engine,
            self._vitals,
            proc=self._roots.proc,
            has_slots=self._publication is not None,
            policy=self._settings.control_policy,
            status=lambda: self._vitals.status(self._path, self._run_directory),
            reload=self._reload,
            loads_were_read=self._loadavg_was_read,
        )

    def _leave_for_the_next(self, mount: Mount) -> None:
        if self._state is None:
            return
        if self._state.found:
            self._is_left = True  # what was inherited is still kept
        elif mount.connection is None:
            log.info(
                "takeover-impossible",
                "without a lane, or before Linux 6.9, nobody can go on with it: the next daemon starts anew",
            )
        else:
            self._is_left = leave(self._store, mount.connection, self._state)

    def _withdraw(self) -> None:
        if self._publication is not None:
            self._publication.withdraw()

    async def _succeed(self) -> None:
        """Start a successor, which will tell us to end; if it does not come that far, we go on."""
        try:
            process = await start_successor()
        except OSError as error:
            log.error("successor-not-started", "cannot start a successor: %s", error)
            self._successor = None
            return
        log.info("successor-started", "SIGUSR2: pid %d is to take over", process.pid)
        self._successor = process.pid
        status = await process.wait()
        self._successor = None
        log.error("successor-ended", "the successor has ended (status %d); going on", status)

    async def _obey(self, signals: AsyncIterator[int], stop: trio.Event, nursery: trio.Nursery) -> None:
        async for number in signals:
            if number == signal.SIGHUP:
                await self._reload()
            elif number == signal.SIGUSR1:
                log.info("vitals", "%s", self._vitals.described())
            elif number == signal.SIGUSR2:
                if self._successor is None:
                    self._successor = 0
                    nursery.start_soon(self._succeed)
                else:
                    log.warning("successor-busy", "SIGUSR2: a successor is taking over already")
            elif number == signal.SIGQUIT and self._is_left and not stop.is_set():
                log.info("leaving", "SIGQUIT: ending; what the next daemon goes on with is left")
                self._notifier.send("STOPPING=1", "STATUS=leaving")
                # As if killed, which no reader notices: whatever ran from here on would take something away.
                os._exit(0)
            elif not stop.is_set():
                log.info("stopping", "%s: stopping", signal.Signals(number).name)
                # The service does not stop when a successor tells us to end: that is its main process from now on.
                what = "STOPPING=1" if not self._successor else f"MAINPID={self._successor}"
                self._notifier.send(what, "STATUS=stopping")
                self._withdraw()
                if self._state is not None:
                    forget(self._store, self._mount.device)
                stop.set()

    async def _reload(self) -> str | None:
        """Read the configuration and the policy again; a bad one changes nothing. What is wrong with them."""
        async with self._reloading:
            return await self._read_again()

    async def _read_again(self) -> str | None:
        wrong: list[str] = []
        self._notifier.send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            settings = load(self._config)
        except SettingsError as error:
            wrong.append(f"configuration not reloaded, the old one stays: {error}")
        else:
            wrong += [
                f"the setting {name} needs a restart; {self._path} is served on"
                for name in _NEED_A_RESTART
                if getattr(settings, name) != getattr(self._at_start, name)
            ]
            # In a thread: there may be many containers to look at.
            await trio.to_thread.run_sync(configure, self._engine, settings, self._notes)
            logs.set_level(settings.log_level)
            self._settings = settings
            log.info("reloaded", "configuration reloaded")
        if self._control is not None and (bad := self._control.read_policy(self._settings.control_policy)):
            wrong.append(bad)
        for text in wrong:
            log.error("reload-refused", "%s", text)
        self._notifier.send("READY=1", self._status())
        return "; ".join(wrong) or None

    def _loadavg_was_read(self) -> None:
        if self._settings.loadavg or self._settings.container or self._settings.annotations:
            self._upkeep.loadavg_was_read()

    def _status(self) -> str:
        return "STATUS=" + self._vitals.line(self._path)


def _raise_descriptor_limit() -> None:
    """The engine keeps cgroup files open: allow as many as we may have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError) as error:
        log.warning("open-files-limit", "cannot raise the limit of open files: %s", error)


def run(
    *,
    config: str | None,
    overrides: Mapping[str, Any],
    replace: bool = False,
    roots: Roots,
    store: Store,
) -> None:
    """Serve in the foreground until told to stop. Raises SettingsError, MountError, LockedError, OSError."""

    if faults.FOLDER is not None:
        log.warning(
            "faults-armed", "PROCVIEW_FAULTS=%s: whatever stands there happens, to every container", faults.FOLDER
        )

    mount_namespace.choose()
    whole = dataclasses.replace(roots, mounts_of=mount_namespace.owner())

    async def main() -> None:
        await Daemon(config=config, overrides=overrides, replace=replace, roots=whole, store=store).run()

    try:
        trio.run(main)
    except BaseExceptionGroup as group:
        # Of a nursery's children, the one that cannot go on says it all.
        known, other = group.split((MountError, LockedError, OSError))
        if known is None or other is not None:
            raise
        error: BaseException = known
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from None
