"""The supervisor's processes by their parts: the daemon, those before it that still end, standbys, a trial."""

import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from procview.logs import Log
from procview.supervisor.child import NEVER, Child, Standby, parent_of, start

log = Log(__name__)

STANDBY_SECONDS = 3.0
"""What a standby that is dismissed has to end in."""


@dataclass(frozen=True)
class End:
    """What became of a process that has ended. ``code`` is its status, or minus a signal; None: it is not known."""

    part: str
    """``main``, ``standby``, ``trial``, or another's word."""
    child: Child
    code: int | None

    @property
    def how(self) -> str:
        """For people."""
        if self.code is None:
            return "its status is not ours to know"
        if self.code >= 0:
            return f"status {self.code}"
        return next((one.name for one in signal.Signals if one == -self.code), f"signal {-self.code}")


class Family:
    """All of them. ``command`` is the daemon's."""

    def __init__(self, command: Sequence[str], main: Child | None = None, old: Sequence[Child] = ()) -> None:
        self._command = command
        self.main = main
        self.old = list(old)
        self.waiting: list[Standby] = []
        self.trial: Child | None = None
        self.childless = False
        """Whether nothing at all was left when the dead were last buried."""

    def known(self) -> list[Child]:
        """The ones that serve or did; a standby says nothing, and ends when it is told to by nobody."""
        return [child for child in (self.main, *self.old) if child is not None]

    @property
    def standby(self) -> Standby | None:
        """The one to serve next: one that is warm, if there is any."""
        known = [standby for standby in self.waiting if standby.child is not None]
        return next((standby for standby in known if standby.warm), known[0] if known else None)

    @property
    def has_fresh_standby(self) -> bool:
        """Whether one that waits was executed, and not forked from one that serves now or did."""
        return any(standby.is_fresh for standby in self.waiting)

    def is_ours(self, pid: int) -> bool:
        """Whether it is the daemon, or its child (a successor), or one that it has left to us."""
        pids = {child.pid for child in self.known()}
        return pid > 0 and (pid in pids or parent_of(pid) in pids | {os.getpid()})

    # --- beginnings ------------------------------------------------------------------------------------------------

    def start_main(self, environment: Mapping[str, str], held: Sequence[tuple[str, int]], seconds: float) -> None:
        """A daemon, which has ``seconds`` until it must be ready, by the standby if there is one. Raises OSError."""
        child, how = None, "started"
        while child is None and (standby := self.standby) is not None:  # warm or not: sooner than another one
            self.waiting.remove(standby)
            try:
                child, forked = standby.go(held, is_last=not self.waiting)
                how = "the standby"
                if forked is not None:
                    self.waiting.append(forked)
            except OSError as error:
                assert standby.child is not None
                log.warning(
                    "standby-lost", "the standby (pid %d) cannot be told to serve: %s", standby.child.pid, error
                )
                standby.child.end(signal.SIGKILL, NEVER)
                self.old.append(standby.child)
        if child is None:
            child = start(self._command, environment, held)
        log.info(
            "daemon-started", "the daemon is pid %d (%s), with %d descriptors kept for it", child.pid, how, len(held)
        )
        child.expect_within(seconds)
        self.main = child

    def start_standby(self, environment: Mapping[str, str], seconds: float) -> None:
        """Execute a standby, which has ``seconds`` to become warm. Raises OSError."""
        standby = Standby.start(self._command, environment)
        assert standby.child is not None
        standby.child.expect_within(seconds)
        self.waiting.append(standby)

    def fork_standby(self) -> None:
        """If there is one standby, have it fork a second, so that there is a warm one as soon as the first goes to
        serve: to start another takes long when all readers want the processors.
        """
        standby = self.standby
        if standby is None or len(self.waiting) > 1 or not standby.warm:
            return
        try:
            self.waiting.append(standby.another())
        except OSError as error:
            log.warning("standby-not-forked", "the standby cannot be told to fork another: %s", error)

    def hear(self, standby: Standby) -> None:
        """Its channel has something to say. One that was executed, and is warm, takes the place of all others."""
        standby.heard()
        if standby.child is None:  # there will be none: it could not be forked
            standby.channel.close()
            self.waiting.remove(standby)
        elif standby.warm and standby.is_fresh:
            for other in [one for one in self.waiting if one is not standby]:
                self._dismiss(other)
            self.fork_standby()

    def dismiss_standbys(self) -> None:
        """End them all."""
        for standby in list(self.waiting):
            self._dismiss(standby)

    def _dismiss(self, standby: Standby) -> None:
        self.waiting.remove(standby)
        standby.channel.close()
        if standby.child is not None:  # else it ends by itself, and is buried as somebody who was left to us
            standby.child.end(signal.SIGCONT, STANDBY_SECONDS)  # a stopped one would not see it
            self.old.append(standby.child)

    def follow(self, number: str, seconds: float) -> bool:
        """Take the process ``number`` for the daemon; it has ``seconds`` to be ready, and as many has the one so far to
        end. Whether it is another one: a stranger is logged, and left.
        """
        pid = int(number) if number.isdecimal() and len(number) < 10 else 0
        if self.main is not None and pid == self.main.pid:
            return False
        try:
            child = Child.opened(pid)
        except OSError as error:
            log.error("main-pid-refused", "MAINPID=%.40s: %s", number, error)
            return False
        if pid == os.getpid() or not self.is_ours(pid):  # asked while its pidfd is open: the number is nobody else's
            child.close()
            log.error("main-pid-refused", "MAINPID=%.40s is no child of the daemon or ours: left out", number)
            return False
        for before in [one for one in self.old if one.pid == pid]:
            before.close()
            self.old.remove(before)
        if self.main is not None:
            self.main.ending = True
            self.main.expect_within(seconds)
            self.old.append(self.main)
        log.info("daemon-replaced", "the daemon is pid %d, which has taken over", pid)
        child.expect_within(seconds)
        self.main = child
        return True

    # --- ends ------------------------------------------------------------------------------------------------------

    def next_kill(self) -> float:
        """When somebody is to be killed."""
        return min((child.kill_at for _, child in self._parts()), default=NEVER)

    def overdue(self, now: float) -> Iterator[tuple[str, Child]]:
        """Who has to be killed, and which part it has."""
        yield from ((part, child) for part, child in self._parts() if child.kill_at <= now)

    def bury(self) -> Iterator[End]:
        """Every end there was, also of those that were left to us. They have gone from here then."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                self.childless = True
                break
            self.childless = False
            if not pid:
                break
            yield from self._ended(pid, os.waitstatus_to_exitcode(status))
        for child in self.known():
            # The end of a daemon's child is for the daemon to hear of; we see that there was one.
            if child.has_ended() and parent_of(child.pid) != os.getpid():
                yield from self._ended(child.pid, None)

    def _parts(self) -> list[tuple[str, Child]]:
        parts = [("main", self.main), ("trial", self.trial), *(("old", old) for old in self.old)]
        parts += [("standby", standby.child) for standby in self.waiting]
        return [(part, child) for part, child in parts if child is not None]

    def _ended(self, pid: int, code: int | None) -> Iterator[End]:
        for part, child in self._parts():
            if child.pid != pid:
                continue
            child.close()
            if part == "main":
                self.main = None
            elif part == "trial":
                self.trial = None
            elif part == "old":
                self.old.remove(child)
            else:
                for standby in [one for one in self.waiting if one.child is child]:
                    standby.channel.close()
                    self.waiting.remove(standby)
            yield End(part, child, code)
