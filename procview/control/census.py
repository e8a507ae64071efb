"""All containers and their numbers, as the control socket tells them: looked for in /proc, asked of the engine.

To be called off the event loop: it walks /proc and reads mount tables. Several who ask within `FRESH_SECONDS` are told
what was found for the first. Names are as hostile as containers are.
"""

import os
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from procview._fast.engine import Engine
from procview.notes import start_ticks_of
from procview.printable import printable
from procview.slots import compat
from procview.slots.containers import (
    Container,
    Slot,
    State,
    by_state,
    mounts_of,
    running,
    slots,
    trusted_name,
)
from procview.slots.skeleton import Skeleton

if TYPE_CHECKING:
    from procview._fast.engine import Known  # a shape, of the stub alone

FRESH_SECONDS = 1.0
"""How old what is found of all containers may be, for one who asks for all; and what has to be, before it is looked for
again because somebody is not among them: see `NEW_SECONDS`."""
NEW_SECONDS = 0.05

Fact = dict[str, Any]
"""One container as JSON; docs/operations.md lists the keys."""


class _Current(NamedTuple):
    """The host's slots at one moment."""

    slots: Mapping[str, Slot | None]
    optional: frozenset[str]
    """Those that a container need not have."""


class NotFoundError(Exception):
    """There is no such container, or it has ended; the text says which."""


class Census:
    """Looks at containers for a daemon whose slots are ``skeleton`` (None: it has none). Thread-safe."""

    def __init__(self, engine: Engine, skeleton: Skeleton | None, proc: str) -> None:
        self._engine = engine
        self._skeleton = skeleton
        self._proc = proc
        self._lock = threading.Lock()
        self._found: list[Container] = []
        self._found_at = float("-inf")
        self._facts: dict[bool, tuple[float, list[Fact]]] = {}

    def containers(self, fresh_seconds: float = FRESH_SECONDS) -> list[Container]:
        """All that run."""
        with self._lock:
            if time.monotonic() - self._found_at > fresh_seconds:
                self._found = running(self._proc)
                self._found_at = time.monotonic()
            return self._found

    def find(self, reference: str) -> Container:
        """The one with this id, or the one whose init has this pid. Raises NotFoundError."""
        found = self._called(reference, self.containers()) or self._called(reference, self.containers(NEW_SECONDS))
        if len(found) > 1:
            pids = ", ".join(str(container.pid) for container in found)
            raise NotFoundError(
                f"{len(found)} containers are called {reference!r}: name one by its init's pid ({pids})"
            )
        if not found:
            raise NotFoundError(f"no container is called {reference!r}, and none has an init with that pid")
        return found[0]

    @staticmethod
    def _called(reference: str, among: list[Container]) -> list[Container]:
        return [container for container in among if container.name == reference] or [
            container for container in among if str(container.pid) == reference
        ]

    def of_namespace(self, pid_namespace: int) -> Container:
        """The one of a process in this pid namespace. Raises NotFoundError."""
        for fresh_seconds in (FRESH_SECONDS, NEW_SECONDS):
            for container in self.containers(fresh_seconds):
                if container.pid_namespace == pid_namespace:
                    return container
        raise NotFoundError("that process is in no container")

    def trusted_name(self, pid_namespace: int) -> str | None:
        """What the host's engine calls the container of this pid namespace, if that is certain."""
        try:
            pid = self.of_namespace(pid_namespace).pid
            with open(f"{self._proc}/{pid}/cgroup", encoding="utf-8", errors="surrogateescape", newline="\n") as file:
                return trusted_name(file.read().split("\n"))
        except (NotFoundError, OSError):
            return None

    def facts(self, *, with_load: bool = False) -> tuple[float, list[Fact]]:
        """When they were found, in seconds of CLOCK_MONOTONIC, and all of them, by their inits' pids.

        Those that end meanwhile are left out.
        """
        when, facts = self._facts.get(with_load, (float("-inf"), []))
        if time.monotonic() - when > FRESH_SECONDS:
            facts = self._look(with_load)
            when = time.monotonic()
            self._facts[with_load] = when, facts
        return when, facts

    def _look(self, with_load: bool) -> list[Fact]:
        known = self._known()
        current = self._slots()
        found = []
        for container in self.containers():
            try:
                found.append(self._fact(container, known.get(container.pid_namespace), current, with_load))
            except (ProcessLookupError, NotFoundError):
                continue
        return found

    def states(self) -> list[str]:
        """``attached``, ``degraded`` or ``none`` of all of them."""
        current = self._slots()
        found = []
        for container in self.containers():
            try:
                found.append(self._state(container, current)[0])
            except ProcessLookupError:
                continue
        return found

    def fact(self, container: Container, *, with_load: bool = False) -> Fact:
        """One of them. Raises NotFoundError."""
        try:
            known = self._known().get(container.pid_namespace)
            return self._fact(container, known, self._slots(), with_load)
        except ProcessLookupError as error:
            raise NotFoundError(str(error)) from None

    def _known(self) -> "dict[int, Known]":
        return {known["pid_namespace"]: known for known in self._engine.containers() if not known["is_own_scope"]}

    def _slots(self) -> _Current:
        if self._skeleton is None:
            return _Current({}, frozenset())
        return _Current(slots(self._skeleton), compat.left_out(self._skeleton))

    def _fact(self, container: Container, known: "Known | None", current: _Current, with_load: bool) -> Fact:
        state, why = self._state(container, current)
        numbers = self._engine.numbers(container.pid)
        if numbers is None:
            raise NotFoundError(f"{container.label} has ended")
        memory = self._lines(container.pid, "proc/meminfo")
        load = self._engine.text(container.pid, "proc/loadavg") if with_load else None
        return {
            "id": printable(container.name),
            "init_pid": container.pid,
            "pid_namespace": container.pid_namespace,
            "command": printable(container.command),
            "cgroup": None if known is None else printable(known["cgroup"]),
            "since": self._since(container.pid, known),
            "state": state,
            "why": why,
            "reads": 0 if known is None else known["reads"],
            "cpus": len(self._engine.cpus(container.pid)),
            "cpu_quota": numbers["cpu_quota"],
            "cpu_usage_usec": numbers["cpu_usage_usec"],
            "cpu_periods": numbers["cpu_periods"],
            "cpu_throttled_periods": numbers["cpu_throttled_periods"],
            "cpu_throttled_usec": numbers["cpu_throttled_usec"],
            "memory_total_bytes": memory.get("MemTotal"),
            "memory_available_bytes": memory.get("MemAvailable"),
            "swap_total_bytes": memory.get("SwapTotal"),
            "swap_free_bytes": memory.get("SwapFree"),
            "pressure_some_avg10_percent": {
                kind: self._pressure(container.pid, kind) for kind in ("cpu", "memory", "io")
            },
            "load_averages": None if load is None else [float(word) for word in load.split()[:3]],
        }

    def _state(self, container: Container, current: _Current) -> tuple[str, str]:
        """attached, degraded or none; and why."""
        if self._skeleton is None:
            return "none", "this daemon makes no slots (setting slots)"
        if container.shares_host_mounts:
            return "none", "it shares the host's mounts: its /proc is the host's own"
        names = by_state(mounts_of(container, self._proc), current.slots, current.optional)
        attached = names.pop(State.ATTACHED, [])
        if not names:
            return "attached" if attached else "none", ""
        why = "; ".join(f"{_WHY[state]}: {', '.join(of_it)}" for state, of_it in names.items())
        return ("degraded", why) if attached or names.keys() != {State.MISSING} else ("none", why)

    def _since(self, pid: int, known: "Known | None") -> str | None:
        """When its init started, by the wall's clock as it is now."""
        ticks = known["init_start_ticks"] if known is not None else start_ticks_of(self._proc, pid)
        if ticks is None:
            return None
        seconds = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + ticks / os.sysconf("SC_CLK_TCK")
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")

    def _lines(self, pid: int, path: str) -> dict[str, int]:
        """Lines of a file like meminfo, in bytes."""
        text = self._engine.text(pid, path)
        found = {}
        for line in (text or b"").decode("ascii", "replace").splitlines():
            name, _, rest = line.partition(":")
            words = rest.split()
            if len(words) == 2 and words[1] == "kB" and words[0].isdecimal():
                found[name] = int(words[0]) << 10
        return found

    def _pressure(self, pid: int, kind: str) -> float | None:
        """The share of the last 10 s in which something of it waited; None where the kernel does not say."""
        text = self._engine.text(pid, f"proc/pressure/{kind}")
        if text is None:
            return None
        return float(text.partition(b"avg10=")[2].partition(b" ")[0])


_WHY = {
    State.HOST: "the host's files, as no view is over the slots",
    State.STALE: "mounts of another daemon, which may fail",
    State.BOUND: "views without slots, which fail when the daemon goes",
    State.MISSING: "nothing of procview",
    State.FOREIGN: "mounts of somebody else",
}
