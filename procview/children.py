"""Work in a forked child that may never end: readers of a FUSE file system wait for as long as its server likes.

A thread that waits there keeps the whole process from exiting; a child can be killed, and one that not even SIGKILL
ends (its request is in the hands of a server that hangs) can be left behind. It holds none of our standard streams, so
that whoever reads our output is not kept waiting either.
"""

import contextlib
import ctypes
import json
import os
import select
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Send = Callable[[object], None]
"""Hands a value that JSON can say to the parent."""

_PR_SET_PDEATHSIG = 1
_CHUNK_BYTES = 1 << 16
_LANES = 4
"""Readers at the same time: one that is stuck holds up only those behind it. Each costs a fork."""

_libc = ctypes.CDLL(None, use_errno=True)
_left: list[int] = []
"""Pids of children that were killed and had not ended when their parent went on. Nobody else waits for them."""


class Child:
    """A process that does ``work`` and sends what it finds. What it raises ends it silently."""

    def __init__(self, work: Callable[[Send], None]) -> None:
        self.fd, write = os.pipe()
        parent = os.getpid()
        self._pid = os.fork()
        if self._pid == 0:
            _run(work, write, parent)
        os.close(write)
        self._rest = b""

    def received(self) -> list[Any] | None:
        """Whatever came since the last call (wait for ``fd`` to be readable); None at the end."""
        chunk = os.read(self.fd, _CHUNK_BYTES)
        if not chunk:
            return None
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        return [json.loads(line) for line in lines]

    def end(self) -> None:
        """Kill it if it still runs. It is not waited for: see above."""
        os.close(self.fd)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
        _left.append(self._pid)
        for _ in range(20):
            if self._pid not in reaped():
                return
            time.sleep(0.001)


def reaped() -> list[int]:
    """Take what has ended of those that were left behind; what has not."""
    _left[:] = [pid for pid in _left if not os.waitpid(pid, os.WNOHANG)[0]]
    return _left


def _run(work: Callable[[Send], None], write: int, parent: int) -> None:
    """The child's life; it does not come back from here."""
    _left.clear()  # our parent's
    try:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            return
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        with os.fdopen(write, "wb", buffering=0) as pipe:
            work(lambda value: _write_all(pipe.fileno(), json.dumps(value).encode() + b"\n"))
    finally:
        os._exit(0)  # whatever happened: no exit handlers and no traceback of a copy of the parent


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one question. One of the three is set, unless there was no time left to ask it at all."""

    text: str | None = None
    error: str | None = None
    timed_out: bool = False

    @property
    def asked(self) -> bool:
        return self.text is not None or self.error is not None or self.timed_out


def ask(question: Callable[[], str], seconds: float) -> Answer:
    """What ``question`` returns, in a child, if it does within ``seconds``. An exception of its is an error."""
    return ask_all([question], each_seconds=seconds, all_seconds=2 * seconds)[0]


def ask_all(questions: Sequence[Callable[[], str]], *, each_seconds: float, all_seconds: float) -> list[Answer]:
    """The same for many, several at a time; one that is not answered holds up few others, and none for long."""
    answers = [Answer() for _ in questions]
    deadline = time.monotonic() + all_seconds
    lanes = min(_LANES, len(questions))
    readers = [_Reader(questions, list(range(lane, len(questions), lanes))) for lane in range(lanes)]
    try:
        while (busy := [reader for reader in readers if reader.left]) and (now := time.monotonic()) < deadline:
            poll = select.poll()
            for reader in busy:
                poll.register(reader.fd, select.POLLIN)
            until = min(deadline, *(reader.since + each_seconds for reader in busy))
            ready = {fd for fd, _ in poll.poll(max(0.0, until - now) * 1000 + 1)}
            for reader in busy:
                if reader.fd in ready:
                    for index, answer in reader.answered():
                        answers[index] = answer
                elif time.monotonic() >= reader.since + each_seconds:
                    answers[reader.give_up()] = Answer(timed_out=True)
    finally:
        for reader in readers:
            reader.end()
    return answers


class _Reader:
    """Asks its questions one after the other, in one child as long as that comes back from each."""

    def __init__(self, questions: Sequence[Callable[[], str]], left: list[int]) -> None:
        self._questions = questions
        self.left = left
        """What is not answered yet; the first is being asked."""
        self._start()

    def _start(self) -> None:
        self.since = time.monotonic()
        self._child = Child(self._ask)

    def _ask(self, send: Send) -> None:
        for index in self.left:
            try:
                send([self._questions[index](), None])
            except Exception as error:  # its text is what the parent wants to know
                send([None, str(error) or type(error).__name__])

    @property
    def fd(self) -> int:
        return self._child.fd

    def answered(self) -> list[tuple[int, Answer]]:
        """The answers that have come; to be called when ``fd`` is readable."""
        self.since = time.monotonic()
        received = self._child.received()
        if received is None:
            return [(self.give_up(), Answer(error="the process that read it has ended"))]
        return [(self.left.pop(0), Answer(*value)) for value in received]

    def give_up(self) -> int:
        """Leave the question that is being asked, which is returned, and go on with the next ones."""
        self.end()
        given_up = self.left.pop(0)
        self._start()
        return given_up

    def end(self) -> None:
        self._child.end()
