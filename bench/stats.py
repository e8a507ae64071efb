"""Samples of durations: kept whole, so that rounds can be put together before a percentile is taken."""

import math
from dataclasses import dataclass, field


@dataclass
class Samples:
    durations_ns: list[int] = field(default_factory=list)
    size_bytes: int = 0
    """Of the file, the last time it was read."""

    def add(self, other: "Samples") -> None:
        self.durations_ns += other.durations_ns
        self.size_bytes = other.size_bytes

    def percentile_ns(self, percent: float) -> float:
        if not self.durations_ns:
            return math.nan
        ordered = sorted(self.durations_ns)
        return float(ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))])

    @property
    def median_ns(self) -> float:
        return self.percentile_ns(50)

    @property
    def p99_ns(self) -> float:
        return self.percentile_ns(99)

    def summary(self) -> dict[str, float]:
        """For the JSON file."""
        return {
            "reads": len(self.durations_ns),
            "bytes": self.size_bytes,
            "median_ns": self.median_ns,
            "p90_ns": self.percentile_ns(90),
            "p99_ns": self.p99_ns,
        }
