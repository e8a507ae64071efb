"""What keeps things from being left behind: a mount namespace of the benchmark's own, and children that end with it."""

import ctypes
import os
import signal
import subprocess

CLONE_NEWNS = 0x0002_0000
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent() -> None:
    """In a child, between fork and exec: it is killed when the benchmark has ended without stopping it."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def enter_private_mounts() -> None:
    """Leave the host's mount namespace. Call it before any thread is started: a namespace belongs to a thread.

    /run becomes an empty tmpfs: lxcfs makes /run/lxcfs, and a daemon under /run/procview stays out of the way.
    """
    # os.unshare() exists since Python 3.12.
    if _libc.unshare(CLONE_NEWNS) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"unshare: {os.strerror(number)}")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
