"""What a daemon leaves with its service manager for the next one: its connection to the kernel and its state.

As long as somebody holds the connection, readers of a daemon that has died wait. The next one goes on with both: it
serves the same mount, answers what was not answered, and knows the files that are open. Names end in the number of the
mount, so that two daemons of which one succeeds the other do not mix theirs up.
"""

import os
import select
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from procview._fast.state import State
from procview.logs import Log
from procview.mount_namespace import where_views_are
from procview.mounts import top_mount
from procview.store import Store

log = Log(__name__)

_CONNECTION = "connection."
_STATE = "state."


class CannotInheritError(Exception):
    """What is left is of no use; the text says why."""


@dataclass(frozen=True)
class Inheritance:
    """A mount to go on with."""

    connection: int
    """The descriptor of /dev/fuse; the owner's to close."""
    state: State


def inherited(store: Store, path: str, *, wanted: bool) -> Inheritance | None:
    """What another daemon that served ``path`` has left in the ``store``, if it can be gone on with. All else that it
    keeps of connections is given up, so that nobody waits for it.
    """
    found: Inheritance | None = None
    for number in sorted({name.rpartition(".")[2] for name in store.names if name.startswith((_CONNECTION, _STATE))}):
        descriptors = {kind: list(_all(store, f"{kind}{number}")) for kind in (_CONNECTION, _STATE)}
        try:
            if found is not None or not wanted:
                raise CannotInheritError("it is not wanted")
            found = _opened(descriptors, path)
        except CannotInheritError as error:
            log.warning(
                "takeover-refused", "the connection %s of another daemon cannot be gone on with: %s", number, error
            )
            forget(store, f"0:{number}")
        for fds in descriptors.values():
            for fd in fds:
                os.close(fd)
    return found


def leave(store: Store, connection: int, state: State) -> bool:
    """Have both kept for the next daemon; whether they are, as far as can be told."""
    number = _number(state.device)
    # The state first: a connection without one would be of no use to anybody.
    return store.keep(_STATE + number, state.fileno()) and store.keep(_CONNECTION + number, connection)


def forget(store: Store, device: str) -> None:
    """Have the manager drop what it keeps of the mount ``device``."""
    for kind in (_CONNECTION, _STATE):
        store.forget(kind + _number(device))


def _number(device: str) -> str:
    return device.partition(":")[2]


def _all(store: Store, name: str) -> Iterator[int]:
    while (fd := store.inherited(name)) is not None:
        yield fd


def _opened(descriptors: dict[str, list[int]], path: str) -> Inheritance:
    """From one descriptor of each kind, which are taken out of ``descriptors``. Raises CannotInheritError."""
    if not descriptors[_CONNECTION] or not descriptors[_STATE]:
        raise CannotInheritError("one of connection and state is missing")
    connection = descriptors[_CONNECTION][0]
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    if any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0)):
        raise CannotInheritError("it has ended")
    try:
        state = State(os.dup(descriptors[_STATE][0]))
    except (ValueError, OSError, MemoryError) as error:
        raise CannotInheritError(f"its state: {error}") from error
    with where_views_are():
        entry = top_mount(path)
    if entry is None or not entry.ours or entry.device != state.device:
        raise CannotInheritError(f"its mount, {state.device}, is not at {path}")
    descriptors[_CONNECTION].remove(connection)
    with suppress(OSError):
        os.set_inheritable(connection, False)
    return Inheritance(connection, state)
