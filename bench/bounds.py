"""The bounds that procview has set itself, and whether a run kept them."""

import math
from dataclasses import dataclass

from bench.endurance import MIB

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

# Through FUSE, pinned: lxcfs / ours.
LXCFS_RATIO = {"meminfo": 1.0, "stat": 1.0, "cpuinfo": 1.0}

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

    @property
    def kept(self) -> bool:
        """Never true of what was not measured (nan)."""
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    @property
    def word(self) -> str:
        return "pass" if self.kept else "FAIL"

    def row(self) -> list[str]:
        value = "not measured" if math.isnan(self.value) else f"{self.value:.2f}{self.unit}"
        return [self.what, value, f"{'>=' if self.at_least else '<='} {self.limit:.2f}{self.unit}", self.word]
