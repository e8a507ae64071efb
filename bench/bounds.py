"""The bounds that procview has set itself, and whether a run kept them. ``verdicts`` applies them."""

import math
from dataclasses import dataclass

MIB = 1 << 20

# Render alone against one open-read-close of the kernel's own file, both medians.
HOT_PATH_RATIO = {
    "meminfo": 4.0,
    "stat": 4.0,
    "uptime": 3.0,
    "swaps": 3.0,
    "online": 3.0,
    "cpuinfo": 2.0,
    "diskstats": 2.0,
    "vmstat": 2.0,
}
LARGE_CPUINFO_NS = 1e6

# Through FUSE, pinned: ours / floor, of every file; lxcfs / ours, of those that lxcfs has.
FLOOR_RATIO = 1.5
LXCFS_RATIO = {
    "meminfo": 3.5,
    "stat": 3.5,
    "cpuinfo": 3.5,
    "swaps": 3.0,
    "uptime": 1.8,
    "diskstats": 1.8,
    "loadavg": 1.4,
}

# Unpinned, by a ring of the reader's CPU: lxcfs / ours.
RING_RATIO = {"meminfo": 4.0, "stat": 4.0, "cpuinfo": 4.0}

# Four readers of meminfo: reads per second, ours / lxcfs; the server's CPU time for one read, ours / lxcfs.
RATE_FILE = "meminfo"
RATE_RATIO = 4.0
CPU_RATIO = 0.25

# Median of meminfo when there are many containers / when there is one.
CROWD_RATIO = 1.2
# Of a core, for the load of all of them.
SAMPLING_PERCENT = 1.0

IDLE_WAKE_UPS = 0.0

# The neighbour's 99th percentile, flooded / with as many readers of its own.
NEIGHBOUR_RATIO = 2.0

# The median of a reader beside clients of the control socket / alone.
CONTROL_RATIO = 1.2

# How long a reader may wait when the daemon is killed.
STALL_P99_MS = 300.0

RESIDENT_BYTES = 60 * MIB
# "Flat": what an allocator may keep between the first tenth of the reads and the last. A leak of two bytes a read would
# show at 10^6 reads.
GROWTH_BYTES = MIB


@dataclass(frozen=True)
class Verdict:
    what: str
    value: float
    limit: float
    at_least: bool = False
    unit: str = ""
    pyfuse3: float = math.nan
    """The same of pyfuse3 alone, for comparison."""
    reason: str = ""
    """Why it could not be measured, when there is a reason to tell."""

    @property
    def kept(self) -> bool:
        """Never true of what was not measured (nan)."""
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    @property
    def word(self) -> str:
        if math.isnan(self.value):
            return self.reason or "FAIL"
        return "pass" if self.kept else "FAIL"

    def row(self) -> list[str]:
        value = "not measured" if math.isnan(self.value) else f"{self.value:.2f}{self.unit}"
        compared = "" if math.isnan(self.pyfuse3) else f"{self.pyfuse3:.2f}"
        return [self.what, value, f"{'>=' if self.at_least else '<='} {self.limit:.2f}{self.unit}", self.word, compared]


VERDICT_HEADER = ["what", "value", "bound", "", "pyfuse3"]
