"""The slots on the host: what exists whether or not a daemon runs.

    <base>            a bind of itself, private: nothing below it reaches another mount namespace by propagation
    <base>/ctl/proc   procfs, shared: views are mounted over its files
    <base>/ctl/cpu    /sys/devices/system/cpu, shared: one view over the whole
    <base>/src/proc   the same procfs, a slave of ctl/proc: containers bind its files
    <base>/src/cpu    likewise

Making it is safe to repeat and to interrupt: each step looks at what is there. ``ctl`` is never made anew while it
exists, because the mounts in running containers are slaves of it.
"""

import os
from dataclasses import dataclass

from procview.mounts import (
    MS_BIND,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_PRIVATE,
    MS_RDONLY,
    MS_SHARED,
    MS_SLAVE,
    detach,
    mount,
    mount_table,
    top_mount,
)

DEFAULT_BASE = "/run/procview"
CPU_DIRECTORY = "/sys/devices/system/cpu"

_HARDENED = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC


@dataclass(frozen=True)
class Skeleton:
    """The slots below ``base``."""

    base: str = DEFAULT_BASE

    @property
    def ctl_proc(self) -> str:
        return f"{self.base}/ctl/proc"

    @property
    def ctl_cpu(self) -> str:
        return f"{self.base}/ctl/cpu"

    @property
    def src_proc(self) -> str:
        return f"{self.base}/src/proc"

    @property
    def src_cpu(self) -> str:
        return f"{self.base}/src/cpu"

    def make(self) -> None:
        """Make what is missing. Raises OSError, naming the place."""
        if os.path.islink(self.base):
            raise OSError(f"{self.base}: is a link; whoever made it could move the slots elsewhere")
        os.makedirs(self.base, 0o755, exist_ok=True)
        if top_mount(self.base) is None:
            mount(self.base, self.base, None, MS_BIND)
        mount("none", self.base, None, MS_PRIVATE)
        for path in (self.ctl_proc, self.ctl_cpu, self.src_proc, self.src_cpu):
            os.makedirs(path, 0o755, exist_ok=True)
        self._share("proc", self.ctl_proc, "proc")
        self._share(CPU_DIRECTORY, self.ctl_cpu, None)
        self._enslave(self.ctl_proc, self.src_proc)
        self._enslave(self.ctl_cpu, self.src_cpu)

    def _share(self, source: str, target: str, kind: str | None) -> None:
        if top_mount(target) is None:
            mount(source, target, kind, _HARDENED if kind else MS_BIND)
        # A bind joins its source's peer group where that is shared, as systemd makes /sys: what is mounted over it
        # would be mounted over the host's own. Private first, so that it gets a group of its own.
        if not self._has_own_group(target):
            mount("none", target, None, MS_PRIVATE)
            mount("none", target, None, MS_SHARED)

    def _has_own_group(self, path: str) -> bool:
        here = top_mount(path)
        outside = {entry.shared for entry in mount_table() if not entry.path.startswith(f"{self.base}/")}
        return here is not None and here.shared != 0 and here.shared not in outside

    def _enslave(self, ctl: str, src: str) -> None:
        master, there = top_mount(ctl), top_mount(src)
        if master is not None and there is not None and there.master == master.shared and not there.shared:
            return
        while top_mount(src) is not None:
            detach(src)
        mount(ctl, src, None, MS_BIND)
        mount("none", src, None, MS_SLAVE)

    def remove(self) -> None:
        """Take everything down. Containers keep the host's files that they bound, and nothing will come over them."""
        for path in (self.src_proc, self.src_cpu, self.ctl_proc, self.ctl_cpu, self.base):
            while top_mount(path) is not None:
                detach(path)
        for path in (self.src_proc, self.src_cpu, self.ctl_proc, self.ctl_cpu):
            if os.path.isdir(path):
                os.rmdir(path)
                if not os.listdir(os.path.dirname(path)):
                    os.rmdir(os.path.dirname(path))
        if os.path.isdir(self.base) and not os.listdir(self.base):
            os.rmdir(self.base)
