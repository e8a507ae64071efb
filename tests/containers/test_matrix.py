"""Every engine, plain and with a user namespace, and every way that views get into a container: the same numbers.

The whole product of six engines is here, because each way ends differently in each of them: whose mount namespace the
hook runs in, which propagation the root has, who may mount what. Of podman over crun there is the hook only:
mounts and attach do not meet the runtime; of systemd-nspawn, which knows no hooks and no mounts over /proc, attach
only. It takes a second or two each, a minute and a half in all.
"""

import re
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from tests.containers import slots
from tests.containers.conftest import MEMORY_BYTES, default_limits, usable
from tests.containers.engines import (
    CRUN,
    DOCKER,
    LXC,
    NSPAWN,
    PODMAN,
    PODMAN_CRUN,
    PODMAN_ROOTLESS,
    PODMAN_ROOTLESS_CRUN,
    RUNC,
    Container,
    Engine,
    Hook,
    Views,
)
from tests.containers.engines.base import Stage
from tests.containers.rootfs import Rootfs
from tests.containers.served import Daemon
from tests.timing import patient

Way = Literal["hook", "mounts", "attach"]
_ENGINES = (RUNC, CRUN, LXC, PODMAN, PODMAN_ROOTLESS, DOCKER)
_CASES: list[tuple[Engine, bool, Way]] = [
    *((engine, mapped, way) for engine in _ENGINES for mapped in (False, True) for way in ("hook", "mounts", "attach")),
    *((engine, mapped, "hook") for engine in (PODMAN_CRUN, PODMAN_ROOTLESS_CRUN) for mapped in (False, True)),
    *((NSPAWN, mapped, "attach") for mapped in (False, True)),
]
_TOTAL_KB = MEMORY_BYTES // 1024


def _name(case: tuple[Engine, bool, Way]) -> str:
    engine, mapped, way = case
    return f"{engine.name}-{'mapped' if mapped else 'plain'}-{way}"


@pytest.mark.parametrize("case", _CASES, ids=_name)
def test_programs_show_the_container(
    case: tuple[Engine, bool, Way], rootfs: Rootfs, daemon: Daemon, hook: Hook
) -> None:
    engine, mapped, way = case
    views: dict[Way, Views] = {"hook": hook, "mounts": daemon.mount, "attach": None}
    limits = default_limits()
    with usable(engine).start(rootfs, limits, views=views[way], map_users=mapped) as container:
        if mapped:
            assert len(container.read("/proc/self/uid_map").splitlines()) == 1
        if way == "attach":
            assert slots.memory_kb(container.read("/proc/meminfo")) == slots.host_memory_kb()
            daemon.attach(container.pid)
            daemon.attach(container.pid)  # changes nothing, and above all stacks nothing
        _assert_own_numbers(container)
        assert not slots.leaked(daemon)
        if way == "hook":
            assert not hook.said()
        if way != "mounts":
            slots.assert_views(container, daemon)
        if way == "attach":
            daemon.detach(container.pid)
            assert not slots.of_procview(container, daemon)
            assert slots.memory_kb(container.read("/proc/meminfo")) == slots.host_memory_kb()
            assert container.read("/proc/partitions") == Path("/proc/partitions").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("engine", "stage"),
    [
        (RUNC, "createRuntime"),
        (RUNC, "createContainer"),
        (CRUN, "createRuntime"),  # before createContainer it makes everything private, so nothing can be received there
        (PODMAN, "createRuntime"),
        (PODMAN_ROOTLESS, "createRuntime"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_the_hook_works_in_later_stages_as_well(
    engine: Engine, stage: Stage, rootfs: Rootfs, daemon: Daemon, hook: Hook
) -> None:
    with usable(engine).start(rootfs, default_limits(), views=replace(hook, stage=stage)) as container:
        slots.assert_views(container, daemon)
        assert slots.memory_kb(container.read("/proc/meminfo")) == _TOTAL_KB
        assert not hook.said()


def _assert_own_numbers(container: Container) -> None:
    header, row, *_ = container.output(["free", "-k"]).splitlines()
    assert dict(zip(header.split(), row.split()[1:], strict=True))["total"] == str(_TOTAL_KB)
    memory = next(line for line in container.output(["top", "-b", "-n", "1"]).splitlines() if "Mem :" in line)
    assert memory.split(":")[1].split()[0] == f"{MEMORY_BYTES / (1 << 20):.1f}"
    minutes = re.search(r" up +(\d+) min,", container.output(["uptime"]))
    assert minutes
    assert int(minutes[1]) < patient(1)
    assert container.output(["nproc", "--all"]) == "1\n"
    _, _, *disks = container.read("/proc/partitions").splitlines()
    # The root of a Docker container is in memory here, so on no disk.
    assert [line.split()[3] for line in disks] in ([], ["sda"])
    # A process without privileges, whom the mapping of users must not lock out.
    assert slots.memory_kb(container.read("/proc/meminfo", user=1000)) == _TOTAL_KB
    assert container.read("/sys/devices/system/cpu/online", user=1000) == "0\n"
