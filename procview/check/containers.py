"""Has every container its views, and are they answered: mount tables of containers, then one real read in each.

Touches /proc/<pid>/… of containers' inits and, in children that may be given up, /proc/<pid>/root/proc/meminfo. The
mount table says what is over a file without asking it anything; it is read only if that is a view of this daemon.
"""

import functools
import os
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from procview.check.commands import RESTART, START, Commands
from procview.check.daemon import Service
from procview.check.daemon import State as DaemonState
from procview.check.findings import Counts, Finding, Severity
from procview.check.slots import listed
from procview.children import Answer, ask_all
from procview.mounts import MountEntry
from procview.slots import compat
from procview.slots.containers import (
    Container,
    Slot,
    State,
    by_state,
    is_running,
    mounts_of,
    running,
    slots,
    stack,
)
from procview.slots.skeleton import Skeleton

ANSWER_SECONDS = 0.4
ALL_SECONDS = 1.0
"""For the reads of all containers together. Those of 100 take a few milliseconds when the daemon answers."""
_MEMINFO = "proc/meminfo"
_MAX_BYTES = 1 << 16
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,80}")


@dataclass(frozen=True, slots=True)
class Question:
    """What to look for, and at whom not to look."""

    skeleton: Skeleton
    service: Service
    use_slots: bool
    """The setting ``slots``; without them views are bound by hand, into those containers that are to have them."""
    commands: Commands
    ignore: Collection[str] = ()
    """Glob patterns of names."""


def findings(question: Question) -> Iterator[Finding | Counts]:
    """Of every container at least one finding, and how many there are. Raises OSError."""
    everyone = [container for container in running() if not container.shares_host_mounts]
    containers = [one for one in everyone if not any(fnmatchcase(one.name, glob) for glob in question.ignore)]
    optional = compat.left_out(question.skeleton)
    looks = Looks(question, slots(question.skeleton) if question.use_slots else {}, everyone, optional)
    well: list[tuple[Container, MountEntry]] = []
    gone = 0
    for container in containers:
        try:
            found, view = looks.mounted(container)
        except ProcessLookupError:
            gone += 1
            continue
        except OSError as error:
            advice = "look again; if it stays so, it is a bug of procview: report it"
            yield _finding(container, Severity.UNKNOWN, f"cannot be looked into: {error.strerror}", advice)
            continue
        yield from found
        if view is not None and not found:
            well.append((container, view))
        elif not found:
            yield _finding(container, Severity.OK, "no views, nor any place for them")
    reads = [functools.partial(read_view, container.pid, view.mount_id) for container, view in well]
    answers = ask_all(reads, each_seconds=ANSWER_SECONDS, all_seconds=ALL_SECONDS)
    fresh = 0
    for (container, _), answer in zip(well, answers, strict=True):
        if answer.text is None and not is_running(container):
            gone += 1
            continue
        fresh += answer.text is not None
        yield looks.answered(container, answer)
    yield Counts(running=len(containers) - gone, attached=fresh, ignored=len(everyone) - len(containers))


@dataclass(frozen=True, slots=True)
class Looks:
    """Looks at one container after the other."""

    question: Question
    current: dict[str, Slot | None]
    """The slots of the host."""
    everyone: Sequence[Container]
    optional: Collection[str] = ()
    """The slots that a container need not have."""

    def mounted(self, container: Container) -> tuple[list[Finding], MountEntry | None]:
        """What is wrong with its mounts; and its view of meminfo, if that is one of the present daemon's.

        Raises ProcessLookupError if it has ended.
        """
        service = self.question.service
        table = mounts_of(container)
        top = next(iter(reversed(stack(table, f"/{_MEMINFO}"))), None)
        view = top if top is not None and top.ours and top.device == service.device else None
        if not self.question.use_slots:
            stale = top is not None and top.ours and view is None
            return ([self._problem(State.STALE, [_MEMINFO], container)] if stale else []), view
        if not self.current:
            advice = ("" if service.serving else f"{START}, then ") + self._attach(container)
            return [_finding(container, Severity.WARNING, "no views: there are no slots", advice)], view
        names = by_state(table, self.current, self.optional)
        attached = [*names.pop(State.ATTACHED, []), *(names.get(State.BOUND, []))]
        found = [self._problem(state, of_it, container) for state, of_it in names.items()]
        if attached and not service.serving:
            found.insert(0, self._up_without_a_daemon(container))
        return found, view

    def _problem(self, state: State, names: list[str], container: Container) -> Finding:
        """A state other than ATTACHED, as a finding."""
        attach = self._attach(container)
        files = listed(names, self.current)
        severity = Severity.WARNING
        if state is State.STALE:
            severity = Severity.CRITICAL
            text, advice = f"stale mounts, reads may fail: {files}", f"{self._detach(container)}; then {attach}"
        elif state is State.MISSING:
            text = "no views" + ("" if _MEMINFO in names else f": {files}")
            advice = f"{attach}; for new ones the engine has to run the hook: docs/engines.md"
        elif state is State.BOUND:
            text, advice = f"views bound without slots, reads fail once the daemon goes: {files}", attach
        elif state is State.FOREIGN:
            text = f"mounts of something else: {files}"
            advice = f"unmount them in there, then {attach}; if they are wanted: --ignore"
        elif self.question.service.serving:
            text, advice = f"the host's values, as no view is over the slots: {files}", attach
        else:
            text = f"the host's values: {self.question.service.state.value}"
            advice = "nothing to do in containers: they get their views with the daemon"
        return _finding(container, severity, text, advice)

    def _up_without_a_daemon(self, container: Container) -> Finding:
        service = self.question.service
        reads = "reads hang" if service.state is DaemonState.HANGING else "reads fail"
        text = f"views are still up, {reads}: {service.state.value}"
        advice = f"{self.question.commands.withdraw()}; then {RESTART}"
        return _finding(container, Severity.CRITICAL, text, advice)

    def answered(self, container: Container, answer: Answer) -> Finding:
        """What became of the read in a container whose mounts are as they must be."""
        again = f"look again; if it stays so: {self._detach(container)}; then {self._attach(container)}"
        if answer.text is not None:
            return _finding(container, Severity.OK, "views in place and answered")
        if answer.timed_out:
            text = f"/{_MEMINFO} was not answered within {ANSWER_SECONDS:g} s"
            return _finding(container, Severity.CRITICAL, text, again)
        if answer.error is not None:
            return _finding(container, Severity.CRITICAL, f"/{_MEMINFO} cannot be read: {answer.error}", again)
        return _finding(container, Severity.UNKNOWN, "views in place; no time was left to read one", "look again")

    def _attach(self, container: Container) -> str:
        return self.question.commands.attach(*self._reference(container))

    def _detach(self, container: Container) -> str:
        return self.question.commands.detach(*self._reference(container))

    def _reference(self, container: Container) -> tuple[str, ...]:
        """What to call it on a command line: its name may be anything, and advice gets copied into a root shell."""
        unique = sum(one.name == container.name for one in self.everyone) == 1
        return (container.name,) if unique and _PLAIN.fullmatch(container.name) else ("--pid", str(container.pid))


def _finding(container: Container, severity: Severity, text: str, advice: str = "") -> Finding:
    return Finding("container", severity, text, advice, container.name, container.pid)


def read_view(pid: int, mount_id: int) -> str:
    """Read the meminfo of process ``pid``'s container, which is the mount ``mount_id``; "" if it is as it must be.

    May wait for as long as some FUSE server likes: only for a child. Links are not followed: they would lead to files
    of the host. Raises OSError, ValueError.
    """
    opened: list[int] = []
    try:
        opened.append(os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        for part, flags in (("proc", os.O_DIRECTORY), ("meminfo", 0)):
            flags |= os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
            opened.append(os.open(part, flags, dir_fd=opened[-1]))
        if _mount_id(opened[-1]) != mount_id:
            raise ValueError("what is mounted there has just changed")
        opened.append(os.open(f"/proc/self/fd/{opened[-1]}", os.O_RDONLY | os.O_CLOEXEC))
        if not os.read(opened[-1], _MAX_BYTES).startswith(b"MemTotal:"):
            raise ValueError("the answer is not a meminfo")
    finally:
        for fd in opened:
            os.close(fd)
    return ""


def _mount_id(fd: int) -> int:
    with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("mnt_id:"))
