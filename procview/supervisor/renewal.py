"""What a supervisor hands to its own next version, which is the same process after execve(2).

A memfd whose number PROCVIEW_SUPERVISOR has, with JSON in it. Older and newer versions read each other's: keys are only
ever added, and one that is missing has the value of a supervisor that has nothing.
"""

import dataclasses
import json
import os
import signal
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

VARIABLE = "PROCVIEW_SUPERVISOR"


@dataclass(frozen=True)
class State:
    """All that outlives the execution: numbers of descriptors, and of processes that are our children all the time."""

    listener: list[int]
    held: list[tuple[str, int, bool]]
    main: Mapping[str, Any] | None
    """The fields of its Child."""
    old: Sequence[Mapping[str, Any]] = ()
    crashes: int = 0
    served_at: float = 0.0
    again: bool = False

    def descriptors(self) -> Iterable[int]:
        """What must not be closed by exec."""
        yield from self.listener
        yield from (fd for _, fd, _ in self.held)
        yield from (child["pidfd"] for child in (self.main, *self.old) if child is not None)


def inherited() -> State | None:
    """What this process was before it executed itself; None: it is a new one."""
    number = os.environ.pop(VARIABLE, None)
    if number is None:
        return None
    with open(int(number), "rb") as file:
        values = json.load(file)
    state = State(
        listener=values["listener"],
        held=[(name, fd, polled) for name, fd, polled in values["held"]],
        main=values.get("main"),
        old=values.get("old", ()),
        crashes=values.get("crashes", 0),
        served_at=values.get("served_at", 0.0),
        again=values.get("again", False),
    )
    for fd in state.descriptors():
        os.set_inheritable(fd, False)
    return state


def execute(state: State, signals: Iterable[signal.Signals]) -> NoReturn:
    """Become the version of this program that is installed now. Raises OSError, and all is as it was then.

    ``signals`` are blocked until it listens to them: their default is to end it.
    """
    memory = os.memfd_create("procview-supervisor")
    try:
        with open(memory, "wb", closefd=False) as file:
            file.write(json.dumps(dataclasses.asdict(state)).encode())
        os.lseek(memory, 0, os.SEEK_SET)
        for fd in (memory, *state.descriptors()):
            os.set_inheritable(fd, True)
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, VARIABLE: str(memory)})  # noqa: S606
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
        for fd in state.descriptors():
            os.set_inheritable(fd, False)
        os.close(memory)
