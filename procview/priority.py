"""How urgent each process is: before others while readers wait for it, and as anybody once it serves.

The supervisor goes before others always, since it sleeps until its daemon has died; what it starts has its nice value.
"""

import os
from contextlib import suppress

HURRY_NICE = -10
"""Of setpriority(2): a thread with it gets some nine times the share of the processor that one with 0 gets."""


def hurry() -> None:
    """The calling thread, and those that it starts. Without the right to it (CAP_SYS_NICE) nothing happens."""
    with suppress(PermissionError):
        if os.getpriority(os.PRIO_PROCESS, 0) > HURRY_NICE:
            os.setpriority(os.PRIO_PROCESS, 0, HURRY_NICE)


def settle() -> None:
    """All threads of this process. What containers ask for is not to be served at the cost of everybody else.

    A service whose system calls are filtered may not ask, and has not hurried.
    """
    for tid in map(int, os.listdir("/proc/self/task")):
        with suppress(ProcessLookupError, PermissionError):
            if os.getpriority(os.PRIO_PROCESS, tid) < 0:
                os.setpriority(os.PRIO_PROCESS, tid, 0)
