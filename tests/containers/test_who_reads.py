"""Every process of a container sees the same, whoever it is and however it got there."""

import contextlib
import os
import signal
import subprocess

import pytest

from tests import session
from tests.containers import engines
from tests.containers.cgroups import Limits
from tests.containers.conftest import MEMORY_BYTES, Start, host_cpus
from tests.containers.engines import Container
from tests.timing import patient

# Files that say the same twice, so that what two readers see can be compared.
_CONSTANT = ("/proc/partitions", "/proc/swaps", "/sys/devices/system/cpu/online", "/sys/devices/system/cpu/present")
_TOTAL = f"MemTotal:       {MEMORY_BYTES // 1024:8} kB"
_EVIL_NAME = "evil ) (\\n R 1"
_EVIL_INIT = ("sh", "-c", f"printf '{_EVIL_NAME}' > /proc/self/comm; while :; do sleep 1000; done")


def _seen(container: Container, user: int | None = None) -> list[str]:
    texts = [container.read(path, user) for path in _CONSTANT]
    memory = container.read("/proc/meminfo", user).splitlines()
    stat = [line.split()[0] for line in container.read("/proc/stat", user).splitlines() if line.startswith("cpu")]
    return [*texts, memory[0], *stat]


def _assert_own(container: Container, user: int | None = None) -> None:
    assert _seen(container, user)[-3:] == [_TOTAL, "cpu", "cpu0"]
    assert 0 <= float(container.read("/proc/uptime", user).split()[0]) < patient(30)


def test_init_sees_what_its_visitors_see(start: Start) -> None:
    script = "for file in meminfo stat uptime; do cat /proc/$file > /tmp/$0-$file; done; exec sleep 1000"
    name = session.new_name()  # with unshare it is the host's /tmp
    container = start(init=("sh", "-c", script, name))
    try:
        container.output(["sh", "-c", f"while ! grep . /tmp/{name}-uptime; do sleep 0.01; done 2>/dev/null"])
        assert container.read(f"/tmp/{name}-meminfo").splitlines()[0] == _TOTAL
        assert 0 <= float(container.read(f"/tmp/{name}-uptime").split()[0]) < patient(10)
        stat = container.read(f"/tmp/{name}-stat")
        assert [line.split()[0] for line in stat.splitlines() if line.startswith("cpu")] == ["cpu", "cpu0"]
    finally:
        container.output(["sh", "-c", f"rm -f /tmp/{name}-*"])


def test_a_user_without_privileges_sees_the_same(container: Container) -> None:
    _assert_own(container, user=1000)
    assert _seen(container, user=1000) == _seen(container)


@pytest.mark.parametrize("engine", engines.USER_MAPPING, indirect=True, ids=lambda engine: engine.name)
@pytest.mark.parametrize("user", [None, 1000])
def test_a_container_with_a_user_namespace_sees_its_own(start: Start, user: int | None) -> None:
    container = start(map_users=True)
    assert container.read("/proc/self/uid_map").split() == ["0", str(engines.SUB_ID), "65536"]
    _assert_own(container, user)


def test_an_init_with_spaces_brackets_and_newlines_in_its_name(start: Start) -> None:
    container = start(init=_EVIL_INIT)
    while container.read("/proc/1/comm") != "evil ) (\n R 1\n":
        pass
    _assert_own(container)


def test_a_process_in_a_cgroup_below_the_container_sees_the_container(container: Container) -> None:
    below = {directory / "below" for directory in container.cgroup.directories.values()}
    script = "echo $$; read -r go; exec cat /proc/meminfo"
    reader = container.popen(["sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with reader:
        assert reader.stdout is not None
        pid = container.host_pid(int(reader.stdout.readline()))
        try:
            for directory in below:
                directory.mkdir()
                if (directory / "cpuset.mems").exists() and not container.cgroup.is_v2:
                    for file in ("cpuset.cpus", "cpuset.mems"):
                        (directory / file).write_text((directory.parent / file).read_text())
                (directory / "cgroup.procs").write_text(str(pid))
            with contextlib.suppress(
                OSError
            ):  # not there on v2, where a child has no controllers until someone says so
                (container.cgroup.directories["memory"] / "below/memory.limit_in_bytes").write_text(
                    str(MEMORY_BYTES // 4)
                )
            shown, _ = reader.communicate("go\n", timeout=patient(20))
            assert shown.splitlines()[0] == _TOTAL
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            engines.wait_until_gone(pid)
            for directory in below:
                directory.rmdir()


def test_two_containers_see_each_their_own(start: Start) -> None:
    small = start(Limits(memory_bytes=MEMORY_BYTES // 4, cpuset=str(host_cpus()[0])))
    large = start()
    for _ in range(5):
        assert small.read("/proc/meminfo").split()[1] == str(MEMORY_BYTES // 4096)
        assert large.read("/proc/meminfo").split()[1] == str(MEMORY_BYTES // 1024)
