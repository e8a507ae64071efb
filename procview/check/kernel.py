"""What of the kernel procview needs or makes use of: its release, /proc/filesystems, move_mount(2), cgroup trees."""

import errno
import os
import re

from procview.check.findings import Finding, Severity
from procview.mounts import MOVE_MOUNT_BENEATH, move_mount

OLDEST = (5, 15)
_NO_DESCRIPTOR = -1


def findings(proc: str = "/proc", cgroup: str = "/sys/fs/cgroup") -> list[Finding]:
    """The facts, and those among them that are trouble. Raises OSError."""
    return [release(os.uname().release), _fuse(proc), _swap_without_a_gap(), _cgroups(cgroup)]


def release(text: str) -> Finding:
    """Of the kernel's release as uname(2) has it."""
    found = re.match(r"(\d+)\.(\d+)", text)
    if found and (int(found[1]), int(found[2])) >= OLDEST:
        return Finding("kernel", Severity.OK, f"Linux {text}")
    oldest = ".".join(map(str, OLDEST))
    return Finding("kernel", Severity.WARNING, f"Linux {text}: procview is made for {oldest} or later",
                   "install a later kernel; nobody tests procview on this one")  # fmt: skip


def _fuse(proc: str) -> Finding:
    with open(f"{proc}/filesystems", encoding="ascii") as file:
        if "fuse" in file.read().split():
            return Finding("kernel", Severity.OK, "has FUSE")
    return Finding("kernel", Severity.WARNING, "no FUSE: it is not built in, or its module is not loaded",
                   "modprobe fuse")  # fmt: skip


def _swap_without_a_gap() -> Finding:
    """Asked of the kernel itself, since vendors carry features back. No descriptor, so nothing is moved."""
    try:
        move_mount(_NO_DESCRIPTOR, "", MOVE_MOUNT_BENEATH)
    except OSError as error:
        if error.errno == errno.EINVAL:
            text = "no MOVE_MOUNT_BENEATH (Linux 6.5): containers see the host's values for a moment at each restart"
            return Finding("kernel", Severity.OK, text)
    return Finding("kernel", Severity.OK, "has MOVE_MOUNT_BENEATH: restarts show no host value in between")


def _cgroups(cgroup: str) -> Finding:
    if os.path.exists(f"{cgroup}/cgroup.controllers"):
        return Finding("kernel", Severity.OK, "cgroup v2")
    if os.path.isdir(f"{cgroup}/memory") or os.path.isdir(f"{cgroup}/cpu"):
        hybrid = os.path.exists(f"{cgroup}/unified/cgroup.controllers")
        return Finding("kernel", Severity.OK, "cgroup v1" + (" with v2 beside it" if hybrid else ""))
    text = f"no cgroup controllers below {cgroup}: containers see the host's values"
    return Finding("kernel", Severity.WARNING, text, f"mount the cgroup trees below {cgroup}")
