"""Putting the views of a mounted procview over the slots, and taking them away.

Publishing is one mount for each slot, withdrawing one umount: the kernel carries both into every container. A view
that is there already is swapped for the new one without a gap where Linux has MOVE_MOUNT_BENEATH.
"""

import errno
import logging
import os

from procview import faults
from procview.mounts import (
    MOVE_MOUNT_BENEATH,
    MountEntry,
    clone_tree,
    detach,
    detach_exactly,
    harden,
    mount_table,
    mounts_at,
    move_mount,
    top_mount,
)
from procview.slots.skeleton import Skeleton

log = logging.getLogger(__name__)


def publish(skeleton: Skeleton, views: str) -> None:
    """Put the view of every slot in place, from the procview that is mounted at ``views``. Raises OSError.

    The copy that propagates over ``src`` is detached: a container that binds a covered path would get a view of its
    own, which no withdrawal reaches.
    """
    for name in skeleton.names():
        faults.passing("publish")
        _replace(skeleton.ctl(name), f"{views}/{name}")
        while _views_over(skeleton.src(name)):
            detach(skeleton.src(name))


def published(skeleton: Skeleton, table: list[MountEntry] | None = None) -> dict[str, str]:
    """The slots that have a view now, and the device (``0:53``) of each. ``table`` is our own mount table."""
    table = mount_table() if table is None else table
    tops = {name: top_mount(skeleton.ctl(name), table) for name in skeleton.names()}
    return {name: entry.device for name, entry in tops.items() if entry is not None and entry.ours}


def is_published(skeleton: Skeleton, device: str) -> bool:
    """Whether every slot has the view of the file system ``device``, as publish leaves it. Raises OSError."""
    table = mount_table()
    views = [entry.path for entry in table if entry.ours]
    return published(skeleton, table) == dict.fromkeys(skeleton.names(), device) and not any(
        skeleton.src(name) in views or views.count(skeleton.ctl(name)) > 1 for name in skeleton.names()
    )


def withdraw(skeleton: Skeleton, device: str | None = None, *, but: str | None = None) -> int:
    """Take every view away, also those of dead daemons; or those of the file system ``device`` (``0:53``) only, or all
    ``but`` those of one.

    Needs no daemon and asks no FUSE file system anything. Returns how many mounts went. Errors do not stop it; the
    last one is raised at the end.
    """
    gone = 0
    failure: OSError | None = None
    for entry in reversed(mount_table()):
        if not entry.ours or not entry.path.startswith((f"{skeleton.base}/ctl/", f"{skeleton.base}/src/")):
            continue
        if (device is not None and entry.device != device) or entry.device == but:
            continue
        try:
            faults.passing("withdraw")
            # Others may withdraw at the same time (a guard, the next daemon), and the latter publishes then.
            gone += detach_exactly(entry)
        except OSError as error:
            log.error("cannot withdraw %s: %s", entry.path, error)
            failure = error
    if failure is not None:
        raise failure
    return gone


def cut_off(views: str, device: str | None = None) -> bool:
    """End the connection of the procview mounted at ``views`` and unmount it; its readers get an error, not a wait.

    Returns whether there was one (of ``device``, if that is given). Anything else mounted there is left alone. Raises
    OSError.
    """
    entry = top_mount(views)
    if entry is None or not entry.ours or (device is not None and entry.device != device):
        return False
    return detach_exactly(entry, force=True)


def _views_over(path: str) -> int:
    return sum(entry.ours for entry in mounts_at(path))


def _replace(slot: str, view: str) -> None:
    """The new view over the slot, and the old ones, if any, away."""
    stale = _views_over(slot)
    tree = clone_tree(view)
    try:
        harden(tree)
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
