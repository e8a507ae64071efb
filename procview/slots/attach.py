"""Putting the slots into running containers, and taking them out again, by the hook program.

The hook program is run as a process, so that there is one way of mounting. It changes mount namespaces, which a program
with threads cannot do, and what it waits for in a container cannot make us wait: our patience ends when it
has said nothing for a while. Looks at /proc/<pid>/ns/pid before it hands a pid on.
"""

import itertools
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from procview.mount_namespace import where_views_are
from procview.shipped import hook_program
from procview.slots.containers import Container, is_running
from procview.slots.skeleton import Skeleton

BATCH = 64
"""For how many containers one process of the hook program works: its start costs more than a container."""
SILENCE_SECONDS = 10.0
"""How long the hook program may say nothing. It has a deadline of its own, which is shorter."""
_END_SECONDS = 1.0
_MAX_BYTES = 1 << 20
"""What the hook program may say of one batch."""

Mode = Literal["attach", "detach"]
_OUTCOMES: Mapping[Mode, frozenset[str]] = {
    "attach": frozenset({"attached", "already attached", "not attached"}),
    "detach": frozenset({"detached", "not attached"}),
}
FAILED = "failed: "
SHARES = "shares the host's mounts: it has no /proc of its own to mount over"
ENDED = "it has ended"


@dataclass(frozen=True, slots=True)
class Result:
    """What was done to one container."""

    container: Container
    error: str | None = None
    """Why nothing could be done."""
    skipped: str | None = None
    """Why there was nothing to do; an error only for whoever named this container."""
    files: Mapping[str, str] = field(default_factory=dict)
    """For each slot: attached, already attached, detached, not attached, or ``failed: `` and the cause.

    To a container without /sys, attaching leaves the slots below it not attached; that is no failure.
    """

    @property
    def failed(self) -> bool:
        return self.error is not None or any(outcome.startswith(FAILED) for outcome in self.files.values())


Told = Callable[[int], None]
"""Called now and then with the number of containers that are done."""


def attach(skeleton: Skeleton, containers: Sequence[Container], told: Told = lambda _: None) -> list[Result]:
    """Put all slots, and the views over them, into each container; one that has them stays as it is.

    In the order of ``containers``. What fails is in the result. Raises OSError, as when there is no hook program.
    """
    return _all("attach", skeleton, containers, told)


def detach(skeleton: Skeleton, containers: Sequence[Container], told: Told = lambda _: None) -> list[Result]:
    """Take everything of ours out of each container; otherwise as attach. Needs no daemon."""
    return _all("detach", skeleton, containers, told)


@where_views_are()
def _all(mode: Mode, skeleton: Skeleton, containers: Sequence[Container], told: Told) -> list[Result]:
    program = hook_program()
    results: list[Result] = []
    while len(results) < len(containers):
        container = containers[len(results)]
        if (reason := _nothing_to_do(container)) is not None:
            results.append(Result(container, skipped=reason))
            continue
        following = itertools.islice(containers, len(results), len(results) + BATCH)
        batch = list(itertools.takewhile(lambda one: _nothing_to_do(one) is None, following))
        answers = _Answers(mode, batch, told, len(results))
        cause = _run(program, skeleton, answers)
        # The one that it was at is to blame; those after it get a process of their own.
        blamed = [Result(one, error=cause) for one in batch[len(answers.results) : len(answers.results) + 1]]
        for result in (*answers.results, *blamed):
            ended = result.failed and not is_running(result.container)
            results.append(Result(result.container, skipped=ENDED) if ended else result)
    return results


def _nothing_to_do(container: Container) -> str | None:
    """Asked right before: the pid of one that has ended can be another process, even one of the host's own."""
    if container.shares_host_mounts:
        return SHARES
    return None if is_running(container) else ENDED


class _Answers:
    """What the hook program says about ``batch``, line by line; ``before`` containers were done earlier."""

    def __init__(self, mode: Mode, batch: Sequence[Container], told: Told, before: int) -> None:
        self._told = told
        self._before = before
        self.mode = mode
        self.batch = batch
        self.results: list[Result] = []
        self._rest = b""
        self._bytes = 0

    @property
    def complete(self) -> bool:
        return len(self.results) == len(self.batch)

    def take(self, data: bytes) -> None:
        """Raises ValueError at the first line that is not as it must be."""
        self._bytes += len(data)
        if self._bytes > _MAX_BYTES:
            raise ValueError("it said too much")
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if self.complete:
                raise ValueError("it said more than it was asked")
            self.results.append(_result(line, self.batch[len(self.results)], _OUTCOMES[self.mode]))
            self._told(self._before + len(self.results))


def _result(line: bytes, container: Container, outcomes: frozenset[str]) -> Result:
    """Raises ValueError."""
    try:
        said: Any = json.loads(line)
    except RecursionError as error:
        raise ValueError(str(error)) from None
    if not isinstance(said, dict) or said.keys() != {"pid", "error", "files"} or said["pid"] != container.pid:
        raise ValueError(f"not an answer about {container.pid}: {line[:200]!r}")
    cause, files = said["error"], said["files"]
    if not isinstance(files, dict) or not all(
        isinstance(outcome, str) and (outcome in outcomes or outcome.startswith(FAILED)) for outcome in files.values()
    ):
        raise ValueError(f"not an outcome for each file: {line[:200]!r}")
    if not isinstance(cause, str | None):
        raise ValueError(f"not an error: {line[:200]!r}")
    return Result(container, error=cause, files=files)


def _run(program: str, skeleton: Skeleton, answers: _Answers) -> str:
    """Let the hook program give its answers; why they are not complete, if they are not."""
    # By our own interpreter: it is there, wherever the program's first line points.
    argv = [sys.executable, "-I", "-S", program, f"--{answers.mode}", *(str(one.pid) for one in answers.batch),
            "--run-directory", skeleton.base]  # fmt: skip
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors)
        assert process.stdout is not None
        try:
            cause = _read(process.stdout.fileno(), answers)
            if cause is None:
                status = _status(process)
        finally:
            process.stdout.close()
            process.kill()
            _status(process)
        if cause is not None:
            return cause
        errors.seek(max(0, errors.seek(0, os.SEEK_END) - 2000))
        said = errors.read().decode(errors="backslashreplace").strip().splitlines()
        return f"the hook program ended with status {status}" + (f": {said[-1]}" if said else "")


def _read(fd: int, answers: _Answers) -> str | None:
    """Read until the answers are complete or the program has ended, which is None; else what is wrong."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    patience = time.monotonic() + SILENCE_SECONDS
    while (left := patience - time.monotonic()) > 0:
        if not poll.poll(left * 1000):
            continue
        data = os.read(fd, 1 << 16)
        if not data:
            return None
        before = len(answers.results)
        try:
            answers.take(data)
        except ValueError as error:
            return f"the hook program is not understood: {error}"
        if answers.complete:
            return None
        if len(answers.results) > before:
            patience = time.monotonic() + SILENCE_SECONDS
    return f"the hook program said nothing for {SILENCE_SECONDS:g} s"


def _status(process: "subprocess.Popen[bytes]") -> int | None:
    """Its exit status; None for one that does not end: not even SIGKILL ends a wait for some file systems."""
    try:
        return process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        return None
