"""The tree that lxcfs has, of slots, for engines and scripts that bind its files themselves (the setting ``compat``).

    <directory>                   a bind of <base>/compat-tree/root: nothing but two empty folders
    <directory>/proc              a bind of <base>/compat-tree/proc: an empty file for each slot
    <directory>/proc/meminfo      the slot, a slave of ctl as those in containers are; over it its view
    <directory>/sys               a bind of <base>/compat-tree/sys
    <directory>/sys/devices/system/cpu

    <base>/compat                 where it is (JSON), so that it can be removed whatever the settings say by then

Private and read-only, but for what comes from ``ctl``. lxcfs' own hook lists ``proc`` and binds all that is there, so
no more than the slots may be in it. It also binds the folder itself, without what is mounted below, into containers
that have one of this name, for containers in them; these are to find nothing then, rather than empty files.

Who binds a file gets the slot, or the view over it if there is one: see bound.py.
"""

import errno
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from procview.mount_namespace import where_views_are
from procview.mounts import (
    MS_BIND,
    MS_PRIVATE,
    MS_REMOUNT,
    MountEntry,
    bottom_mount,
    detach,
    mount,
    mount_table,
    move_mount,
    real_place,
    top_mount,
)
from procview.slots import bound
from procview.slots.skeleton import HARDENED, Skeleton, trees_of, write_anew

_PARTS = ("root", "proc", "sys")
_NOT_OF_LXCFS = frozenset({"sys/devices/system/node"})
"""What lxcfs has not got, and its hook therefore does not bind."""


@dataclass(frozen=True, slots=True)
class Record:
    """Where the tree is."""

    directory: str
    is_ours: bool
    """Whether the folder was made for it, and goes with it."""

    def place(self, name: str) -> str:
        """Where the slot ``name`` is."""
        return f"{self.directory}/{name}"


def recorded(skeleton: Skeleton) -> Record | None:
    """Where the tree was made; None: nowhere. Raises OSError."""
    path = _record(skeleton)
    try:
        with open(path, encoding="utf-8") as file:
            told = json.load(file)
        return Record(str(told["directory"]), bool(told["is_ours"]))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        raise OSError(errno.EINVAL, "not understood: unmount what is at the compat directory, and remove this file",
                      path) from None  # fmt: skip


def left_out(skeleton: Skeleton) -> frozenset[str]:
    """Slots that a container need not have: where there is a tree for it, lxcfs' hook may have been at work."""
    return _NOT_OF_LXCFS if os.path.exists(_record(skeleton)) else frozenset()


@where_views_are()
def make(skeleton: Skeleton, directory: str) -> None:
    """Make what is missing of the tree at ``directory``; one that was elsewhere goes. Needs the skeleton.

    Safe to repeat and to interrupt. Raises OSError, above all where something is there that is not ours.
    """
    directory = real_place(directory)
    top = top_mount(directory)
    if top is None or not _is_root(skeleton, top):
        _refuse(skeleton, directory, top)
    before = recorded(skeleton)
    if before is not None and before.directory != directory:
        remove(skeleton)
        before = None
    is_ours = not os.path.lexists(directory) or (before is not None and before.is_ours)
    write_anew(_record(skeleton), json.dumps({"directory": directory, "is_ours": is_ours}) + "\n")
    bound.expect(skeleton)
    os.makedirs(directory, 0o755, exist_ok=True)
    record = Record(directory, is_ours)
    names = skeleton.names()
    _make_places(skeleton, names)
    for part in _PARTS:
        _bind(f"{_tree(skeleton)}/{part}", directory if part == "root" else f"{directory}/{part}")
    for name in names:
        if not _has_slot(skeleton, record, name, mount_table()):
            _mount_slot(skeleton, record, name)


def show(skeleton: Skeleton) -> None:
    """Have the present view, and no other, over each slot of the tree, if there is one. Raises OSError."""
    record = recorded(skeleton)
    if record is not None:
        for name in skeleton.names():
            bound.show(skeleton, record.place(name), name)


def disorder(skeleton: Skeleton, table: list[MountEntry]) -> list[str]:
    """The slots that are not in the tree as they must be, if there is to be one: all where it is not there at all.

    ``table`` is our own mount table. Raises OSError.
    """
    record = recorded(skeleton)
    if record is None:
        return []
    return [
        name
        for name in skeleton.names()
        if not _has_slot(skeleton, record, name, table)
        or _view_at(skeleton.ctl(name), table) != _view_at(record.place(name), table)
    ]


@where_views_are()
def remove(skeleton: Skeleton) -> None:
    """Take the tree away, if there is one, and its folder if that was made for it. Raises OSError.

    Containers keep what they have bound.
    """
    record = recorded(skeleton)
    if record is None:
        return
    while (bottom := bottom_mount(record.directory)) is not None and _is_root(skeleton, bottom):
        top = top_mount(record.directory)
        if top is None or not _is_root(skeleton, top):
            raise OSError(errno.EBUSY, "something else is mounted over it: unmount that first", record.directory)
        detach(record.directory)
    if record.is_ours:
        with suppress(OSError):
            os.rmdir(record.directory)
    for folder, folders, files in os.walk(_tree(skeleton), topdown=False):
        for name in files:
            os.unlink(f"{folder}/{name}")
        for name in folders:
            os.rmdir(f"{folder}/{name}")
    if os.path.isdir(_tree(skeleton)):
        os.rmdir(_tree(skeleton))
    os.unlink(_record(skeleton))


def _record(skeleton: Skeleton) -> str:
    return f"{skeleton.base}/compat"


def _tree(skeleton: Skeleton) -> str:
    """The folder with all that something is mounted on."""
    return f"{skeleton.base}/compat-tree"


def _view_at(path: str, table: list[MountEntry]) -> str | None:
    """The device of the view at ``path``."""
    top = top_mount(path, table)
    return top.device if top is not None and top.ours else None


def _is_root(skeleton: Skeleton, entry: MountEntry) -> bool:
    """Whether this is the bind of the tree's root, from this run directory."""
    base = bottom_mount(skeleton.base)
    root = _tree(skeleton).removeprefix(skeleton.base) + "/root"
    return base is not None and (entry.device, entry.root) == (base.device, base.root.rstrip("/") + root)


def _refuse(skeleton: Skeleton, directory: str, top: MountEntry | None) -> None:
    """Raises OSError if the tree cannot be at ``directory``, where ``top`` is mounted, and nothing of ours."""
    other = "name another folder (the setting compat_directory)"
    if f"{directory}/".startswith(f"{skeleton.base}/") or f"{skeleton.base}/".startswith(f"{directory}/"):
        raise OSError(f"{directory}: is within {skeleton.base}, or around it; {other}")
    # What is mounted there is not asked anything: it may hang.
    if top is not None and top.fs_type == "fuse.lxcfs":
        stop = "stop it first (systemctl disable --now lxcfs)"
        raise OSError(f'{directory}: lxcfs is mounted there; {stop}, or set compat to "none"')
    if top is not None:
        raise OSError(f"{directory}: {top.fs_type} of {top.source!r} is mounted there; unmount it, or {other}")
    if os.path.islink(directory):
        raise OSError(f"{directory}: is a link; {other}")
    if os.path.lexists(directory) and (not os.path.isdir(directory) or os.listdir(directory)):
        raise OSError(f"{directory}: is no empty folder, and nothing of procview's; empty it, or {other}")


def _make_places(skeleton: Skeleton, names: Sequence[str]) -> None:
    tree = _tree(skeleton)
    for path in ("root/proc", "root/sys", "proc", "sys"):
        os.makedirs(f"{tree}/{path}", 0o755, exist_ok=True)
    for name in names:
        # What is there already may be mounted over elsewhere; here it is not.
        if not os.path.lexists(f"{tree}/{name}"):
            bound.make_place(f"{tree}/{name}", name)


def _bind(source: str, path: str) -> None:
    """``source`` at ``path``, private and read-only, unless it is there."""
    if top_mount(path) is None:
        mount(source, path, None, MS_BIND)
    mount("none", path, None, MS_PRIVATE)
    mount("none", path, None, MS_BIND | MS_REMOUNT | HARDENED)


def _has_slot(skeleton: Skeleton, record: Record, name: str, table: list[MountEntry]) -> bool:
    """Whether the first mount at the place of ``name`` is its slot."""
    (tree,) = trees_of([name])
    at = [entry for entry in table if entry.path == record.place(name)]
    ids = {entry.mount_id for entry in at}
    here = next((entry for entry in at if entry.parent_id not in ids), None)
    groups = {entry.shared for entry in table if entry.path == skeleton.ctl(tree) and not entry.ours} - {0}
    return here is not None and not here.shared and here.master in groups


def _mount_slot(skeleton: Skeleton, record: Record, name: str) -> None:
    """The slot at its place, in the place of whatever is there, and the present view over it."""
    place = record.place(name)
    while top_mount(place) is not None:
        detach(place)
    slot = bound.copy_of_slot(skeleton, name)
    try:
        move_mount(slot, place)
    finally:
        os.close(slot)
    bound.show(skeleton, place, name)
