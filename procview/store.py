"""The daemon's side of a descriptor store: what it leaves with its service manager, and finds again when it starts.

The protocol is systemd's (sd_listen_fds_with_names(3); FDSTORE=1 and FDSTOREREMOVE=1 of sd_notify(3)), spoken by
systemd and by ``procview supervise``. Touches the environment, NOTIFY_SOCKET, and the descriptors that were handed in.
"""

import fcntl
import os
import re
from collections.abc import Iterable

from procview.logs import Log
from procview.notify import Notifier

log = Log(__name__)

FIRST = 3
"""Where descriptors that were handed in begin (SD_LISTEN_FDS_START)."""
MOST_DESCRIPTORS = 64
"""How many may be handed in, and how many ``procview supervise`` keeps: many times what a daemon has."""

_VARIABLES = ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "LISTEN_PIDFDID")
_NUMBER = re.compile(r"[0-9]{1,9}")
_NAME = re.compile(r"[!-9;-~ ]{1,255}")
"""As systemd has it: printable ASCII without the colon, which separates names."""


class Store:
    """What was handed in under names, and the way to have the service manager keep more. Several may share a name."""

    def __init__(self, notifier: Notifier, handed_in: Iterable[tuple[str, int]] = ()) -> None:
        """Owns the descriptors ``handed_in``, and the notifier."""
        self.notifier = notifier
        self._handed_in = list(handed_in)
        self._known = {name for name, _ in self._handed_in}
        self._asked_for: set[str] = set()
        self._said_why_not = False

    @classmethod
    def from_environment(cls) -> "Store":
        """The store that the environment tells of, whose LISTEN_ variables are removed from it.

        To be called before anything else opens files: nothing but their numbers says which descriptors are meant.
        """
        values = {name: os.environ.pop(name, None) for name in _VARIABLES}
        return cls(Notifier.from_environment(), _handed_in(values["LISTEN_FDS"], values["LISTEN_PID"],
                                                           values["LISTEN_FDNAMES"]))  # fmt: skip

    @property
    def names(self) -> list[str]:
        """Of what was handed in and nobody has taken yet."""
        return [name for name, _ in self._handed_in]

    @property
    def keeps(self) -> bool:
        """Whether there is a manager that may keep something. One without a store says so only since systemd 254."""
        return self._no_store() is None

    def inherited(self, name: str) -> int | None:
        """A descriptor that was handed in under ``name``, the caller's from now on; None: there is no more.

        It is still in the store as well, and need not be kept again. The order of several is not known.
        """
        self._asked_for.add(name)
        for index, (its_name, fd) in enumerate(self._handed_in):
            if its_name == name:
                del self._handed_in[index]
                return fd
        return None

    def keep(self, name: str, fd: int) -> bool:
        """Have the manager keep a copy of ``fd``, under ``name``, for the next daemon; whether it was sent.

        False, and a line in the log, where there is no store. True does not promise one: systemd before 254 does not
        say whether it keeps descriptors (FileDescriptorStoreMax=). FDPOLL=0: it keeps them whatever they have to tell.
        """
        if (why := self._no_store()) is not None:
            if not self._said_why_not:
                log.info("takeover-impossible", "%s: when this daemon dies, the next one starts anew", why)
            self._said_why_not = True
            return False
        return self.notifier.send("FDSTORE=1", "FDPOLL=0", f"FDNAME={_checked(name)}", descriptors=[fd])

    def forget(self, name: str) -> bool:
        """Have the manager drop all it keeps under ``name``; whether it was told."""
        return self._no_store() is None and self.notifier.send("FDSTOREREMOVE=1", f"FDNAME={_checked(name)}")

    def close_rest(self) -> None:
        """Close what was handed in and not asked for; of names that nobody has asked for, the manager keeps none.

        A connection that nobody serves must not stay open: its readers would wait for ever.
        """
        for name, fd in self._handed_in:
            log.info("descriptor-unknown", "a descriptor named %r was handed in, which is of no use here: closed", name)
            os.close(fd)
        self._handed_in = []
        for name in sorted(self._known - self._asked_for):
            self.forget(name)
        self._known.clear()

    def _no_store(self) -> str | None:
        """Why nothing can be kept, as far as the manager tells."""
        if not self.notifier.listened_to:
            return "nobody keeps descriptors (there is no NOTIFY_SOCKET)"
        limit = os.environ.get("FDSTORE")
        if limit is not None and not (_NUMBER.fullmatch(limit) and int(limit)):
            return f"the service manager keeps no descriptors (FDSTORE={limit[:40]})"
        return None


def name_is_valid(name: str) -> bool:
    """Whether systemd would take ``name`` for a descriptor."""
    return _NAME.fullmatch(name) is not None


def _checked(name: str) -> str:
    if not name_is_valid(name):
        raise ValueError(f"no name for a descriptor: {name!r}")
    return name


def _handed_in(count: str | None, pid: str | None, names: str | None) -> list[tuple[str, int]]:
    """The descriptors from number 3 on, with their names. What is odd is refused, with a line in the log."""
    if count is None:
        return []
    if pid != str(os.getpid()):
        # Not odd: a program between the manager and us has left the variables as they were.
        log.info(
            "descriptors-refused",
            "LISTEN_PID is %.40r, and this is process %d: the descriptors are another's",
            pid,
            os.getpid(),
        )
        return []
    if not _NUMBER.fullmatch(count) or not 1 <= int(count) <= MOST_DESCRIPTORS:
        log.error("descriptors-refused", "LISTEN_FDS=%.40s refused: it must be from 1 to %d", count, MOST_DESCRIPTORS)
        return []
    there: list[int] = []
    for fd in range(FIRST, FIRST + int(count)):
        try:
            flags = fcntl.fcntl(fd, fcntl.F_GETFD)
        except OSError:
            log.error("descriptors-refused", "LISTEN_FDS=%s, but there is no descriptor %d: left out", count, fd)
            continue
        if flags & fcntl.FD_CLOEXEC:  # it would not have come through exec
            log.error(
                "descriptors-refused",
                "LISTEN_FDS=%s, but the descriptor %d is one of this process's own: left out",
                count,
                fd,
            )
            continue
        os.set_inheritable(fd, False)
        there.append(fd)
    listed = ["unknown"] * int(count) if names is None else names.split(":")
    if len(listed) != int(count) or not all(map(name_is_valid, listed)):
        log.error(
            "descriptors-refused",
            "LISTEN_FDNAMES=%.200r refused: LISTEN_FDS=%s; the descriptors are closed",
            names,
            count,
        )
        for fd in there:
            os.close(fd)
        return []
    return [(listed[fd - FIRST], fd) for fd in there]
