"""One daemon in place of another, without a moment in which containers see the host: SIGUSR2, or serve --replace.

The successor mounts beside its predecessor and swaps the views in all containers (procview.slots.publish). Only then it
tells the predecessor to end, waits until it has, and takes its lock and its mount point.
"""

import os
import signal
import subprocess
import sys
from contextlib import ExitStack

import trio

from procview.fs.mount import Mount, MountError, directories
from procview.lock import LockedError, held
from procview.logs import Log

log = Log(__name__)

END_SECONDS = 15.0
"""What a predecessor has to end in: it serves open files for a second."""
_LOOK_SECONDS = 0.05


def place_beside(path: str) -> str:
    """Where a successor mounts until ``path`` is free."""
    return f"{path}.new"


async def start_successor() -> trio.Process:
    """Start this very program once more, to take over. Raises OSError."""
    arguments = [word for word in sys.orig_argv[1:] if word != "--replace"]
    # The service manager's watchdog is the successor's to feed, once it has told that it is the main process.
    environment = {name: value for name, value in os.environ.items() if name != "WATCHDOG_PID"}
    return await trio.lowlevel.open_process(
        [sys.executable, *arguments, "--replace"], stdin=subprocess.DEVNULL, env=environment
    )


async def take_over(pid: int, lock: str, mount: Mount, path: str, lock_stack: ExitStack) -> None:
    """End the predecessor ``pid``, hold its lock from now on, and move ``mount`` to its ``path``.

    The lock and the folder go into ``lock_stack``. Raises MountError when it does not end in time, OSError.
    """
    os.kill(pid, signal.SIGTERM)
    log.info("predecessor-told", "pid %d is told to end: its views are replaced", pid)
    with trio.move_on_after(END_SECONDS):
        while True:
            try:
                lock_stack.enter_context(held(lock))
                break
            except LockedError:
                await trio.sleep(_LOOK_SECONDS)
        lock_stack.enter_context(directories(path))
        mount.move(path)
        return
    raise MountError(f"the daemon to be replaced (pid {pid}) does not end")
