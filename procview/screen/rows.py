"""Two polls compared: a row of numbers for each container, and a summary of the daemon. Draws nothing.

A share is of 1. None is what cannot be known: the kernel does not count it, or there is no poll before. A number that
went back (a container that the daemon has forgotten meanwhile, another daemon) makes no rate either.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from procview.client import Answer
from procview.screen.polls import PRESSURES, Poll

QUANTILE = 0.99


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One container. Texts are as hostile as it is."""

    name: str
    pid: int
    pid_namespace: int
    command: str
    cgroup: str | None
    state: str
    why: str
    up_seconds: float | None
    cpus: float | None
    """That it sees."""
    cpu_quota: float | None
    cpu_used: float | None
    """In CPUs, since the poll before."""
    throttled_share: float | None
    """Of the periods since the poll before in which it ran, those in which its quota was used up."""
    throttled_usec: float | None
    memory_total_bytes: float | None
    memory_available_bytes: float | None
    swap_total_bytes: float | None
    swap_free_bytes: float | None
    pressure_percent: tuple[float | None, ...]
    """As PRESSURES."""
    load_averages: tuple[float, ...] | None
    reads: float | None
    reads_per_second: float | None

    @property
    def is_degraded(self) -> bool:
        return self.state == "degraded"

    @property
    def cpu_limit(self) -> float | None:
        """What it may use: its quota, else the CPUs that it sees."""
        return self.cpus if self.cpu_quota is None else self.cpu_quota

    @property
    def cpu_share(self) -> float | None:
        return _part(self.cpu_used, self.cpu_limit)

    @property
    def memory_used_bytes(self) -> float | None:
        return _less(self.memory_total_bytes, self.memory_available_bytes)

    @property
    def memory_share(self) -> float | None:
        return _part(self.memory_used_bytes, self.memory_total_bytes)

    @property
    def swap_used_bytes(self) -> float | None:
        return _less(self.swap_total_bytes, self.swap_free_bytes)

    @property
    def load(self) -> float | None:
        """Of the last minute."""
        return self.load_averages[0] if self.load_averages else None

    @property
    def pressure(self) -> float | None:
        """The largest of the three."""
        return max((percent for percent in self.pressure_percent if percent is not None), default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The daemon."""

    version: str
    pid: int
    mount: str
    has_lane: bool
    up_seconds: float | None
    rss_bytes: float | None
    cpu_share: float | None
    """Of one CPU."""
    by_state: Mapping[str, int]
    reads: float | None
    reads_per_second: float | None
    slow_usec: float | None
    """The bound that QUANTILE of the texts since the poll before kept to; infinite beyond the last bound."""
    fallbacks_per_second: float | None
    """Reads that were given the host's file."""


def rows(now: Poll, before: Poll | None) -> list[Row]:
    """One for each container of ``now``, in its order."""
    earlier = {} if before is None else {_key(fact): fact for fact in before.containers}
    seconds = 0.0 if before is None else now.looked_seconds - before.looked_seconds
    return [_row(fact, earlier.get(_key(fact), {}), seconds, now.wall_seconds) for fact in now.containers]


def summary(now: Poll, before: Poll | None) -> Summary:
    """``before`` may be of another daemon."""
    status = now.status
    then: Answer = {} if before is None else before.status
    seconds = 0.0 if before is None else now.asked_seconds - before.asked_seconds
    same = then.get("pid") == status.get("pid")
    return Summary(
        version=str(status.get("version")),
        pid=int(status["pid"]),
        mount=str(status.get("mount")),
        has_lane=bool(status.get("lane")),
        up_seconds=_age(status.get("since"), now.wall_seconds),
        rss_bytes=_number(status, "rss_bytes"),
        cpu_share=_rate(status, then, "cpu_seconds", seconds) if same else None,
        by_state=Counter(str(fact.get("state")) for fact in now.containers),
        reads=_number(status, "reads"),
        reads_per_second=_rate(status, then, "reads", seconds),
        slow_usec=_quantile(_buckets(status), _buckets(then)),
        fallbacks_per_second=_rate(status, then, "fallbacks", seconds),
    )


def _row(fact: Answer, then: Answer, seconds: float, wall_seconds: float) -> Row:
    pressure = fact.get("pressure_some_avg10_percent")
    pressure = pressure if isinstance(pressure, dict) else {}
    loads = fact.get("load_averages")
    used_usec = _rate(fact, then, "cpu_usage_usec", seconds)
    return Row(
        name=str(fact.get("id")),
        pid=int(fact["init_pid"]),
        pid_namespace=int(fact.get("pid_namespace") or 0),
        command=str(fact.get("command")),
        cgroup=None if fact.get("cgroup") is None else str(fact["cgroup"]),
        state=str(fact.get("state")),
        why=str(fact.get("why") or ""),
        up_seconds=_age(fact.get("since"), wall_seconds),
        cpus=_number(fact, "cpus"),
        cpu_quota=_number(fact, "cpu_quota"),
        cpu_used=None if used_usec is None else used_usec / 1e6,
        throttled_share=_throttled(fact, then),
        throttled_usec=_number(fact, "cpu_throttled_usec"),
        memory_total_bytes=_number(fact, "memory_total_bytes"),
        memory_available_bytes=_number(fact, "memory_available_bytes"),
        swap_total_bytes=_number(fact, "swap_total_bytes"),
        swap_free_bytes=_number(fact, "swap_free_bytes"),
        pressure_percent=tuple(_number(pressure, kind) for kind in PRESSURES),
        load_averages=tuple(float(load) for load in loads) if isinstance(loads, list) else None,
        reads=_number(fact, "reads"),
        reads_per_second=_rate(fact, then, "reads", seconds),
    )


def _key(fact: Answer) -> tuple[object, object]:
    return fact.get("pid_namespace"), fact.get("init_pid")


def _number(fact: Mapping[str, Any], key: str) -> float | None:
    value = fact.get(key)
    return value if isinstance(value, int | float) else None


def _delta(fact: Answer, then: Answer, key: str) -> float | None:
    now, before = _number(fact, key), _number(then, key)
    return None if now is None or before is None or now < before else now - before


def _rate(fact: Answer, then: Answer, key: str, seconds: float) -> float | None:
    delta = _delta(fact, then, key)
    return None if delta is None or seconds <= 0 else delta / seconds


def _throttled(fact: Answer, then: Answer) -> float | None:
    if _number(fact, "cpu_quota") is None:
        return None
    throttled, periods = _delta(fact, then, "cpu_throttled_periods"), _delta(fact, then, "cpu_periods")
    if throttled is None or periods is None:
        return None
    return min(throttled / periods, 1.0) if periods else 0.0


def _part(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else part / whole


def _less(whole: float | None, part: float | None) -> float | None:
    return None if whole is None or part is None else max(0.0, whole - part)


def _age(since: object, wall_seconds: float) -> float | None:
    try:
        return max(0.0, wall_seconds - datetime.fromisoformat(str(since)).timestamp())
    except ValueError:
        return None


def _buckets(status: Answer) -> dict[float, int]:
    """How many texts took up to each bound, in microseconds, but longer than the one before."""
    found = {}
    for bucket in status.get("renders") or []:
        bound = bucket["up_to_usec"]
        found[float("inf") if bound is None else float(bound)] = int(bucket["count"])
    return found


def _quantile(now: Mapping[float, int], before: Mapping[float, int]) -> float | None:
    bounds: Sequence[float] = sorted(now)
    counts = [now[bound] - before.get(bound, 0) for bound in bounds]
    if not before or min(counts, default=0) < 0 or not sum(counts):
        return None
    rest = sum(counts) * QUANTILE
    for bound, count in zip(bounds, counts, strict=True):
        rest -= count
        if rest <= 0:
            return bound
    return bounds[-1]
