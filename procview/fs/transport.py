"""How requests come from the kernel to the lane: by read(2) from /dev/fuse, or by rings of io_uring."""

import os
from pathlib import Path
from typing import Literal

from procview._fast.ring import MOST_QUEUES, probe

Transport = Literal["auto", "dev", "uring"]
SWITCH = Path("/sys/module/fuse/parameters/enable_uring")
"""Y if the kernel offers rings to file systems that are mounted from now on; kernels before 6.14 do not have it."""
_POSSIBLE = Path("/sys/devices/system/cpu/possible")


class NoRingError(Exception):
    """Rings cannot be; the text says why."""


def rings(transport: Transport) -> list[tuple[int, list[int]]]:
    """For each ring that there shall be, the CPU its thread is bound to and the CPUs whose queues it serves. None for
    "dev", and for "auto": a daemon that dies with rings takes what they hold with it (docs/architecture.md). Raises
    NoRingError, OSError.
    """
    if transport != "uring":
        return []
    try:
        offered = SWITCH.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        raise NoRingError("this kernel has no FUSE over io_uring (Linux 6.14 and later may)") from None
    if offered != "Y":
        raise NoRingError(f"it is switched off: write Y to {SWITCH}, or boot with fuse.enable_uring=1")
    if error := probe():
        raise NoRingError(f"io_uring_setup: {os.strerror(error)} (is the sysctl kernel.io_uring_disabled 0?)")
    found = shared_out(_possible_count(), sorted(os.sched_getaffinity(0)))
    if any(len(queues) > MOST_QUEUES for _, queues in found):
        raise NoRingError(f"the daemon may run on too few CPUs: more than {MOST_QUEUES} for each of them are possible")
    return found


def shared_out(count: int, usable: list[int]) -> list[tuple[int, list[int]]]:
    """Queues 0 to ``count`` - 1, the kernel's one for each CPU that there may ever be: each to the thread of its CPU
    if that is ``usable``, the others in turn.
    """
    queues: dict[int, list[int]] = {cpu: [] for cpu in usable}
    others = 0
    for queue in range(count):
        if queue in queues:
            queues[queue].append(queue)
        else:
            queues[usable[others % len(usable)]].append(queue)
            others += 1
    return [(cpu, own) for cpu, own in queues.items() if own]


def _possible_count() -> int:
    """How many CPUs are possible, as the kernel counts its queues."""
    count = 0
    for part in _POSSIBLE.read_text(encoding="ascii").strip().split(","):
        first, _, last = part.partition("-")
        count += int(last or first) - int(first) + 1
    return count
