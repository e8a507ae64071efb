"""The supervisor's processes by their parts: the daemon, those before it that still end, a standby, a trial."""

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
        self.standby: Standby | None = None
        self.trial: Child | None = None
        self.childless = False
        """Whether nothing at all was left when the dead were last buried."""

    def known(self) -> list[Child]:
        """The ones that serve or did; a standby says nothing, and ends when it is told to by nobody."""
        return [child for child in (self.main, *self.old) if child is not None]

    def is_ours(self, pid: int) -> bool:
        """Whether it is the daemon, or its child (a successor), or one that it has left to us."""
        pids = {child.pid for child in self.known()}
        return pid > 0 and (pid in pids or parent_of(pid) in pids | {os.getpid()})

    # --- beginnings ------------------------------------------------------------------------------------------------

    def start_main(self, environment: Mapping[str, str], held: Sequence[tuple[str, int]], seconds: float) -> None:
        """A daemon, which has ``seconds`` until it must be ready, by the standby if there is one. Raises OSError."""
        child, how = None, "started"
        if self.standby is not None:  # warm or not: sooner than another one
            waiting, self.standby = self.standby, None
            try:
                child, how = waiting.go(held), "the standby"
            except OSError as error:
                log.warning(
                    "standby-lost", "the standby (pid %d) cannot be told to serve: %s", waiting.child.pid, error
                )
                waiting.child.end(signal.SIGKILL, NEVER)
                self.old.append(waiting.child)
        if child is None:
            child = start(self._command, environment, held)
        log.info(
            "daemon-started", "the daemon is pid %d (%s), with %d descriptors kept for it", child.pid, how, len(held)
        )
        child.expect_within(seconds)
        self.main = child

    def start_standby(self, environment: Mapping[str, str], seconds: float) -> None:
        """A standby, which has ``seconds`` to become warm. Raises OSError."""
        self.standby = Standby.start(self._command, environment)
        self.standby.child.expect_within(seconds)

    def dismiss_standby(self) -> None:
        """End it, if there is one."""
        if self.standby is not None:
            self.standby.channel.close()
            self.standby.child.end(signal.SIGCONT, STANDBY_SECONDS)  # a stopped one would not see it
            self.old.append(self.standby.child)
            self.standby = None

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
        if self.standby is not None:
            parts.append(("standby", self.standby.child))
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
            elif self.standby is not None:
                self.standby.channel.close()
                self.standby = None
            yield End(part, child, code)
