"""Real engines, each stage of the hook that is for us, plain and with mapped users."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

import pytest

from procview.mounts import mount_table, parse_mountinfo
from procview.slots.skeleton import Skeleton
from tests import session
from tests.containers.conftest import default_limits, usable
from tests.containers.engines import CRUN, LXC, RUNC, Container, Engine, Hook
from tests.containers.rootfs import Rootfs
from tests.daemon.process import Place, eventually
from tests.hook.prepared import host_table

Stage = Literal["prestart", "createRuntime", "createContainer"]
STAGES: list[Stage] = ["prestart", "createRuntime", "createContainer"]


@pytest.fixture(scope="module")
def rootfs() -> Iterator[Rootfs]:
    with session.temporary_directory() as directory:
        yield Rootfs.create(directory / "rootfs")


def summary(container: Container, skeleton: Skeleton) -> set[tuple[str, ...]]:
    """How its slots look; one way for all of them, if all is well. A slot that receives nothing is ``cut off``."""
    with open(f"/proc/{container.pid}/mountinfo", encoding="utf-8") as file:
        table = list(parse_mountinfo(file.read()))
    groups = {entry.shared for entry in mount_table() if entry.path.startswith(f"{skeleton.base}/ctl/")} - {0}
    return {
        tuple(
            "view" if entry.ours else "slot" if entry.master in groups else "cut off"
            for entry in table
            if entry.path == f"/{name}"
        )
        for name in skeleton.names()
    }


@pytest.mark.parametrize("mapped", [False, True], ids=["plain", "mapped"])
@pytest.mark.parametrize(
    ("engine", "stage"),
    [*((RUNC, stage) for stage in STAGES), *((CRUN, stage) for stage in STAGES[:2]), (LXC, STAGES[0])],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_a_container_has_its_views_while_a_daemon_runs(
    engine: Engine, stage: Stage, mapped: bool, place: Place, rootfs: Rootfs
) -> None:
    place.start().stop()
    skeleton = Skeleton(str(place.run_directory))
    hook = replace(Hook.create(place.directory, place.run_directory), stage=stage)
    before = host_table()
    with usable(engine).start(rootfs, default_limits(), views=hook, map_users=mapped) as container:
        assert hook.said() == ""
        eventually(lambda: summary(container, skeleton) == {("slot",)}, "slots that receive something")
        daemon = place.start()
        assert summary(container, skeleton) == {("slot", "view")}
        daemon.stop()
        assert summary(container, skeleton) == {("slot",)}
        assert container.read("/proc/partitions")
        assert [line for line in host_table() if line not in before] == []


def test_cruns_own_side_of_a_container_is_told_to_use_another_stage(place: Place, rootfs: Rootfs) -> None:
    place.start()
    hook = replace(Hook.create(place.directory, place.run_directory), stage="createContainer")
    with usable(CRUN).start(rootfs, default_limits(), views=hook) as container:
        assert summary(container, Skeleton(str(place.run_directory))) == {()}
    assert "use the stage prestart or createRuntime" in hook.said()
