"""Views that somebody has bound as they are: they get a slot when their view goes.

Whoever binds a file of the compat tree (compat.py) while a daemon serves gets the view that is on top there, and no
slot below it, so nothing unmounts it any more. But it is a slave of the view in ``ctl``, and what is mounted over that
view shows over it as well. So when a view has to go:

    keep      a second mount of it, a peer of the one in ctl, is made in a place of its own below ``kept``
    (detach)  the one in ctl is taken away, and with it all that are over slots
    release   a slot is mounted over the one that is kept, and so over all that were bound, and nothing else; over it
              the view that is in ctl by now, if there is one. Then it is cut off from them, and goes.

From then on a container has a slot as any other. Asks no file system anything: mount tables and O_PATH descriptors say
all that is needed.
"""

import errno
import itertools
import os
from contextlib import ExitStack
from dataclasses import dataclass

from procview import faults
from procview.mounts import (
    MOVE_MOUNT_BENEATH,
    MS_BIND,
    MS_PRIVATE,
    MS_REC,
    MountEntry,
    clone_tree,
    detach,
    detach_exactly,
    enslave,
    mount,
    mount_id,
    mount_table,
    move_mount,
    open_exactly,
    top_mount,
)
from procview.slots.skeleton import Skeleton

_ROUNDS = 12
"""How often a place is put right before that counts as failed: views may come and go while it is."""

_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Kept:
    """A second mount of a view that goes."""

    place: str
    name: str
    """Of its slot."""
    fd: int
    """Of its root: it names this mount, whatever is over it."""


def expect(skeleton: Skeleton) -> None:
    """From now on, expect views to be bound as they are. Raises OSError."""
    os.makedirs(skeleton.kept, 0o700, exist_ok=True)
    if top_mount(skeleton.kept) is None:
        mount(skeleton.kept, skeleton.kept, None, MS_BIND)
    mount("none", skeleton.kept, None, MS_PRIVATE)


def are_kept(skeleton: Skeleton) -> bool:
    """Whether views that were bound as they are get a slot when they go."""
    return os.path.isdir(skeleton.kept)


def keep(skeleton: Skeleton, entry: MountEntry) -> Kept | None:
    """A second mount of the view ``entry`` in ``ctl``, for release or drop; None where there is no need, or no view.

    Raises OSError.
    """
    if not are_kept(skeleton) or (view := open_exactly(entry)) is None:
        return None
    name = entry.path.removeprefix(skeleton.ctl(""))
    place = f"{skeleton.kept}/{os.getpid()}-{next(_numbers)}"
    try:
        fd = clone_tree(f"/proc/self/fd/{view}")
    finally:
        os.close(view)
    try:
        make_place(place, name)
        move_mount(fd, place)
    except OSError:
        os.close(fd)
        raise
    return Kept(place, name, fd)


def release(skeleton: Skeleton, kept: Kept) -> None:
    """Give all that are bound to a view a slot, once it has gone from ``ctl``; and let it go. Raises OSError."""
    try:
        faults.passing("release")
        _cover(skeleton, kept)
    except OSError:
        os.close(kept.fd)  # it stays, for whoever withdraws next
        raise
    drop(kept)


def drop(kept: Kept) -> None:
    """Let a view go that is kept. What is over those that are bound to it stays there. Raises OSError."""
    try:
        # Cut off first, by the descriptor, with all that is over it: what is unmounted here must not go from them.
        mount("none", f"/proc/self/fd/{kept.fd}", None, MS_PRIVATE | MS_REC)
    finally:
        os.close(kept.fd)
    while top_mount(kept.place) is not None:
        detach(kept.place)
    remove_place(kept.place)


def finish(skeleton: Skeleton) -> None:
    """Release what others have kept and not released, as they were killed. Raises OSError."""
    if not are_kept(skeleton):
        return
    table = mount_table()
    in_ctl = {entry.shared for entry in table if entry.path.startswith(skeleton.ctl(""))}
    for entry in table:
        if not entry.ours or not entry.path.startswith(f"{skeleton.kept}/"):
            continue
        owner = entry.path.removeprefix(f"{skeleton.kept}/").partition("-")[0]
        # One that is covered has been released: it is in nobody's way, and goes with the slots.
        if _is_running(owner) or (fd := open_exactly(entry)) is None:
            continue
        kept = Kept(entry.path, entry.root.lstrip("/"), fd)
        if entry.shared in in_ctl:
            drop(kept)  # it is still to be withdrawn: a slot over it would come over all views
        else:
            release(skeleton, kept)


def forget(skeleton: Skeleton) -> None:
    """Expect nothing any more. Raises OSError."""
    if not are_kept(skeleton):
        return
    finish(skeleton)
    while top_mount(skeleton.kept) is not None:
        mount("none", skeleton.kept, None, MS_PRIVATE | MS_REC)
        detach(skeleton.kept)
    for name in os.listdir(skeleton.kept):
        remove_place(f"{skeleton.kept}/{name}")
    os.rmdir(skeleton.kept)


def copy_of_slot(skeleton: Skeleton, name: str) -> int:
    """A detached copy of the slot ``name`` in ``src``, never of a view that covers it there. Raises OSError."""
    path = skeleton.src(name)
    for _ in range(_ROUNDS):
        place = os.open(path, os.O_PATH | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            here = next((entry for entry in mount_table() if entry.mount_id == mount_id(place)), None)
            if here is not None and not here.ours:
                return clone_tree(f"/proc/self/fd/{place}")
        finally:
            os.close(place)
        if here is not None:
            detach_exactly(here)  # as whoever publishes does at once
    raise OSError(errno.EBUSY, "views come and go over it", path)


def show(skeleton: Skeleton, place: str, name: str) -> None:
    """Have over the slot at ``place`` the view that is over the slot ``name`` in ``ctl``, or none. Raises OSError."""
    for _ in range(_ROUNDS):
        wanted, here = _view_at(skeleton.ctl(name)), _view_at(place)
        if wanted is None and here is None:
            return
        if here is None:
            if (tree := _copy_of_view(wanted)) is not None:
                try:
                    move_mount(tree, place)
                finally:
                    os.close(tree)
        elif wanted is not None and here.device == wanted.device:
            return
        else:
            detach_exactly(here)
    raise OSError(errno.EBUSY, "views come and go over it", place)


def moved_beneath(tree: int, path: str) -> bool:
    """Whether the detached copy is under the top mount at ``path`` now, so that taking that away leaves no gap."""
    try:
        move_mount(tree, path, MOVE_MOUNT_BENEATH)
    except OSError as error:
        if error.errno != errno.EINVAL:  # Linux before 6.5 knows no such flag
            raise
        return False
    return True


def make_place(path: str, name: str) -> None:
    """A file or a folder to mount the slot ``name`` over. Raises OSError."""
    if os.path.isdir(f"/{name}"):
        os.makedirs(path, 0o755, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
        os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o444))


def remove_place(path: str) -> None:
    """Such a file or folder away. Raises OSError."""
    if os.path.isdir(path):
        os.rmdir(path)
    else:
        os.unlink(path)


def _is_running(pid: str) -> bool:
    # A dead process that nobody has reaped still has its folder, but no mount namespace.
    try:
        os.readlink(f"/proc/{pid}/ns/mnt")
    except OSError:
        return False
    return True


def _cover(skeleton: Skeleton, kept: Kept) -> None:
    """The slot over the view that is kept, and the present view over that, if there is one."""
    with ExitStack() as undo:
        slot = copy_of_slot(skeleton, kept.name)
        undo.callback(os.close, slot)
        view = _copy_of_view(_view_at(skeleton.ctl(kept.name)))
        if view is None:
            move_mount(slot, kept.place)
        else:
            undo.callback(os.close, view)
            # The view first and the slot beneath it, so that no reader sees the host in between.
            move_mount(view, kept.place)
            if not moved_beneath(slot, kept.place):
                detach(kept.place)
                move_mount(slot, kept.place)
    show(skeleton, kept.place, kept.name)


def _view_at(path: str) -> MountEntry | None:
    top = top_mount(path)
    return top if top is not None and top.ours else None


def _copy_of_view(view: MountEntry | None) -> int | None:
    """A detached copy of the view; None if it has gone."""
    if view is None or (fd := open_exactly(view)) is None:
        return None
    try:
        tree = clone_tree(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)
    # It is a peer of the one in ctl. Had a container a share in that, what it mounts would show on the host.
    enslave(tree)
    return tree
