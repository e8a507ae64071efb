"""The slots on the host: what exists whether or not a daemon runs.

    <base>                            a bind of itself, private: nothing below it reaches another mount namespace
    <base>/slots                      the names of all slots, one a line: what a hook has to bind
    <base>/history                    see history.py
    <base>/control/control.sock       the control socket, and a link to it: control.sock
    <base>/ctl/proc                   procfs, shared: views are mounted over its files
    <base>/ctl/sys/devices/system/…   a folder of sysfs, shared: one view over the whole of it
    <base>/src/…                      the same again, slaves of what is in ctl: containers bind from here
    <base>/kept, <base>/compat…       with the setting compat: see compat.py, bound.py

Making it is safe to repeat and to interrupt: each step looks at what is there. ``ctl`` is never made anew while it
exists, because the mounts in running containers are slaves of it.
"""

import errno
import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from procview.history import History
from procview.mount_namespace import where_views_are
from procview.mounts import (
    MS_BIND,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_PRIVATE,
    MS_RDONLY,
    MS_REC,
    MS_REMOUNT,
    MS_SHARED,
    MS_SLAVE,
    bottom_mount,
    detach,
    detach_below,
    mount,
    mount_table,
    top_mount,
)

HARDENED = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC
_MAX_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Skeleton:
    """The slots below ``base``, the run directory. A slot's name is its path in a container, without the first slash.

    Names are ``proc/meminfo``, ``proc/pressure`` (a folder), ``sys/devices/system/cpu`` (a folder).
    """

    base: str

    @property
    def lock(self) -> str:
        """The file that a running daemon holds locked."""
        return f"{self.base}/lock"

    @property
    def hook_socket(self) -> str:
        """Where the daemon hears from hooks."""
        return f"{self.base}/hook.sock"

    @property
    def control_socket(self) -> str:
        """Where people and programs ask the daemon: a link, see control_place."""
        return f"{self.base}/control.sock"

    @property
    def control_place(self) -> str:
        """The socket itself, in a folder of its own that a container may bind: nothing else is in there."""
        return f"{self.base}/control/control.sock"

    @property
    def kept(self) -> str:
        """The folder in which views are kept for as long as it takes to give those who have bound them a slot. Where
        it is not there, nobody is expected to bind views.
        """
        return f"{self.base}/kept"

    def ctl(self, name: str) -> str:
        """Where the view of the slot ``name`` is mounted."""
        return f"{self.base}/ctl/{name}"

    def src(self, name: str) -> str:
        """What a container binds for the slot ``name``."""
        return f"{self.base}/src/{name}"

    def names(self) -> list[str]:
        """The names of all slots; empty when there is no skeleton. Raises OSError."""
        try:
            with open(f"{self.base}/slots", encoding="utf-8") as file:
                return file.read(_MAX_BYTES).split()
        except FileNotFoundError:
            return []

    def trees(self) -> list[str]:
        """What is mounted below ``ctl`` and ``src``: procfs as a whole, and each folder of sysfs that is a slot."""
        return trees_of(self.names())

    @where_views_are()
    def make(self, names: Iterable[str]) -> None:
        """Make what is missing of the slots ``names``. Raises OSError, naming the place.

        Names that this host does not have (a kernel without swap has no /proc/swaps) are left out.
        """
        if os.path.islink(self.base):
            raise OSError(f"{self.base}: is a link; whoever made it could move the slots elsewhere")
        os.makedirs(self.base, 0o755, exist_ok=True)
        if top_mount(self.base) is None:
            mount(self.base, self.base, None, MS_BIND | MS_REC)  # with what others have mounted below
        mount("none", self.base, None, MS_PRIVATE)
        names = [name for name in names if os.path.exists(f"/{name}")]
        for tree in trees_of(names):
            for path in (self.ctl(tree), self.src(tree)):
                # What is mounted there is not asked: it may be a view that nobody serves yet.
                if top_mount(path) is None:
                    os.makedirs(path, 0o755, exist_ok=True)
            self._share(tree)
            self._enslave(tree)
        self._write(names)
        History(self.base).make()

    def _share(self, tree: str) -> None:
        ctl = self.ctl(tree)
        if top_mount(ctl) is None:
            if tree == "proc":
                mount("proc", ctl, "proc", HARDENED)
            else:
                mount(f"/{tree}", ctl, None, MS_BIND)
                mount("none", ctl, None, MS_BIND | MS_REMOUNT | HARDENED)
        # A bind joins its source's peer group where that is shared, as systemd makes /sys: what is mounted over it
        # would be mounted over the host's own. Private first, so that it gets a group of its own.
        if not self._has_own_group(ctl):
            mount("none", ctl, None, MS_PRIVATE)
            mount("none", ctl, None, MS_SHARED)

    def _has_own_group(self, path: str) -> bool:
        here = bottom_mount(path)
        outside = {entry.shared for entry in mount_table() if not entry.path.startswith(f"{self.base}/")}
        return here is not None and here.shared != 0 and here.shared not in outside

    def _enslave(self, tree: str) -> None:
        ctl, src = self.ctl(tree), self.src(tree)
        master, there = bottom_mount(ctl), bottom_mount(src)
        if master is not None and there is not None and there.master == master.shared and not there.shared:
            return
        while top_mount(src) is not None:
            detach(src)
        covering = top_mount(ctl)
        if covering != master:
            raise OSError(f"{ctl}: covered, so that {src} cannot be made from it: run procview withdraw first")
        mount(ctl, src, None, MS_BIND)
        mount("none", src, None, MS_SLAVE)

    def _write(self, names: list[str]) -> None:
        write_anew(f"{self.base}/slots", "".join(f"{name}\n" for name in names))

    def make_control(self) -> None:
        """The folder for the control socket, and the link. Raises OSError where something else is in their place.

        The folder is what a container binds, so it stays when the daemon stops: a socket made anew is found in it.
        """
        folder = os.path.dirname(self.control_place)
        with suppress(FileExistsError):
            os.mkdir(folder, 0o755)
        if not stat.S_ISDIR(os.lstat(folder).st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), folder)
        os.chmod(folder, 0o755)  # noqa: S103 - whatever our umask
        with suppress(FileExistsError):
            os.symlink(os.path.relpath(self.control_place, self.base), self.control_socket)

    def remove_control(self) -> None:
        """What make_control has made. Raises OSError."""
        for path in (self.control_socket, self.control_place):
            if os.path.lexists(path):
                os.unlink(path)
        try:
            os.rmdir(os.path.dirname(self.control_place))
        except OSError as error:
            # A container that has bound it may have put something there, which is not ours to take away.
            if error.errno not in (errno.ENOENT, errno.ENOTEMPTY):
                raise

    def remove(self) -> None:
        """Take everything down but ``base`` itself. Containers keep the host's files that they bound, for good.

        Raises OSError when something foreign is in a folder of ours.
        """
        for part in ("ctl", "src"):
            detach_below(f"{self.base}/{part}")
        while top_mount(self.base) is not None:
            detach(self.base)
        for part in ("ctl", "src"):
            for folder, _, _ in os.walk(f"{self.base}/{part}", topdown=False):
                os.rmdir(folder)
        for name in ("slots", "slots.new"):
            if os.path.lexists(f"{self.base}/{name}"):
                os.unlink(f"{self.base}/{name}")
        History(self.base).remove()
        self.remove_control()


def write_anew(path: str, text: str) -> None:
    """Have ``text`` in a file that everybody may read, at once or not at all. Raises OSError."""
    with suppress(OSError, UnicodeDecodeError), open(path, encoding="utf-8") as file:
        if file.read() == text:
            return  # a daemon that follows another one needs no room, where there is none
    fd = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        with open(fd, "w", encoding="utf-8") as file:
            os.fchmod(fd, 0o644)  # a hook of another user's reads it, whatever our umask
            file.write(text)
        os.rename(f"{path}.new", path)
    except OSError as error:
        os.unlink(f"{path}.new")
        raise OSError(error.errno, error.strerror, path) from None


def trees_of(names: Iterable[str]) -> list[str]:
    """The mounts that slots of these ``names`` are in: procfs for all below proc/, else each name for itself."""
    return list(dict.fromkeys("proc" if name.startswith("proc/") else name for name in names))
