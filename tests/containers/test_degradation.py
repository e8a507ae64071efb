"""The daemon ends, in every way, while programs in containers read: the host's values, and then their own again.

In each container a process reads all the time and notes what it got and how long that took (watcher.py). Containers
of all engines run at once, under one daemon after the other, so that each event happens to all of them.
"""

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests import session
from tests.containers import slots, watcher
from tests.containers.cgroups import Limits
from tests.containers.conftest import MEMORY_BYTES, default_limits, host_cpus, usable
from tests.containers.engines import (
    CRUN,
    DOCKER,
    LXC,
    NSPAWN,
    PODMAN,
    PODMAN_ROOTLESS,
    RUNC,
    UNSHARE,
    Container,
    Engine,
    Hook,
)
from tests.containers.rootfs import PYTHON, Rootfs
from tests.containers.served import Daemon, serving
from tests.timing import FACTOR, lateness, patient

SECONDS = patient(1)
"""What we promise: after this long, everybody has the host's values."""
MANY = 100
MEMINFO = "/proc/meminfo"
CPUS_ONLINE = "/sys/devices/system/cpu/online"

_SETTLE_SECONDS = patient(1)
_PAUSE_SECONDS = 0.005 if FACTOR == 1 else 0.2
"""Between two reads of a reader. Where a read takes ten times as long, readers that come ten times as seldom still take
all of a machine's time, and nobody else gets on. A hang is noticed by what they ask."""
_ABORTED = frozenset({"ECONNABORTED", "ENOTCONN"})
"""What a reader may get for a moment when the daemon was not asked to end."""
_SOURCE = Path(watcher.__file__).read_text(encoding="utf-8")


@dataclass(frozen=True)
class Event:
    """One end of the daemon, and the start of the next: moments of CLOCK_MONOTONIC."""

    name: str
    errors: frozenset[str]
    """What readers may get in between."""
    ended: float
    """Right before it was ended."""
    back: float
    """When the next one said that it serves."""
    late: float
    """What of the time in between somebody waited for a processor: to be given back to a bound of real time."""


@dataclass(frozen=True)
class End:
    """One way for a daemon to end."""

    name: str
    by: Callable[[Daemon], None]
    errors: frozenset[str] = frozenset()

    def happen(self, daemon: Daemon, containers: Sequence[Container]) -> Event:
        """End it, wait until that is over for everybody, look around, and start the next."""
        late = lateness()
        ended = time.monotonic()
        self.by(daemon)
        try:
            while True:
                looked, bound = time.monotonic(), ended + SECONDS + late()
                left = [(container.name, entry) for container in containers for entry in slots.views_in(container)]
                if not left:
                    break
                # A look takes its time; one that has begun after the bound has to find none.
                assert looked < bound, left
                time.sleep(0.05)
            slots.wait_for_nobody_stuck(containers)
            time.sleep(_SETTLE_SECONDS)  # in which everybody reads the host's values
        finally:
            daemon.start_again()
        back = time.monotonic()
        time.sleep(_SETTLE_SECONDS)
        assert not slots.leaked(daemon)
        return Event(self.name, self.errors, ended, back, late())


_ENDS = (
    End("stopped", Daemon.terminate),  # as by a service manager: nobody notices more than other numbers
    End("killed", Daemon.kill, _ABORTED),
    End("hanging", Daemon.hang, _ABORTED),
)


@dataclass(frozen=True)
class Stretch:
    """Reads of one file in a row with the same outcome (watcher.py)."""

    outcome: str
    first: float
    last: float
    count: int
    longest: float


@dataclass
class Worst:
    """The longest times of all, over containers and files."""

    until_host: float = 0.0
    errors: float = 0.0
    stall: float = 0.0
    until_back: float = 0.0
    error_names: set[str] = field(default_factory=set)

    def __str__(self) -> str:
        return (
            f"host's values after {self.until_host * 1000:.0f} ms, errors until {self.errors * 1000:.0f} ms "
            f"{sorted(self.error_names)}, longest read {self.stall * 1000:.0f} ms, "
            f"own values {self.until_back * 1000:.0f} ms after the daemon was back"
        )


def _task(limits: Limits, stop: str, output: str | None, pause: float) -> str:
    """The argument of watcher.py."""

    def known(container: str, host: str) -> Mapping[str, str]:
        return {"container": container, "host": host}

    def total(kb: int) -> str:
        return f"MemTotal:       {kb:8} kB\n"

    files = {MEMINFO: known(total(slots.limit_kb(limits)), total(slots.host_memory_kb()))}
    if limits.cpuset is not None and len(host_cpus()) > 1:
        files[CPUS_ONLINE] = known("0\n", Path(CPUS_ONLINE).read_text(encoding="ascii"))
    return json.dumps({"files": files, "stop": stop, "output": output, "pause": pause})


def _check(who: str, report: str, events: Sequence[Event], worst: Worst) -> None:
    """What one container read during ``events`` is what we promise; ``worst`` takes the times."""
    for path, rows in json.loads(report).items():
        stretches = [Stretch(*row) for row in rows]
        told = f"{who} {path}: {stretches}\n{events}"
        calm = [stretch for stretch in stretches if stretch.outcome in {"container", "host"}]
        assert [stretch.outcome for stretch in _joined(calm)] == ["container"] + ["host", "container"] * len(events), (
            told
        )
        hosts, backs = (_joined(calm)[index::2] for index in (1, 2))
        for event, host, back in zip(events, hosts, backs, strict=True):
            assert event.ended <= host.first <= event.ended + SECONDS + event.late, told
            assert host.last <= event.back, told
            assert back.first <= event.back + SECONDS + event.late, told
            errors = [one for one in stretches if event.ended - SECONDS < one.first < event.back and one not in calm]
            assert {stretch.outcome for stretch in errors} <= event.errors, told
            worst.error_names |= {stretch.outcome for stretch in errors}
            if errors:
                seconds = max(stretch.last + stretch.longest for stretch in errors) - event.ended
                assert seconds <= SECONDS + event.late, told
                worst.errors = max(worst.errors, seconds)
            worst.until_host = max(worst.until_host, host.first - event.ended)
            worst.until_back = max(worst.until_back, back.first - event.back)
        worst.stall = max(worst.stall, *(stretch.longest for stretch in stretches))
        assert worst.stall <= SECONDS + max(event.late for event in events), told


def _joined(stretches: Sequence[Stretch]) -> list[Stretch]:
    """Without the errors in between, neighbours may have the same outcome."""
    joined: list[Stretch] = []
    for one in stretches:
        if joined and joined[-1].outcome == one.outcome:
            before = joined.pop()
            one = Stretch(
                one.outcome, before.first, one.last, before.count + one.count, max(before.longest, one.longest)
            )
        joined.append(one)
    return joined


# --- all engines -----------------------------------------------------------------------------------------------------

# Each has something of its own: runc leaves slaves alone, crun makes everything private after its hooks, LXC shares
# it, podman and Docker have mount namespaces of their own around it; with and without a user namespace.
_FLEET: tuple[tuple[Engine, bool, bool], ...] = (
    (RUNC, False, True),
    (RUNC, True, False),
    (CRUN, False, True),
    (CRUN, True, True),
    (LXC, False, True),
    (NSPAWN, False, False),
    (PODMAN, False, True),
    (PODMAN_ROOTLESS, False, True),
    (DOCKER, True, True),
    (UNSHARE, False, False),
)
"""Engine, whether with a user namespace, whether by the hook; the others are attached."""


@pytest.fixture(scope="module")
def daemon(_privileges: None) -> Iterator[Daemon]:
    """One with the settings that it has by itself."""
    with serving() as daemon:
        yield daemon


@pytest.fixture(scope="module")
def fleet(rootfs: Rootfs, daemon: Daemon, hook: Hook) -> Iterator[list[Container]]:
    with ExitStack() as undo:
        containers = []
        for engine, mapped, hooked in _FLEET:
            container = usable(engine).start(rootfs, default_limits(), views=hook if hooked else None, map_users=mapped)
            undo.callback(container.stop)
            if not hooked:
                daemon.attach(container.pid)
            containers.append(container)
        yield containers


@pytest.mark.slow
def test_every_container_reads_the_hosts_values_within_a_second_and_its_own_again(
    fleet: list[Container], daemon: Daemon
) -> None:
    stop = f"/tmp/{session.new_name()}"  # with unshare it is the host's /tmp
    argv = [PYTHON, "-I", "-S", "-c", _SOURCE, _task(default_limits(), stop, None, pause=_PAUSE_SECONDS)]
    with ExitStack() as undo:
        undo.callback(Path(stop).unlink, missing_ok=True)
        readers = []
        for container in fleet:
            reader = container.popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
            undo.enter_context(reader)
            undo.callback(reader.kill)
            readers.append(reader)
        for reader in readers:
            assert reader.stdout is not None
            assert reader.stdout.readline() == "ready\n"
        time.sleep(_SETTLE_SECONDS)
        events = [end.happen(daemon, fleet) for end in _ENDS]
        for container in fleet:
            container.output(["touch", stop])
        reports = [reader.communicate(timeout=patient(10))[0] for reader in readers]
    worst = Worst()
    for (engine, mapped, hooked), report in zip(_FLEET, reports, strict=True):
        _check(f"{engine.name}, {mapped=}, {hooked=}", report, events, worst)
    print(worst)


# --- many ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_hundred_containers_degrade_and_recover_together(rootfs: Rootfs, daemon: Daemon, hook: Hook) -> None:
    limits = Limits(memory_bytes=MEMORY_BYTES // 4)
    containers = []
    with session.temporary_directory() as directory, ExitStack() as undo:
        stop = directory / "stop"
        outputs = [directory / f"{number}.json" for number in range(MANY)]
        for output in outputs:
            argv = [PYTHON, "-I", "-S", "-c", _SOURCE, _task(limits, str(stop), str(output), pause=0.05)]
            container = usable(UNSHARE).start(rootfs, limits, views=None, init=argv)
            undo.callback(container.stop)
            containers.append(container)
        pids = [str(container.pid) for container in containers]
        subprocess.run(
            [hook.program, *hook.options, "--attach", *pids], check=True, stdout=subprocess.DEVNULL, timeout=patient(60)
        )
        attached = time.monotonic()
        time.sleep(_SETTLE_SECONDS)
        events = [end.happen(daemon, containers) for end in _ENDS]
        stop.touch()
        deadline = time.monotonic() + patient(10)
        while missing := [output for output in outputs if not output.exists()]:
            assert time.monotonic() < deadline, f"{len(missing)} readers do not end"
            time.sleep(0.05)
        worst = Worst()
        for output in outputs:
            _check(output.name, _since(attached, output.read_text(encoding="ascii")), events, worst)
    print(f"{MANY} containers: {worst}")


def _since(moment: float, report: str) -> str:
    """Without what was read before: of the host, while the container was not attached yet."""
    return json.dumps({path: [row for row in rows if row[2] > moment] for path, rows in json.loads(report).items()})


# --- views as mounts of the configuration ----------------------------------------------------------------------------


@pytest.mark.parametrize("mapped", [False, True])
def test_a_container_with_mounted_views_has_errors_until_it_is_attached(
    rootfs: Rootfs, daemon: Daemon, mapped: bool
) -> None:
    """No slot is below such a view, so nothing can be taken away: docs/operations.md says to attach."""
    with usable(RUNC).start(rootfs, default_limits(), views=daemon.mount, map_users=mapped) as container:
        assert slots.memory_kb(container.read(MEMINFO)) == slots.limit_kb(default_limits())
        daemon.kill()
        _assert_error(container)
        daemon.start_again()
        _assert_error(container)
        daemon.attach(container.pid)
        assert slots.memory_kb(container.read(MEMINFO)) == slots.limit_kb(default_limits())
        slots.assert_views(container, daemon)
        daemon.kill()
        slots.assert_hosts_within(SECONDS, container)
        daemon.start_again()
        assert slots.memory_kb(container.read(MEMINFO)) == slots.limit_kb(default_limits())


def _assert_error(container: Container) -> None:
    shown = container.run(["cat", MEMINFO])
    assert shown.returncode != 0
    assert os.strerror(107) in shown.stderr  # ENOTCONN
