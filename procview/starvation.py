"""How long a thread that could run has waited for a processor: what tells a hang from a machine with too much to do.

Touches /proc/<pid>/task/<tid>/schedstat (Documentation/scheduler/sched-stats.rst) and stat. Where the kernel does not
count (CONFIG_SCHED_INFO), nobody seems to wait.
"""

import os
import time


def threads_of(pid: int) -> list[int]:
    """All threads of a process, by number; none when it has ended."""
    try:
        return [int(name) for name in os.listdir(f"/proc/{pid}/task")]
    except OSError:
        return []


class Starvation:
    """Of one thread, from now on."""

    def __init__(self, pid: int, tid: int | None = None) -> None:
        self._folder = f"/proc/{pid}/task/{pid if tid is None else tid}"
        self._then = time.monotonic()
        self._ran_ns, self._waited_ns = self._counted()

    def seconds_since(self) -> float:
        """For how long it has waited since this was last asked, or since it was made."""
        now = time.monotonic()
        ran_ns, waited_ns = self._counted()
        waited = (waited_ns - self._waited_ns) / 1e9
        # A wait counts once it is over. One that is not yet shows as a thread that is to run and has not.
        if waited_ns == self._waited_ns and ran_ns == self._ran_ns and self._is_to_run():
            waited = now - self._then
        self._then, self._ran_ns, self._waited_ns = now, ran_ns, waited_ns
        return waited

    def _counted(self) -> tuple[int, int]:
        try:
            with open(f"{self._folder}/schedstat", encoding="ascii") as file:
                ran, waited, _ = file.read().split()
            return int(ran), int(waited)
        except (OSError, ValueError):  # it has ended, or the kernel does not count
            return 0, 0

    def _is_to_run(self) -> bool:
        try:
            with open(f"{self._folder}/stat", "rb") as file:
                return file.read().rpartition(b")")[2].split()[0] == b"R"
        except (OSError, IndexError):
            return False
