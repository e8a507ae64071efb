"""Guests beside each other: an emulated one keeps little more than one processor busy, whatever it has itself.

While the host's own tests run, which wait more than they compute, there is one, and after them in the queue.
"""

import os
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from tests import session
from tests.guest.boot import End, boot, interrupted_by_signals
from tests.guest.inside import REPORTS
from tests.guest.ladder import Rung
from tests.guest.machine import is_virtualised

_AT_MOST = 4
_NICENESS = 5
"""Of a guest beside the host's tests."""


@dataclass(frozen=True)
class Run:
    """How a rung's guest has ended; or the second one, after one that died."""

    end: End
    seconds: float
    died_of: str
    """The first one's last words; empty if there was no second."""


class _UnwantedError(Exception):
    """Nobody waits for this guest any more."""


class Fleet:
    """Boots the guest of each rung, in their order and a few at a time; ends those that still run when it is left."""

    def __init__(self, rungs: Sequence[Rung], command: Mapping[str, Sequence[str]], environment: Mapping[str, str]):
        self._rungs = rungs
        self._command = command
        self._environment = environment
        self._unwanted = threading.Event()
        self._signals = interrupted_by_signals()
        self._shared: dict[str, Path] = {}
        self._runs: dict[str, Future[Run]] = {}
        self._places = threading.Semaphore(1)
        self._alone = False

    def __enter__(self) -> Self:
        self._pool = ThreadPoolExecutor(at_once(), thread_name_prefix="guest")
        for rung in self._rungs:
            self._shared[rung.name] = session.new_directory()
            self._runs[rung.name] = self._pool.submit(self._run, rung)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._unwanted.set()
        self._pool.shutdown(cancel_futures=True)
        for shared in self._shared.values():
            session.remove_directory(shared)
        if self._alone:
            self._signals.__exit__(None, None, None)

    def all_at_once(self) -> None:
        """The host's own tests are done: as many guests from now on as there is room for."""
        if not self._alone:
            self._alone = True
            self._signals.__enter__()
            for _ in range(at_once() - 1):
                self._places.release()

    def shared(self, rung: Rung) -> Path:
        """The folder that this rung's guest shares with us."""
        return self._shared[rung.name]

    def run(self, rung: Rung) -> Future[Run]:
        """Has a result when the guest has ended."""
        return self._runs[rung.name]

    def _run(self, rung: Rung) -> Run:
        with self._places:
            return self._booted(rung)

    def _booted(self, rung: Rung) -> Run:
        seconds, died_of = 0.0, ""
        while True:
            self._check()
            end = boot(
                rung.machine,
                self._command[rung.name],
                self._shared[rung.name],
                seconds=rung.minutes * 60,
                environment=self._environment,
                meanwhile=self._check,
                niceness=0 if self._alone else _NICENESS,
                sign=self._shared[rung.name] / REPORTS,
            )
            seconds += end.seconds
            if not end.died or died_of:
                return Run(end, seconds, died_of)
            died_of = end.last_words()

    def _check(self) -> None:
        if self._unwanted.is_set():
            raise _UnwantedError


def at_once() -> int:
    """How many guests this machine has room for."""
    each = 1 if not is_virtualised() else 2
    return max(1, min(_AT_MOST, len(os.sched_getaffinity(0)) // each))
