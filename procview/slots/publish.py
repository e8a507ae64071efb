"""Putting the views of a mounted procview over the slots, and taking them away.

Publishing is one mount for each file, withdrawing one umount: the kernel carries both into every container. A view
that a crashed daemon left is withdrawn before a new one goes up, or swapped without a gap where Linux has
MOVE_MOUNT_BENEATH.
"""

import errno
import logging
import os

from procview.mounts import FS_TYPE, MOVE_MOUNT_BENEATH, clone_tree, detach, mount_table, move_mount
from procview.slots.skeleton import Skeleton

log = logging.getLogger(__name__)


def slots_of(skeleton: Skeleton, views: str, names: list[str]) -> dict[str, tuple[str, str]]:
    """For each slot in ``ctl``: the view that belongs there and the copy of it that propagates into ``src``.

    ``views`` is the mount point of a procview, ``names`` the files below its ``proc``. Left out is what the host's
    /proc does not have: there is nothing to mount over.
    """
    slots = {
        f"{skeleton.ctl_proc}/{name}": (f"{views}/proc/{name}", f"{skeleton.src_proc}/{name}")
        for name in names
        if os.path.exists(f"{skeleton.ctl_proc}/{name}")
    }
    slots[skeleton.ctl_cpu] = (f"{views}/sys/devices/system/cpu", skeleton.src_cpu)
    return slots


def publish(skeleton: Skeleton, views: str, names: list[str]) -> None:
    """Put every view over its slot; what was there before goes away afterwards. Raises OSError.

    The copies over ``src`` are detached: a container that binds a covered path would get a view of its own, which
    no withdrawal reaches.
    """
    for slot, (view, copy) in slots_of(skeleton, views, names).items():
        _replace(slot, view)
        while _views_over(copy):
            detach(copy)


def withdraw(skeleton: Skeleton) -> int:
    """Take every view away, also those of dead daemons. Needs no daemon and asks no FUSE file system anything.

    Returns how many mounts went. Errors do not stop it; the last one is raised at the end.
    """
    gone = 0
    failure: OSError | None = None
    for entry in reversed(mount_table()):
        if entry.fs_type != FS_TYPE or not entry.path.startswith((f"{skeleton.base}/ctl/", f"{skeleton.base}/src/")):
            continue
        try:
            detach(entry.path)
            gone += 1
        except OSError as error:
            log.error("cannot withdraw %s: %s", entry.path, error)
            failure = error
    if failure is not None:
        raise failure
    return gone


def _views_over(path: str) -> int:
    return sum(entry.path == path and entry.fs_type == FS_TYPE for entry in mount_table())


def _replace(slot: str, view: str) -> None:
    """The new view over the slot, and the old ones, if any, away."""
    stale = _views_over(slot)
    tree = clone_tree(view)
    try:
        if stale and _moved_beneath(tree, slot):
            for _ in range(stale):
                detach(slot)
            return
        for _ in range(stale):
            detach(slot)
        move_mount(tree, slot)
    finally:
        os.close(tree)


def _moved_beneath(tree: int, slot: str) -> bool:
    """Whether the new view is under the old one now, so that taking the old one away leaves no gap."""
    try:
        move_mount(tree, slot, MOVE_MOUNT_BENEATH)
    except OSError as error:
        if error.errno != errno.EINVAL:  # Linux before 6.5 knows no such flag
            raise
        return False
    return True
