"""What the daemon tells of itself: to its service manager, in its log, over the control socket."""

import os
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import psutil

import procview
from procview._fast.engine import Engine
from procview.fs.mount import Mount
from procview.fs.operations import ViewOperations
from procview.history import History


class Vitals:
    """Of one daemon that serves ``mount``."""

    def __init__(
        self, engine: Engine, operations: ViewOperations, mount: Mount, history: History, *, took_over: bool
    ) -> None:
        self._engine = engine
        self._operations = operations
        self._mount = mount
        self._history = history
        self._took_over = took_over
        self._start_seconds = psutil.Process().create_time()
        self.published_seconds = 0.0
        """Since when containers have the views, in seconds since 1970; 0: they have not."""
        self.more: Callable[[], Mapping[str, int]] = dict
        """What the control socket counts."""

    def published(self) -> None:
        """From now on containers have the views."""
        self.published_seconds = time.time()

    def counters(self) -> Mapping[str, Mapping[str, int]]:
        """See procview.control.metrics.Counted."""
        control = {"open": 0, **self.more()}
        return {"fs": self._operations.counters(), "lane": self._mount.counters(), "control": control}

    def life(self) -> Mapping[str, float]:
        """See procview.control.metrics.Counted."""
        return {
            "took_over": float(self._took_over),
            "published_seconds": self.published_seconds,
            **self._history.read(),
        }

    def line(self, path: str) -> str:
        """For ``systemctl status``."""
        counters = self._engine.counters()
        rss_mib = psutil.Process().memory_info().rss / (1 << 20)
        return (
            f"serving {path}: {counters.get('containers', 0)} containers, "
            f"{counters.get('reads', 0)} reads, {rss_mib:.0f} MiB"
        )

    def described(self) -> str:
        """All counters and what the process itself uses, in one line of ``name=value``."""
        numbers: dict[str, object] = dict(_own())
        numbers |= {f"engine_{name}": value for name, value in sorted(self._engine.counters().items())}
        for part, counts in self.counters().items():
            numbers |= {f"{part}_{name}": value for name, value in sorted(counts.items())}
        numbers["absent_controllers"] = ",".join(self._engine.absent_controllers()) or "none"
        return " ".join(f"{name}={value}" for name, value in numbers.items())

    def status(self, path: str, run_directory: str) -> Mapping[str, Any]:
        """For the control socket; docs/operations.md lists the keys."""
        counters = self._engine.counters()
        return {
            "version": procview.__version__,
            "pid": os.getpid(),
            "since": _instant(self._start_seconds),
            "mount": path,
            "run_directory": run_directory,
            "lane": self._mount.has_lane,
            "took_over": self._took_over,
            "published_since": _instant(self.published_seconds) if self.published_seconds else None,
            "reads": counters["reads"],
            "renders": self._renders(),
            "fallbacks": sum(self._engine.fallbacks().values()),
            "known_containers": counters["containers"],
            "absent_controllers": self._engine.absent_controllers(),
            **_own(),
        }

    def _renders(self) -> list[dict[str, float | None]]:
        """How many texts, of all views, took up to each bound but longer than the one before; null: the rest."""
        by_bound: dict[int, int] = {}
        for _, buckets in self._engine.latencies().values():
            for bound_ns, count in buckets:
                by_bound[bound_ns] = by_bound.get(bound_ns, 0) + count
        return [{"up_to_usec": bound / 1000 if bound else None, "count": count} for bound, count in by_bound.items()]


def _own() -> dict[str, float]:
    process = psutil.Process()
    with process.oneshot():
        return {
            "rss_bytes": process.memory_info().rss,
            "fds": process.num_fds(),
            "threads": process.num_threads(),
            "cpu_seconds": round(sum(process.cpu_times()[:2]), 2),
        }


def _instant(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
