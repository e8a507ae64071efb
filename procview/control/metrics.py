"""The daemon's numbers for Prometheus, in its text format: names and units by its conventions, made when asked for.

prometheus_client is imported at the first scrape: it and what it needs are 3 MiB, and a daemon that nobody scrapes has
no use for them. Off the event loop, as `census` is.
"""

import os
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from procview._fast.engine import Engine
from procview.control.census import Census

if TYPE_CHECKING:
    from prometheus_client.core import Metric

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_NS = 1e9
STATES = ("attached", "degraded", "none")


class Counted(Protocol):
    """The rest of the daemon, as far as it counts."""

    def counters(self) -> Mapping[str, Mapping[str, int]]:
        """By part (``fs``, ``lane``, ``control``): what it counted since its start, and how much there is now."""

    def life(self) -> Mapping[str, float]:
        """``took_over``: 1 where it goes on with another daemon's connection. ``start_seconds``: since 1970.
        ``published_seconds``: since when containers have its views, 0 where they have not. And what procview.history
        counts.
        """


class Metrics:
    """One registry for one daemon. Thread-safe."""

    def __init__(self, engine: Engine, census: Census, counted: Counted, version: str) -> None:
        self._engine = engine
        self._census = census
        self._counted = counted
        self._version = version
        self._registry: Any = None
        self._lock = threading.Lock()

    def text(self) -> bytes:
        """All of them now."""
        import prometheus_client

        with self._lock:
            if self._registry is None:
                self._registry = prometheus_client.CollectorRegistry()
                prometheus_client.ProcessCollector(registry=self._registry)
                self._registry.register(self)
        return prometheus_client.generate_latest(self._registry)

    def describe(self) -> list["Metric"]:
        """None beforehand: a registry would collect all of them to learn their names."""
        return []

    def collect(self) -> Iterator["Metric"]:
        """For prometheus_client."""
        yield from self._of_reads()
        yield from self._of_containers()
        yield from self._of_the_daemon()

    def _of_reads(self) -> Iterator["Metric"]:
        from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

        renders = HistogramMetricFamily(
            "procview_render_duration_seconds",
            "Time to make the text of a view for a container; its count is the number of reads.",
            labels=["view"],
        )
        for view, (total_ns, buckets) in self._engine.latencies().items():
            count, cumulated = 0, []
            for bound_ns, number in buckets:
                count += number
                cumulated.append((f"{bound_ns / _NS:g}" if bound_ns else "+Inf", count))
            renders.add_metric([view], cumulated, total_ns / _NS)
        yield renders
        fallbacks = CounterMetricFamily(
            "procview_fallbacks", "Reads in which a container was given the host's file.", labels=["view", "reason"]
        )
        for (view, reason), number in sorted(self._engine.fallbacks().items()):
            fallbacks.add_metric([view, reason], number)
        yield fallbacks

    def _of_containers(self) -> Iterator["Metric"]:
        from prometheus_client.core import GaugeMetricFamily

        by_state = Counter(self._census.states())
        containers = GaugeMetricFamily(
            "procview_containers",
            "Running containers by what is mounted over their files: all views, not as it must be, nothing.",
            labels=["state"],
        )
        for state in STATES:
            containers.add_metric([state], by_state[state])
        yield containers

    def _of_the_daemon(self) -> Iterator["Metric"]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        engine, parts, life = self._engine.counters(), self._counted.counters(), self._counted.life()
        gauges = {
            "procview_known_containers": ("Containers and cgroups that readers were placed in.", engine["containers"]),
            "procview_known_cgroups": ("Cgroups that are looked at, parents included.", engine["cgroups"]),
            "procview_kept_descriptors": ("Files of cgroups and of callers that are kept open.", engine["descriptors"]),
            "procview_open_files": ("Files and folders of the file system that are open.", parts["fs"]["open"]),
            "procview_kept_text_bytes": ("Texts of files that are being read.", parts["fs"]["text_bytes"]),
            "procview_threads": ("Threads of the daemon.", _threads()),
            "procview_control_connections": ("Open connections to the control socket.", parts["control"]["open"]),
            "procview_took_over": ("1: goes on with another daemon's connection.", life["took_over"]),
            "procview_published_seconds": (
                "For how long containers have had this daemon's views; 0: they have not.",
                time.time() - life["published_seconds"] if life["published_seconds"] else 0,
            ),
        }
        for name, (help_text, value) in gauges.items():
            yield GaugeMetricFamily(name, help_text, value=value)
        totals = {
            "procview_unchanged_callers": (
                "Opens for which nothing was read to find the container: the kernel says that nothing has changed.",
                engine["unchanged_callers"],
            ),
            "procview_starts": (
                "Daemons that gave containers views, since the run directory was made.",
                life["starts"],
            ),
            "procview_takeovers": ("Those that went on with the readers of the one before.", life["takeovers"]),
            "procview_withdrawals": (
                "Times when containers had the host's files, and have views again.",
                life["withdrawals"],
            ),
            "procview_withdrawn_seconds": ("How long that was, together.", life["withdrawn_ns"] / _NS),
        }
        for name, (help_text, total) in totals.items():
            yield CounterMetricFamily(name, help_text, value=total)
        info = GaugeMetricFamily("procview_build_info", "The version that runs.", labels=["version"])
        info.add_metric([self._version], 1)
        yield info
        events = CounterMetricFamily(
            "procview_events",
            "What the daemon's parts count; docs/operations.md explains each.",
            labels=["part", "event"],
        )
        now = {"fs": {"open", "text_bytes", "blocking", "nodes"}, "lane": {"pending"}, "control": {"open"}}
        for part, counts in parts.items():
            for event, number in sorted(counts.items()):
                if event not in now.get(part, ()):
                    events.add_metric([part, event], number)
        yield events


def _threads() -> int:
    return len(os.listdir("/proc/self/task"))
