"""What hooks have noted of containers: image and annotations, which only their engine knows.

Touches one folder, <run directory>/containers: a file for each container, named after the inode number of its pid
namespace, written by hooks/procview-hook before the container's program starts. So a note is there whether or not a
daemon runs, and the next daemon finds it. A note is about one init: another one that has the same number of a namespace
later is told by when it started. Reads besides /proc/<pid>/stat of the inits named there.
"""

import json
import os
import stat
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from procview.logs import Log

log = Log(__name__)

MOST_BYTES = 1 << 14
_HALF_WRITTEN_SECONDS = 60.0
"""A file that says nothing may be one that a hook is still writing, which takes microseconds."""


@dataclass(frozen=True, slots=True)
class Note:
    """What a hook was told of one container, by whoever started that."""

    pid: int
    """Of its init, as the host numbers it."""
    start_ticks: int
    """When its init started, since the host's boot."""
    image: str | None
    annotations: Mapping[str, str]
    """Those that begin with ``org.procview.``, without that."""


@dataclass(frozen=True, slots=True)
class Notes:
    """The notes below ``run_directory``."""

    run_directory: str

    @property
    def folder(self) -> str:
        """Where they are."""
        return f"{self.run_directory}/containers"

    def make(self) -> None:
        """Make the folder, for hooks to write into. Where there is no room for it, containers have no notes."""
        try:
            os.mkdir(self.folder, 0o700)
        except FileExistsError:
            return
        except OSError as error:
            log.warning(
                "notes-missing",
                "%s: %s: images and annotations of containers will not be known",
                self.folder,
                error.strerror,
            )

    def remove(self) -> None:
        """Remove the folder with all that is in it. Raises OSError."""
        for path in self._paths():
            os.unlink(path)
        with suppress(FileNotFoundError):
            os.rmdir(self.folder)

    def of(self, pid_namespace: int, start_ticks: int) -> Note | None:
        """The note of the container with this pid namespace, whose init started then; None if there is none."""
        with suppress(OSError):
            note = _read(f"{self.folder}/{pid_namespace}.json")[0]
            if note is not None and note.start_ticks == start_ticks:
                return note
        return None

    def sweep(self, proc: str = "/proc") -> None:
        """Remove the notes of containers that have ended."""
        for path in self._paths():
            with suppress(OSError):
                note, seen = _read(path)
                if note is None:
                    over = time.time() - seen.st_mtime > _HALF_WRITTEN_SECONDS
                else:
                    over = start_ticks_of(proc, note.pid) != note.start_ticks
                # It may have been written anew meanwhile, for the next container of that number.
                if over and os.path.samestat(seen, os.lstat(path)):
                    os.unlink(path)

    def _paths(self) -> list[str]:
        try:
            return [f"{self.folder}/{name}" for name in os.listdir(self.folder)]
        except OSError:
            return []


def _read(path: str) -> tuple[Note | None, os.stat_result]:
    """The note, None if it is none, and which file it is. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        seen = os.fstat(fd)
        text = os.read(fd, MOST_BYTES + 1) if stat.S_ISREG(seen.st_mode) else b""
    finally:
        os.close(fd)
    return (_note(text) if len(text) <= MOST_BYTES else None), seen


def _note(text: bytes) -> Note | None:
    try:
        told: Any = json.loads(text)
        annotations = {str(key): str(value) for key, value in dict(told["annotations"]).items()}
        image = None if told["image"] is None else str(told["image"])
        return Note(int(told["pid"]), int(told["start_ticks"]), image, annotations)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def start_ticks_of(proc: str, pid: int) -> int | None:
    """When the process started, in ticks since the host's boot; None if there is none."""
    try:
        with open(f"{proc}/{pid}/stat", "rb") as file:
            # The name, in brackets, may have brackets and blanks in it.
            return int(file.read().rpartition(b")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None
