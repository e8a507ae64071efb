"""The mount table and the system calls that change it: mountinfo (proc(5)), mount(2) and its relatives.

Numbers are those of the kernel's headers (linux/mount.h, asm-generic/unistd.h); calls since Linux 5.1 have the same
number on all architectures. Every failure is an OSError.
"""

import ctypes
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

FS_TYPE = "fuse.procview"
SOURCE = "procview"

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_BIND = 1 << 12
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20

MOVE_MOUNT_BENEATH = 0x200

_AT_FDCWD = -100
_MNT_DETACH = 2
_UMOUNT_NOFOLLOW = 8
_OPEN_TREE_CLONE = 1
_MOVE_MOUNT_F_EMPTY_PATH = 4
_SYS_OPEN_TREE = 428
_SYS_MOVE_MOUNT = 429

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class MountEntry:
    """One line of mountinfo, as far as it is needed here."""

    mount_id: int
    parent_id: int
    device: str
    path: str
    fs_type: str
    source: str
    shared: int
    """The peer group it propagates in; 0: none."""
    master: int
    """The peer group it receives from; 0: none."""

    @property
    def ours(self) -> bool:
        """Whether some procview made this mount."""
        return self.fs_type == FS_TYPE and self.source == SOURCE


def parse_mountinfo(text: str) -> Iterator[MountEntry]:
    """The mounts in ``text``, a /proc/<pid>/mountinfo."""
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        words, tail = before.split(" "), after.split(" ")
        if len(words) < 6 or len(tail) < 2:
            continue
        path, fs_type, source = (_unescape(word) for word in (words[4], tail[0], tail[1]))
        groups = dict(word.split(":", 1) for word in words[6:] if ":" in word)
        yield MountEntry(
            int(words[0]), int(words[1]), words[2], path, fs_type, source,
            shared=int(groups.get("shared", 0)), master=int(groups.get("master", 0)),
        )  # fmt: skip


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def mount_table() -> list[MountEntry]:
    """All mounts of this mount namespace, parents before children."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        return list(parse_mountinfo(file.read()))


def top_mount(path: str) -> MountEntry | None:
    """The mount that is visible at exactly ``path`` (which has no links in it), or None."""
    here = [entry for entry in mount_table() if entry.path == path]
    covered = {entry.parent_id for entry in here}
    return next((entry for entry in reversed(here) if entry.mount_id not in covered), None)


def _check(result: int, path: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    return result


def detach(path: str) -> None:
    """Take the top mount at ``path`` out of the tree; files that are open stay usable. Raises OSError."""
    _check(_libc.umount2(os.fsencode(path), _MNT_DETACH | _UMOUNT_NOFOLLOW), path)


def mount(source: str, target: str, fs_type: str | None, flags: int) -> None:
    """mount(2). Of bind and a change of propagation, each takes a call of its own."""
    kind = None if fs_type is None else os.fsencode(fs_type)
    _check(_libc.mount(os.fsencode(source), os.fsencode(target), kind, ctypes.c_ulong(flags), None), target)


def clone_tree(path: str) -> int:
    """A descriptor of a detached copy of the mount at ``path`` (open_tree(2), Linux 5.2)."""
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC
    return _check(_libc.syscall(_SYS_OPEN_TREE, _AT_FDCWD, os.fsencode(path), flags), path)


def move_mount(tree: int, path: str, flags: int = 0) -> None:
    """Attach a detached copy at ``path``; with MOVE_MOUNT_BENEATH (Linux 6.5) under the top mount there."""
    flags |= _MOVE_MOUNT_F_EMPTY_PATH
    _check(_libc.syscall(_SYS_MOVE_MOUNT, tree, b"", _AT_FDCWD, os.fsencode(path), flags), path)
