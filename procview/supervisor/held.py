"""Descriptors that the supervisor keeps for the daemon: bounded, named, handed to every one it starts."""

import fcntl
import os
import select
from collections.abc import Iterable
from dataclasses import dataclass

from procview.logs import Log
from procview.store import MOST_DESCRIPTORS, name_is_valid

log = Log(__name__)

_F_DUPFD_QUERY = 1024 + 3
"""linux/fcntl.h, since 6.10: whether two descriptors are of one open file."""


@dataclass(frozen=True)
class _Kept:
    name: str
    fd: int
    polled: bool


class Held:
    """What is kept."""

    def __init__(self, kept: Iterable[tuple[str, int, bool]] = ()) -> None:
        """``kept``: as ``all`` says it."""
        self._kept = [_Kept(*one) for one in kept]

    @property
    def all(self) -> list[tuple[str, int, bool]]:
        """Each one's name, number, and whether an error on it ends its being kept."""
        return [(one.name, one.fd, one.polled) for one in self._kept]

    @property
    def named(self) -> list[tuple[str, int]]:
        """Each one's name and number; the oldest first."""
        return [(one.name, one.fd) for one in self._kept]

    def keep(self, name: str, descriptors: list[int], *, polled: bool) -> None:
        """Take ``descriptors`` over, under ``name``. What cannot be kept is closed, with a line in the log."""
        for fd in descriptors:
            if not name_is_valid(name):
                log.warning("descriptor-refused", "FDNAME=%.80r is no name: its descriptor is not kept", name)
            elif len(self._kept) >= MOST_DESCRIPTORS:
                log.warning(
                    "descriptor-refused",
                    "%d descriptors are kept, and no more: one named %r is not",
                    MOST_DESCRIPTORS,
                    name,
                )
            elif not any(one.name == name and _same(one.fd, fd) for one in self._kept):
                self._kept.append(_Kept(name, fd, polled))
                continue
            os.close(fd)

    def remove(self, name: str | None = None) -> int:
        """Close all that is kept under ``name``, or everything; how many that were."""
        return self._close([one for one in self._kept if name in (None, one.name)])

    def to_poll(self) -> list[int]:
        """The descriptors of which an error has to be noticed (those without FDPOLL=0)."""
        return [one.fd for one in self._kept if one.polled]

    def polled(self, events: dict[int, int]) -> None:
        """Close those that have an error, or nobody at their other end, as ``events`` of poll(2) say."""
        bad = select.POLLERR | select.POLLHUP | select.POLLNVAL
        self._close([one for one in self._kept if one.polled and events.get(one.fd, 0) & bad])

    def _close(self, gone: list[_Kept]) -> int:
        for one in gone:
            os.close(one.fd)
            self._kept.remove(one)
        return len(gone)


def _same(one: int, other: int) -> bool:
    """Whether both are of one open file, so that one of them is enough; False where the kernel cannot tell."""
    try:
        return fcntl.fcntl(one, _F_DUPFD_QUERY, other) == 1
    except OSError:
        return False
