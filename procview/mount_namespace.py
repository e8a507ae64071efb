"""The mount namespace in which views are mounted, where it is not the daemon's own.

A service manager that shuts the daemon in (systemd's ProtectSystem= and its like) gives it a mount namespace of its
own, and what is mounted there reaches no container. ``PROCVIEW_MOUNT_NAMESPACE`` names the one that containers receive
from, such as ``/proc/1/ns/mnt``. A thread is in it for as long as it opens /dev/fuse, mounts, unmounts or reads the
mount table, and for little else: to setns(2) a thread has to have a root directory of its own (unshare(2), CLONE_FS),
and then goes alone.

Wants CAP_SYS_ADMIN and CAP_SYS_CHROOT. Without the variable, or where it names the daemon's own, nothing is done.
"""

import ctypes
import errno
import os
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

VARIABLE = "PROCVIEW_MOUNT_NAMESPACE"
OURS = "/proc/thread-self/ns/mnt"

_CLONE_FS = 0x200
_CLONE_NEWNS = 0x20000
"""linux/sched.h"""

_libc = ctypes.CDLL(None, use_errno=True)


class _State(threading.local):
    is_there = False


_here = _State()
_path: str | None = None
_theirs = -1
_ours = -1
_folder = -1
"""The working directory, which setns(2) leaves for the root."""


def choose(environment: Mapping[str, str] = os.environ) -> None:
    """Go by ``PROCVIEW_MOUNT_NAMESPACE`` from now on; before there are threads. Raises OSError, naming it, when that
    namespace cannot be entered and left again.
    """
    global _path, _theirs, _ours, _folder
    path = environment.get(VARIABLE)
    if path is None:
        return
    if not re.fullmatch(r"/proc/(?:self|[0-9]{1,10})/ns/mnt", path):
        raise OSError(errno.EINVAL, f"{VARIABLE}={path}: not /proc/PID/ns/mnt of a process")
    try:
        theirs = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        ours = os.open(OURS, os.O_RDONLY | os.O_CLOEXEC)
        if os.path.sameopenfile(theirs, ours):
            os.close(theirs)
            os.close(ours)
            return
        _path, _theirs, _ours = path, theirs, ours
        _folder = os.open(".", os.O_PATH | os.O_CLOEXEC)
        with where_views_are():
            pass
    except OSError as error:
        raise OSError(
            error.errno, f"{VARIABLE}={path}: cannot be entered: {error.strerror} (CAP_SYS_ADMIN and CAP_SYS_CHROOT?)"
        ) from None


def owner() -> str:
    """Whose the mount table of that namespace is: a pid, or "self"."""
    return "self" if _path is None else _path.split("/")[2]


def chosen() -> str | None:
    """The path of the namespace, for a process that is to enter it by itself; None: it is ours."""
    return _path


def enter() -> None:
    """Be where views are for good, in a process that has one thread. Raises OSError."""
    if _theirs >= 0:
        _go(_theirs)
        _here.is_there = True


@contextmanager
def where_views_are() -> Iterator[None]:
    """This thread's mounts and mount table are those of the namespace of the views, until it is left; as a decorator,
    for as long as the function runs. Not to be held while a task waits: others would run in it. Raises OSError.
    """
    if _theirs < 0 or _here.is_there:
        yield
        return
    _go(_theirs)
    _here.is_there = True
    try:
        yield
    finally:
        _here.is_there = False
        _go(_ours)
        os.fchdir(_folder)


def _go(namespace: int) -> None:
    if _libc.unshare(_CLONE_FS) < 0 or _libc.setns(namespace, _CLONE_NEWNS) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), _path)
