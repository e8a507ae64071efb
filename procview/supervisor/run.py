"""The supervisor's loop: one poll(2), then messages, signals, the dead, and what is due, in this order.

Messages come first, because a daemon's last ones, with the descriptors in them, count although it has died: they are
taken as its own while its number is not free for another process. While nothing happens, nothing wakes up.
"""

import dataclasses
import os
import select
import signal
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

from procview.logs import Log
from procview.notify import Notifier, watchdog_seconds
from procview.store import MOST_DESCRIPTORS
from procview.supervisor import renewal
from procview.supervisor.child import NEVER, Child, become_subreaper, start
from procview.supervisor.family import End, Family
from procview.supervisor.held import Held
from procview.supervisor.listening import Listener, Message
from procview.supervisor.options import Options

log = Log(__name__)

REST_SECONDS = 3.0
"""What is left of a daemon (its guard) has this long to end before the supervisor does."""
MOST_MESSAGES = 1024
"""Heard in one go; more than the kernel keeps for a socket."""

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD)
_NOT_HANDED_ON = ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "LISTEN_PIDFDID", "WATCHDOG_PID", "WATCHDOG_USEC")
_PARTS = {"main": "daemon", "old": "old daemon", "trial": "trial of the new version"}


class Supervisor:
    """Runs ``command``. On SIGHUP ``trial`` is run first, to see whether what is installed now starts at all.

    ``resumed`` is what this process was before; ``exchange`` says whether its daemon is to be exchanged, too.
    """

    def __init__(
        self,
        command: Sequence[str],
        trial: Sequence[str],
        options: Options,
        *,
        resumed: renewal.State | None = None,
        exchange: bool = True,
    ) -> None:
        """Raises OSError where there can be no socket."""
        self._trial_command, self._options = trial, options
        self._manager = Notifier.from_environment()
        seconds = watchdog_seconds()
        self._feed_seconds = NEVER if seconds is None else seconds / 2
        self._feed_at = NEVER if seconds is None else time.monotonic()
        self._stopping = False
        self._stopped_at = NEVER
        self._status = 0
        self._crashes = self._standby_crashes = 0
        self._exchanging = self._again = False
        self._exchange_until = self._start_at = self._standby_at = NEVER
        self._served_at = NEVER
        """When a daemon last served that does not any more."""
        if resumed is None:
            self._listener, self._held, self._family = Listener.open(), Held(), Family(command)
            self._start_at = 0.0
            return
        main = None if resumed.main is None else Child.resumed(resumed.main)
        self._family = Family(command, main, [Child.resumed(old) for old in resumed.old])
        self._listener, self._held = Listener.resumed(resumed.listener), Held(resumed.held)
        self._crashes, self._served_at, self._again = resumed.crashes, resumed.served_at, resumed.again
        self._exchanging = exchange and main is not None
        if main is None:
            self._start_at = 0.0
        if self._exchanging or self._wants_standby():
            self._standby_at = 0.0
        if not self._exchanging:
            self._exchanged(None)

    def run(self) -> int:
        """Until told to end; the status to end with. Raises OSError."""
        become_subreaper()
        self._signals, wakes = socket.socketpair()
        with self._signals, wakes:
            for end in (self._signals, wakes):
                end.setblocking(False)
            signal.set_wakeup_fd(wakes.fileno(), warn_on_full_buffer=False)
            for number in _SIGNALS:
                signal.signal(number, lambda *_: None)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            self._bury()
            while not self._finished():
                self._do_what_is_due()
                self._wait()
                self._hear()
                self._obey()
                self._bury()
            signal.set_wakeup_fd(-1)
        self._held.remove()
        return self._status

    def _finished(self) -> bool:
        if not self._stopping or self._family.main is not None:
            return False
        return self._family.childless or time.monotonic() >= self._stopped_at + REST_SECONDS

    # --- time ------------------------------------------------------------------------------------------------------

    def _wait(self) -> None:
        poll = select.poll()
        for fd in (self._listener.fileno(), self._signals.fileno(), *(child.pidfd for child in self._family.known())):
            poll.register(fd, select.POLLIN)
        cold = [standby for standby in self._family.waiting if standby.warm is None]
        for standby in cold:
            poll.register(standby.channel, select.POLLIN)
        for fd in self._held.to_poll():
            poll.register(fd, 0)
        seconds = self._next_due() - time.monotonic()
        events = dict(poll.poll(None if seconds == NEVER else max(0, int(seconds * 1000) + 1)))
        self._held.polled(events)
        for standby in cold:
            if standby.channel.fileno() in events:
                self._family.hear(standby)

    def _next_due(self) -> float:
        """When something is to be done; in the past: now."""
        due = (self._start_at, self._standby_at, self._exchange_until, self._feed_at, self._stopped_at + REST_SECONDS)
        return min(*due, self._family.next_kill())

    def _do_what_is_due(self) -> None:
        now = time.monotonic()
        if self._feed_at <= now:
            # It says that this loop runs. Whether the daemon does is for us to watch.
            self._manager.send("WATCHDOG=1")
            self._feed_at = now + self._feed_seconds
        for part, child in self._family.overdue(now):
            log.error(
                "child-hangs", "the %s (pid %d) %s: killed", _PARTS.get(part, part), child.pid, self._why_killed(child)
            )
            child.kill_at = NEVER
            child.signal(signal.SIGKILL)
        if self._exchange_until <= now:
            self._exchanged("the daemon has no successor, and goes on; the log above may say why")
        if self._start_at <= now:
            self._start_main()
        if self._standby_at <= now:
            self._start_standby()
        standby = self._family.standby
        if self._exchanging and self._exchange_until == NEVER and standby is not None and standby.warm:
            self._exchange()

    def _why_killed(self, child: Child) -> str:
        if child.ending:
            return "does not end"
        if child.ready_since is None:
            return f"is not ready after {self._options.start_seconds:g} s"
        return f"has not fed its watchdog for {self._options.watchdog_seconds:g} s"

    # --- starting --------------------------------------------------------------------------------------------------

    def _environment(self) -> Mapping[str, str]:
        environment = {name: value for name, value in os.environ.items() if name not in _NOT_HANDED_ON}
        if self._options.watchdog_seconds:
            environment["WATCHDOG_USEC"] = str(round(self._options.watchdog_seconds * 1e6))
        return environment | {"NOTIFY_SOCKET": self._listener.address, "FDSTORE": str(MOST_DESCRIPTORS)}

    def _start_main(self) -> None:
        self._start_at = NEVER
        try:
            self._family.start_main(self._environment(), self._held.named, self._options.start_seconds)
        except OSError as error:
            log.error("daemon-not-started", "the daemon cannot be started: %s", error)
            self._start_at = time.monotonic() + self._options.delay()

    def _wants_standby(self) -> bool:
        """Not before a daemon serves, which has better use for the processors."""
        main = self._family.main
        return self._options.standby and main is not None and main.ready_since is not None

    def _start_standby(self) -> None:
        self._standby_at = NEVER
        if self._stopping or not (self._exchanging or self._wants_standby()):
            return
        if self._family.has_fresh_standby:
            self._family.fork_standby()
            return
        try:
            self._family.start_standby(self._environment(), self._options.start_seconds)
        except OSError as error:
            log.error("standby-not-started", "there can be no standby: %s", error)
            self._standby_at = time.monotonic() + self._options.delay()

    # --- messages --------------------------------------------------------------------------------------------------

    def _hear(self) -> None:
        for _ in range(MOST_MESSAGES):
            message = self._listener.receive()
            if message is None:
                return
            try:
                if self._family.is_ours(message.pid):
                    self._heed(message)
                else:
                    log.warning(
                        "message-refused",
                        "a message of pid %d, which is no daemon of ours: left out",
                        message.pid,
                    )
            finally:
                message.close()

    def _heed(self, message: Message) -> None:
        follows = "MAINPID" in message.values and self._family.follow(
            message.values["MAINPID"], self._options.start_seconds
        )
        main = self._family.main
        if follows and main is not None:
            self._start_at = NEVER
            if self._stopping:
                main.end(signal.SIGTERM, self._options.stop_seconds)
            elif self._exchanging:
                self._exchanged(None)
        name = message.values.get("FDNAME", "stored")
        if message.says("FDSTOREREMOVE"):
            self._held.remove(name)
        elif message.says("FDSTORE"):
            descriptors, message.descriptors = message.descriptors, []
            self._held.keep(name, descriptors, polled=message.values.get("FDPOLL") != "0")
        if main is None or message.pid != main.pid:
            return
        if "STATUS" in message.values:
            self._manager.send(f"STATUS={message.values['STATUS']}")
        if message.says("READY") and main.ready_since is None:
            self._is_ready(main)
        if message.says("STOPPING") and not main.ending:
            main.ending = True
            main.expect_within(self._options.stop_seconds)
        if not main.ending and main.ready_since is not None and (message.says("WATCHDOG") or message.says("READY")):
            main.expect_within(self._options.watchdog_seconds or NEVER)

    def _is_ready(self, main: Child) -> None:
        main.ready_since = time.monotonic()
        if not self._exchanging:
            self._manager.send("READY=1")
        self._family.fork_standby()
        if self._standby_at == NEVER:
            waits = self._family.standby is not None
            self._standby_at = main.ready_since + self._options.renewal_seconds if waits else 0.0

    # --- signals ---------------------------------------------------------------------------------------------------

    def _obey(self) -> None:
        with suppress(BlockingIOError):
            for number in self._signals.recv(4096):
                if number in (signal.SIGTERM, signal.SIGINT):
                    self._stop(signal.Signals(number))
                elif number in (signal.SIGUSR1, signal.SIGUSR2) and self._family.main is not None:
                    self._family.main.signal(number)
                elif number == signal.SIGHUP:
                    self._renew()

    def _stop(self, number: signal.Signals) -> None:
        if self._stopping:
            return
        log.info("stopping", "%s: stopping", number.name)
        self._manager.send("STOPPING=1", "STATUS=stopping")
        self._stopping = True
        self._start_at = self._standby_at = self._exchange_until = NEVER
        self._family.dismiss_standbys()
        if self._family.trial is not None:
            self._family.trial.signal(signal.SIGKILL)
        if self._family.main is None:
            self._stopped_at = time.monotonic()
        else:
            self._family.main.end(number, self._options.stop_seconds)

    # --- ends ------------------------------------------------------------------------------------------------------

    def _bury(self) -> None:
        for end in self._family.bury():
            if end.part == "main":
                self._main_ended(end)
            elif end.part == "standby":
                self._standby_ended(end)
            elif end.part == "trial" and not self._stopping:
                self._tried(end)

    def _main_ended(self, end: End) -> None:
        now, main = time.monotonic(), end.child
        if self._stopping:
            self._status = 0 if end.code is None else end.code if end.code >= 0 else 128 - end.code
            self._stopped_at = now
            return
        if main.ready_since is not None:
            self._served_at = now
        if self._was_steady(main):
            self._crashes = 0
        useless_seconds = self._options.useless_seconds
        if now - self._served_at > useless_seconds and (count := self._held.remove()):
            log.error(
                "descriptors-dropped",
                "no daemon has served for %g s: %d descriptors are no longer kept",
                useless_seconds,
                count,
            )
        self._start_at = now
        if not (self._exchanging and main.ending):
            delay = self._options.delay(self._crashes)
            self._crashes += 1
            self._start_at += delay
            when = f"in {delay:g} s" if delay else "at once"
            log.error("daemon-ended", "the daemon (pid %d) has ended (%s); started again %s", main.pid, end.how, when)
        if self._exchanging:
            self._exchanged(None)  # whatever starts now is of the new version

    def _was_steady(self, child: Child) -> bool:
        since = child.ready_since
        return since is not None and time.monotonic() - since >= self._options.steady_seconds

    def _standby_ended(self, end: End) -> None:
        if self._stopping:
            return
        if self._was_steady(end.child):
            self._standby_crashes = 0
        delay = self._options.delay(self._standby_crashes)
        self._standby_crashes += 1
        self._standby_at = time.monotonic() + delay
        log.warning("standby-ended", "the standby has ended (%s); another one in %g s", end.how, delay)
        if self._exchanging and self._exchange_until == NEVER:
            self._exchanged("what is installed now does not start; the old daemon goes on")

    # --- another version -------------------------------------------------------------------------------------------

    def _renew(self) -> None:
        """SIGHUP: become what is installed now, if that starts, and have the daemon exchanged for one of it."""
        if self._stopping:
            return
        if self._family.trial is not None or self._exchanging:
            self._again = True
            return
        log.info("exchange-begun", "SIGHUP: to be exchanged for what is installed now")
        self._manager.send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            self._family.trial = start(self._trial_command, self._environment())
        except OSError as error:
            self._exchanged(f"what is installed now cannot be started ({error}); nothing is exchanged")
            return
        self._family.trial.expect_within(self._options.start_seconds)

    def _tried(self, end: End) -> None:
        if end.code != 0:
            self._exchanged(f"what is installed now does not work ({end.how}); nothing is exchanged")
            return
        self._family.dismiss_standbys()  # they are of the old version
        main = self._family.main
        state = renewal.State(
            listener=self._listener.descriptors,
            held=self._held.all,
            main=None if main is None else dataclasses.asdict(main),
            old=[dataclasses.asdict(old) for old in self._family.old],
            crashes=self._crashes,
            served_at=self._served_at,
            again=self._again,
        )
        try:
            renewal.execute(state, _SIGNALS)
        except OSError as error:
            self._exchanged(f"what is installed now cannot be executed ({error}); nothing is exchanged")

    def _exchange(self) -> None:
        """The standby is of the new version: have it take over, or have the daemon start a successor of it."""
        main = self._family.main
        if main is None:
            self._exchanged(None)
            return
        self._exchange_until = time.monotonic() + self._options.start_seconds
        if self._held.named:
            # As after a crash: one way to take over, which has to be good enough always.
            log.info(
                "exchange-ends-daemon", "the daemon (pid %d) is ended: the next one takes over what is kept", main.pid
            )
            main.ending, main.kill_at = True, NEVER
            main.signal(signal.SIGKILL)
        else:
            main.signal(signal.SIGHUP)
            main.signal(signal.SIGUSR2)

    def _exchanged(self, failure: str | None) -> None:
        """The end of an exchange. After a failure the daemon that goes on reads its configuration at least."""
        self._exchanging, self._exchange_until = False, NEVER
        if failure is not None:
            log.error("exchange-failed", "%s", failure)
            if self._family.main is not None:
                self._family.main.signal(signal.SIGHUP)
            if self._wants_standby() and self._family.standby is None and self._standby_at == NEVER:
                self._standby_at = 0.0
        self._manager.send("READY=1")
        if self._again:
            self._again = False
            self._renew()
