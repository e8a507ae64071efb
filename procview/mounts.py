"""The mount table and the system calls that change it: mountinfo (proc(5)), mount(2) and its relatives.

Numbers are those of the kernel's headers (linux/mount.h, asm-generic/unistd.h); calls since Linux 5.1 have the same
number on all architectures. Every failure is an OSError.
"""

import ctypes
import errno
import os
import re
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from procview.mount_namespace import where_views_are

FS_TYPE = "fuse.procview"
SOURCE = "procview"

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 1 << 5
MS_BIND = 1 << 12
MS_REC = 1 << 14
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20

MOVE_MOUNT_BENEATH = 0x200

_AT_FDCWD = -100
_MNT_FORCE = 1
_MNT_DETACH = 2
_UMOUNT_NOFOLLOW = 8
_OPEN_TREE_CLONE = 1
_MOVE_MOUNT_F_EMPTY_PATH = 4
_SYS_OPEN_TREE = 428
_SYS_MOVE_MOUNT = 429
_SYS_FSOPEN = 430
_SYS_FSCONFIG = 431
_SYS_FSMOUNT = 432
_SYS_MOUNT_SETATTR = 442
_FSOPEN_CLOEXEC = 1
_FSMOUNT_CLOEXEC = 1
_FSCONFIG_CMD_CREATE = 6
_AT_EMPTY_PATH = 0x1000

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class MountEntry:
    """One line of mountinfo, as far as it is needed here."""

    mount_id: int
    parent_id: int
    device: str
    root: str
    """What of its file system is mounted: "/", or the file or folder that was bound."""
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
    for line in text.split("\n"):  # not splitlines(): the kernel escapes no other line ends, and paths are anyone's
        before, _, after = line.partition(" - ")
        words, tail = before.split(" "), after.split(" ")
        if len(words) < 6 or len(tail) < 2:
            continue
        root, path, fs_type, source = (_unescape(word) for word in (words[3], words[4], tail[0], tail[1]))
        groups = dict(word.split(":", 1) for word in words[6:] if ":" in word)
        yield MountEntry(
            int(words[0]), int(words[1]), words[2], root, path, fs_type, source,
            shared=int(groups.get("shared", 0)), master=int(groups.get("master", 0)),
        )  # fmt: skip


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def _escape(path: str) -> str:
    """As the kernel does (seq_path(), fs/proc_namespace.c)."""
    return re.sub(r"[ \t\n\\]", lambda match: f"\\{ord(match[0]):03o}", path)


def _mountinfo() -> str:
    with open("/proc/thread-self/mountinfo", encoding="utf-8", errors="surrogateescape", newline="\n") as file:
        return file.read()


def mount_table() -> list[MountEntry]:
    """All mounts of this thread's mount namespace, parents before children."""
    return list(parse_mountinfo(_mountinfo()))


def mounts_at(path: str) -> list[MountEntry]:
    """Of these, the ones at exactly ``path``. Hosts of many containers have thousands; only these are taken apart."""
    text, word = _mountinfo(), f" {_escape(path)} "
    lines = [line for line in text.split("\n") if word in line] if word in text else []
    return [entry for entry in parse_mountinfo("\n".join(lines)) if entry.path == path]


@where_views_are()
def real_place(path: str) -> str:
    """``path`` as mountinfo has it, without links on the way. One in its last part stays, and can be refused."""
    parent, name = os.path.split(path)
    return os.path.join(os.path.realpath(parent), name)


def top_mount(path: str, table: list[MountEntry] | None = None) -> MountEntry | None:
    """The mount that is visible at exactly ``path`` (which has no links in it), or None. ``table``: our own."""
    here = mounts_at(path) if table is None else [entry for entry in table if entry.path == path]
    covered = {entry.parent_id for entry in here}
    return next((entry for entry in reversed(here) if entry.mount_id not in covered), None)


def bottom_mount(path: str) -> MountEntry | None:
    """The mount at exactly ``path`` that all others there are mounted over, or None."""
    here = mounts_at(path)
    ids = {entry.mount_id for entry in here}
    return next((entry for entry in here if entry.parent_id not in ids), None)


def _check(result: int, path: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    return result


def detach(path: str) -> None:
    """Take the top mount at ``path`` out of the tree; files that are open stay usable. Raises OSError."""
    _check(_libc.umount2(os.fsencode(path), _MNT_DETACH | _UMOUNT_NOFOLLOW), path)


def detach_below(path: str) -> None:
    """Take all mounts below ``path`` out of this thread's namespace. Raises OSError."""
    for entry in reversed(_below(path)):
        detach(entry.path)


def detach_what_shows_below(path: str) -> None:
    """The same, but what is mounted below something else cannot be reached, and stays."""
    for entry in reversed(_below(path)):
        with suppress(OSError):
            detach(entry.path)


def _below(path: str) -> list[MountEntry]:
    return [entry for entry in mount_table() if entry.path.startswith(f"{path}/")]


def open_exactly(entry: MountEntry) -> int | None:
    """A descriptor (O_PATH) of the root of this mount; None if it is gone, or covered. Raises OSError."""
    try:
        place = os.open(entry.path, os.O_PATH | os.O_CLOEXEC | os.O_NOFOLLOW)  # asks no file system anything
    except FileNotFoundError:
        return None
    try:
        if mount_id(place) == entry.mount_id:
            return place
    except BaseException:
        os.close(place)
        raise
    os.close(place)
    return None


def mount_id(fd: int) -> int:
    """The number, as in mountinfo, of the mount that an open file or an O_PATH descriptor is in."""
    with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("mnt_id:"))


def detach_exactly(entry: MountEntry, *, force: bool = False) -> bool:
    """Take this mount out of the tree, and none that has come to its place meanwhile. Whether it was there, on top.

    With ``force`` (MNT_FORCE) its FUSE connection ends as well, that one and no other, without fusectl: whoever waits
    for an answer gets an error. Raises OSError.
    """
    place = open_exactly(entry)
    if place is None:
        return False
    try:
        flags = _MNT_DETACH | (_MNT_FORCE if force else 0)
        _check(_libc.umount2(f"/proc/self/fd/{place}".encode(), flags), entry.path)
    except OSError as error:
        if error.errno != errno.EINVAL:  # somebody else was quicker
            raise
        return False
    finally:
        os.close(place)
    return True


def mount(source: str, target: str, fs_type: str | None, flags: int) -> None:
    """mount(2). Of bind and a change of propagation, each takes a call of its own."""
    kind = None if fs_type is None else os.fsencode(fs_type)
    _check(_libc.mount(os.fsencode(source), os.fsencode(target), kind, ctypes.c_ulong(flags), None), target)


def mount_fuse(device: int, path: str, source: str = SOURCE, fs_type: str = FS_TYPE) -> None:
    """Mount what the descriptor ``device`` of /dev/fuse serves at the directory ``path``, for everybody to read."""
    # allow_other: the readers are other users'. default_permissions: the kernel checks modes itself, so that no ACCESS
    # request comes.
    owner = f"user_id={os.geteuid()},group_id={os.getegid()}"
    options = f"fd={device},rootmode=40000,{owner},allow_other,default_permissions"
    flags = ctypes.c_ulong(MS_NOSUID | MS_NODEV | MS_NOEXEC)
    arguments = os.fsencode(source), os.fsencode(path), os.fsencode(fs_type), flags, options.encode()
    _check(_libc.mount(*arguments), path)


def clone_tree(path: str) -> int:
    """A descriptor of a detached copy of the mount at ``path`` (open_tree(2), Linux 5.2)."""
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC
    return _check(_libc.syscall(_SYS_OPEN_TREE, _AT_FDCWD, os.fsencode(path), flags), path)


def open_file_system(fs_type: str) -> int:
    """A descriptor of the root of a file system without a device, mounted nowhere (fsopen(2), Linux 5.2)."""
    context = _check(_libc.syscall(_SYS_FSOPEN, os.fsencode(fs_type), _FSOPEN_CLOEXEC), fs_type)
    try:
        _check(_libc.syscall(_SYS_FSCONFIG, context, _FSCONFIG_CMD_CREATE, None, None, 0), fs_type)
        attributes = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC
        return _check(_libc.syscall(_SYS_FSMOUNT, context, _FSMOUNT_CLOEXEC, attributes), fs_type)
    finally:
        os.close(context)


def waiting_requests(device: str) -> int | None:
    """How many requests to the FUSE file system ``device`` (``0:53``) have no answer yet; None: there is none such.

    From fusectl (Documentation/filesystems/fuse.rst), wherever it is mounted or not. Raises OSError.
    """
    control = open_file_system("fusectl")
    try:
        fd = os.open(f"{device.partition(':')[2]}/waiting", os.O_RDONLY | os.O_CLOEXEC, dir_fd=control)
    except FileNotFoundError:
        return None
    finally:
        os.close(control)
    try:
        return int(os.read(fd, 32))
    finally:
        os.close(fd)


def harden(tree: int) -> None:
    """Make a detached copy read-only, nosuid, nodev and noexec (mount_setattr(2), Linux 5.12; its flags are these)."""
    _set_attributes(tree, MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, 0)


def enslave(tree: int) -> None:
    """Make a detached copy a slave of its group: it receives from there, and what is done to it shows nowhere else."""
    _set_attributes(tree, 0, MS_SLAVE)


def _set_attributes(tree: int, attributes_set: int, propagation: int) -> None:
    attributes = struct.pack("=4Q", attributes_set, 0, propagation, 0)
    size = ctypes.c_size_t(len(attributes))
    _check(_libc.syscall(_SYS_MOUNT_SETATTR, tree, b"", _AT_EMPTY_PATH, attributes, size), "mount_setattr")


def move_mount(tree: int, path: str, flags: int = 0) -> None:
    """Attach a detached copy at ``path``; with MOVE_MOUNT_BENEATH (Linux 6.5) under the top mount there."""
    flags |= _MOVE_MOUNT_F_EMPTY_PATH
    _check(_libc.syscall(_SYS_MOVE_MOUNT, tree, b"", _AT_FDCWD, os.fsencode(path), flags), path)
