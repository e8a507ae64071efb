"""Looking at all subjects, one after the other, in a child with a deadline: a look at this host never hangs."""

import select
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import ParamSpec

from procview.check import connection, containers, daemon, hook, kernel, slots
from procview.check.commands import Commands
from procview.check.findings import Counts, Finding, Severity
from procview.children import Child, Send
from procview.mounts import mount_table, real_place
from procview.slots.skeleton import Skeleton

ALL_SECONDS = 2.2
"""For everything; with the start of Python before it, it stays below three seconds."""

_P = ParamSpec("_P")


@dataclass(frozen=True, slots=True)
class Subject:
    """What to look at: the paths of one installation."""

    run_directory: str
    mount: str
    use_slots: bool = True
    commands: Commands = field(default_factory=Commands)
    """What advice names; its prefix is where the files are that ``procview install`` wrote."""
    ignore: tuple[str, ...] = ()
    """Glob patterns of containers' names that are left out."""


@dataclass(frozen=True, slots=True)
class Report:
    """What was found. ``counts`` is None if the containers could not be looked at to the end."""

    findings: tuple[Finding, ...]
    counts: Counts | None = None


def look(subject: Subject, seconds: float = ALL_SECONDS) -> Report:
    """Look at everything. What takes longer than ``seconds`` is left, and is a finding itself."""
    return collected(lambda: _all(subject), seconds)


def collected(looking: Callable[[], Iterable[str | Finding | Counts]], seconds: float) -> Report:
    """What ``looking``, run in a child, yields within ``seconds``. A text says what it looks at from then on."""

    def work(send: Send) -> None:
        for item in looking():
            send(_sent(item))
        send(["end", {}])

    findings: list[Finding] = []
    counts = None
    at = "this host"
    deadline = time.monotonic() + seconds
    child = Child(work)
    try:
        poll = select.poll()
        poll.register(child.fd, select.POLLIN)
        while (left := deadline - time.monotonic()) > 0:
            if not poll.poll(left * 1000):
                continue
            received = child.received()
            if received is None:
                return Report((*findings, _unknown(at, "the look at it broke off")), counts)
            for kind, value in received:
                if kind == "end":
                    return Report(tuple(findings), counts)
                if kind == "at":
                    at = value
                elif kind == "finding":
                    findings.append(Finding(**value | {"severity": Severity[value["severity"]]}))
                else:
                    counts = Counts(**value)
    finally:
        child.end()
    return Report((*findings, _unknown(at, f"no time left: not done within {seconds:g} s")), counts)


def _sent(item: str | Finding | Counts) -> list[object]:
    if isinstance(item, str):
        return ["at", item]
    if isinstance(item, Finding):
        return ["finding", asdict(item) | {"severity": item.severity.name}]
    return ["counts", asdict(item)]


def _unknown(subject: str, text: str) -> Finding:
    return Finding(subject, Severity.UNKNOWN, text, "look again; if it stays so, it is a bug of procview: report it")


def _all(subject: Subject) -> Iterator[str | Finding | Counts]:
    """Each subject in turn; what fails at one is a finding, and the next one's turn comes.

    Containers come last: what is in them decides how long that takes, and it cannot keep the others from being seen.
    """
    skeleton = Skeleton(real_place(subject.run_directory))
    commands = subject.commands
    service = None
    yield "daemon"
    try:
        service = daemon.look(skeleton.lock, real_place(subject.mount), mount_table())
        yield service.finding
    except Exception as error:
        yield _failed("daemon", error)
    if service is not None:
        yield from _guarded("connection", connection.findings, service, commands)
        if subject.use_slots:
            yield from _guarded("slots", slots.findings, skeleton, service, mount_table(), commands)
    yield from _guarded("hook", hook.findings, commands)
    yield from _guarded("kernel", kernel.findings)
    if service is not None:
        question = containers.Question(skeleton, service, subject.use_slots, commands, subject.ignore)
        yield from _guarded("container", containers.findings, question)


def _guarded(
    subject: str, looking: Callable[_P, Iterable[Finding | Counts]], *arguments: _P.args, **named: _P.kwargs
) -> Iterator[str | Finding | Counts]:
    yield subject
    try:
        yield from looking(*arguments, **named)
    except Exception as error:  # of one subject; the others have their turn
        yield _failed(subject, error)


def _failed(subject: str, error: Exception) -> Finding:
    return _unknown(subject, f"could not be looked at: {type(error).__name__}: {error}")
