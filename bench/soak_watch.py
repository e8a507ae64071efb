"""The daemon under endurance: what it weighs while it is read, and when it is calm.

Touches: its process, by SIGUSR1.
"""

import re
import signal
import time
from pathlib import Path

import psutil

from bench.servers import Server
from bench.soak_report import Counted, State

CALM_SECONDS = 3.0
"""Descriptors of callers that have ended go after two, once another caller has come."""
_PATIENCE_SECONDS = 60.0
_LOOK_SECONDS = 0.5


class NotCalmError(Exception):
    """The daemon does not become calm, or does not say so: with what it counts."""


class Watch:
    def __init__(self, server: Server, log: Path) -> None:
        self._process: psutil.Process = server.process
        self._server = server
        self._log = log
        self.forget_peak()

    def forget_peak(self) -> None:
        self._peak_bytes = 0
        self._peak_descriptors = 0

    def look(self) -> None:
        """While it is read."""
        self._peak_bytes = max(self._peak_bytes, self._server.resident_bytes())
        self._peak_descriptors = max(self._peak_descriptors, int(self._process.num_fds()))

    def _wait_for_calm(self) -> dict[str, int]:
        """Until no file is open any more and as many descriptors as for some time; what it counts then."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        descriptors, since = -1, 0.0
        while True:
            counters = self._counters()
            if counters["fs_open"] or counters["fds"] != descriptors:
                descriptors, since = counters["fds"], time.monotonic()
            elif time.monotonic() - since >= CALM_SECONDS:
                return counters
            if time.monotonic() > deadline:
                raise NotCalmError(f"the daemon does not become calm: {counters}")
            time.sleep(_LOOK_SECONDS)

    def when_calm(self, name: str, counted: Counted) -> State:
        self.look()
        counters = self._wait_for_calm()
        return State(
            name=name,
            counted=counted,
            resident_bytes=self._server.resident_bytes(),
            # Not as it counts them itself: it has another open meanwhile.
            descriptors=int(self._process.num_fds()),
            threads=int(self._process.num_threads()),
            peak_bytes=self._peak_bytes,
            peak_descriptors=self._peak_descriptors,
            counters=counters,
        )

    def _counters(self) -> dict[str, int]:
        """As it logs them on SIGUSR1."""
        before = self._log.stat().st_size
        self._process.send_signal(signal.SIGUSR1)
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not (line := re.search(rb"rss_bytes=.*\n", self._log_after(before))):
            if time.monotonic() > deadline:
                raise NotCalmError("the daemon does not tell what it counts")
            time.sleep(0.01)
        return {name: int(value) for name, value in re.findall(r"(\S+)=([0-9]+)(?= |\n)", line[0].decode())}

    def _log_after(self, position: int) -> bytes:
        with self._log.open("rb") as log:
            log.seek(position)
            return log.read()
