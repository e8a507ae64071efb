"""Putting the views of a mounted procview over the slots, and taking them away.

Publishing is one mount for each slot, withdrawing one umount: the kernel carries both into every container. A view
that is there already is swapped for the new one without a gap where Linux has MOVE_MOUNT_BENEATH.
"""

import os
from functools import partial

from procview import faults
from procview.history import History
from procview.logs import Log
from procview.mount_namespace import where_views_are
from procview.mounts import (
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
from procview.slots import bound, compat
from procview.slots.skeleton import Skeleton

log = Log(__name__)


@where_views_are()
def publish(skeleton: Skeleton, views: str) -> None:
    """Put the view of every slot in place, from the procview that is mounted at ``views``. Raises OSError.

    The copy that propagates over ``src`` is detached: a container that binds a covered path would get a view of its
    own, which no withdrawal reaches.
    """
    for name in skeleton.names():
        faults.passing("publish")
        _replace(skeleton, name, f"{views}/{name}")
        while _views_over(skeleton.src(name)):
            detach(skeleton.src(name))
    compat.show(skeleton)


@where_views_are()
def published(skeleton: Skeleton, table: list[MountEntry] | None = None) -> dict[str, str]:
    """The slots that have a view now, and the device (``0:53``) of each. ``table`` is our own mount table."""
    table = mount_table() if table is None else table
    tops = {name: top_mount(skeleton.ctl(name), table) for name in skeleton.names()}
    return {name: entry.device for name, entry in tops.items() if entry is not None and entry.ours}


@where_views_are()
def is_published(skeleton: Skeleton, device: str) -> bool:
    """Whether every slot has the view of the file system ``device``, as publish leaves it. Raises OSError."""
    table = mount_table()
    views = [entry.path for entry in table if entry.ours]
    return (
        published(skeleton, table) == dict.fromkeys(skeleton.names(), device)
        and not any(skeleton.src(name) in views or views.count(skeleton.ctl(name)) > 1 for name in skeleton.names())
        and not compat.disorder(skeleton, table)
    )


@where_views_are()
def withdraw(skeleton: Skeleton, device: str | None = None, *, but: str | None = None) -> int:
    """Take every view away, also those of dead daemons; or those of the file system ``device`` (``0:53``) only, or all
    ``but`` those of one.

    Needs no daemon and asks no FUSE file system anything. Those that have bound a view as it is get a slot. Returns how
    many mounts went. Errors do not stop it; the last one is raised at the end.
    """
    gone = 0
    failure: OSError | None = None
    kept: list[bound.Kept] = []
    for entry in reversed(mount_table()):
        if not entry.ours or not entry.path.startswith((f"{skeleton.base}/ctl/", f"{skeleton.base}/src/")):
            continue
        if (device is not None and entry.device != device) or entry.device == but:
            continue
        try:
            faults.passing("withdraw")
            # Others may withdraw at the same time (a guard, the next daemon), and the latter publishes then.
            gone += _take_away(skeleton, entry, kept)
        except OSError as error:
            log.error("withdraw-failed", "cannot withdraw %s: %s", entry.path, error)
            failure = error
    # Last: what follows takes longer, and most containers need it not.
    failure = _release(skeleton, kept) or failure
    if gone and not published(skeleton):
        History(skeleton.base).withdrawn()
    if failure is not None:
        raise failure
    return gone


@where_views_are()
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


def _take_away(skeleton: Skeleton, entry: MountEntry, kept: list[bound.Kept]) -> bool:
    """Take this view away, and none that has come in its place. Whether it was there; what is to be released then is
    added to ``kept``. Raises OSError.
    """
    mine: bound.Kept | None = None
    if entry.path.startswith(skeleton.ctl("")):
        try:
            mine = bound.keep(skeleton, entry)
        except OSError as error:  # the others are not to wait for these
            log.error("view-bound", "%s: those who have bound it get errors from now on: %s", entry.path, error)
    went = False
    try:
        went = detach_exactly(entry)
    finally:
        if mine is not None and went:
            kept.append(mine)
        elif mine is not None:
            bound.drop(mine)  # who has taken it away has kept it as well
    return went


def _release(skeleton: Skeleton, kept: list[bound.Kept]) -> OSError | None:
    """Give slots to those who have bound views that went, also to those of dead processes; the last error, if any."""
    failure: OSError | None = None
    for step in (*(partial(bound.release, skeleton, one) for one in kept), partial(bound.finish, skeleton)):
        try:
            step()
        except OSError as error:
            log.error("view-bound", "cannot give a slot to who has bound a view: %s", error)
            failure = error
    return failure


def _replace(skeleton: Skeleton, name: str, view: str) -> None:
    """The new view over the slot, and the old ones, if any, away."""
    slot = skeleton.ctl(name)
    stale = _views_over(slot)
    kept: list[bound.Kept] = []
    tree = clone_tree(view)
    try:
        harden(tree)
        beneath = stale > 0 and bound.moved_beneath(tree, slot)
        for _ in range(stale):
            old = top_mount(slot)
            if old is not None and old.ours:
                _take_away(skeleton, old, kept)
        if not beneath:
            move_mount(tree, slot)
    finally:
        os.close(tree)
    failure = _release(skeleton, kept)
    if failure is not None:
        raise failure
