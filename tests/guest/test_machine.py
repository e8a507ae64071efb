"""A guest is the machine that was asked for; and it is told how it ended. The tests inside build on that."""

import json
import os
import re
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

from tests import session
from tests.guest import job
from tests.guest.boot import End, boot
from tests.guest.kernels import NoSuchKernelError, kernel, series_are_promised
from tests.guest.machine import STORAGE_MIB, Machine

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("possible"), pytest.mark.timeout(0)]

_SECONDS = 300.0


@dataclass(frozen=True)
class Facts:
    """What a guest finds out about itself."""

    release: str
    layout: str
    cpus: int
    memory_mib: int
    swap_mib: int
    disks_mib: list[int]
    nodes: int
    init: str
    storage: str
    """The kind of file system of /var/tmp."""


def find_out() -> Facts:
    from tests.containers.cgroups import layout

    meminfo = dict(line.split(":") for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines())
    sizes = [int((disk / "size").read_text(encoding="ascii")) >> 11 for disk in Path("/sys/block").glob("vd*")]
    return Facts(
        os.uname().release,
        layout(),
        len(os.sched_getaffinity(0)),
        int(meminfo["MemTotal"].split()[0]) >> 10,
        -(-int(meminfo["SwapTotal"].split()[0]) >> 10),
        sorted(sizes),
        len(list(Path("/sys/devices/system/node").glob("node[0-9]*"))),
        Path("/proc/1/comm").read_text(encoding="ascii").strip(),
        next(mount.kind for mount in session.mounts() if mount.point == Path("/var/tmp")),
    )


_FIND_OUT = f"""
import json
from dataclasses import asdict
from pathlib import Path
from tests.guest.test_machine import find_out
Path("{job.INSIDE}/facts").write_text(json.dumps(asdict(find_out())))
"""


def _boot(machine: Machine, command: list[str], shared: Path, seconds: float = _SECONDS) -> End:
    """A guest that died by itself is booted again, once, as those of test_ladder.py are."""
    try:
        kernel(machine.kernel)
    except NoSuchKernelError as error:
        if series_are_promised():
            raise
        pytest.skip(str(error))
    end = boot(machine, command, shared, seconds=seconds)
    return boot(machine, command, shared, seconds=seconds) if end.died and "int3" in end.console else end


@pytest.mark.parametrize(
    "machine",
    [
        Machine("6.12", "v2", cpus=4, memory_mib=1024, swap_mib=64, disks_mib=(32, 48), numa_nodes=2),
        Machine("6.12", "v2", systemd=True),
        Machine("6.12", "hybrid", cpus=1),
        Machine("6.1", "v1"),
    ],
    ids=lambda machine: f"{machine.kernel}-{machine.layout}{'-systemd' if machine.systemd else ''}",
)
def test_a_guest_has_what_was_asked_for(machine: Machine) -> None:
    with session.temporary_directory() as shared:
        end = _boot(machine, [sys.executable, "-c", _FIND_OUT], shared)
        assert end.status == 0, end.why()
        found = Facts(**json.loads((shared / "facts").read_text(encoding="ascii")))
    assert found.release.startswith(f"{machine.kernel}.")
    assert 0 <= machine.memory_mib - found.memory_mib < 160, "less what the kernel takes for itself"
    assert asdict(found) | {"release": "", "memory_mib": 0} == asdict(
        Facts(
            "",
            machine.layout,
            machine.cpus,
            0,
            machine.swap_mib,
            sorted(size for size in (STORAGE_MIB, machine.swap_mib, *machine.disks_mib) if size),
            machine.numa_nodes,
            "systemd" if machine.systemd else "init",
            "ext4",
        )
    )


def test_what_the_command_prints_and_its_status_come_back_and_nothing_that_it_writes(tmp_path: Path) -> None:
    written = tmp_path / "written"
    script = f"echo said; echo complained >&2; touch {written} && test -e {written} && exit 7"
    with session.temporary_directory() as shared:
        end = _boot(Machine(), ["sh", "-c", script], shared)
    assert end.status == 7, end.why()
    assert not end.died
    assert end.output == "said\ncomplained\n"
    assert not written.exists()


def test_a_guest_that_dies_is_told_from_a_command_that_fails() -> None:
    with session.temporary_directory() as shared:
        end = _boot(Machine(), ["sh", "-c", "echo c > /proc/sysrq-trigger; sleep 1000"], shared)
    assert end.died
    assert end.status is None
    assert re.search("sysrq:? [Tt]rigger.* crash", end.last_words()), "the one line or the other comes first"


def test_a_guest_without_a_sign_of_life_has_died_and_says_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.guest.boot._SIGN_SECONDS", 10.0)
    with session.temporary_directory() as shared:
        end = boot(Machine(), ["sleep", "1000"], shared, seconds=_SECONDS, sign=shared / "sign")
    assert end.died
    assert end.last_words() == "no sign of life for 10 s"
    assert len(re.findall("^RIP=", end.console, re.MULTILINE)) == Machine().cpus, end.console


def test_a_guest_that_takes_too_long_is_stopped_and_has_not_died() -> None:
    with session.temporary_directory() as shared:
        end = _boot(Machine(), ["sleep", "1000"], shared, seconds=10)
    assert end.status is None
    assert not end.died
    assert "stopped after 10 seconds" in end.why()
