"""A mount namespace of the benchmark's own, so that nothing it mounts can be seen or left behind, however it ends."""

import ctypes
import os
import subprocess

CLONE_NEWNS = 0x0002_0000


def enter_private_mounts() -> None:
    """Leave the host's mount namespace. Call it before any thread is started: a namespace belongs to a thread.

    /run becomes an empty tmpfs: lxcfs makes /run/lxcfs, and a daemon under /run/procview stays out of the way.
    """
    # os.unshare() exists since Python 3.12.
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"unshare: {os.strerror(number)}")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
