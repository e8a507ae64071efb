"""User namespaces for real: a map for each container, users that have no number inside, containers in containers.

The engines' own user namespaces (userns-remap of Docker, rootless podman) are rows of test_matrix.py.
"""

import contextlib
import time
from pathlib import Path

import pytest

from tests.containers import slots
from tests.containers.cgroups import Limits
from tests.containers.conftest import MEMORY_BYTES, default_limits, usable
from tests.containers.engines import CRUN, RUNC, SUB_ID, UNSHARE, Container, Hook
from tests.containers.engines.base import checked, in_cgroup
from tests.containers.engines.oci import OciEngine
from tests.containers.rootfs import Rootfs
from tests.containers.served import Daemon
from tests.timing import patient

_TOTAL_KB = MEMORY_BYTES // 1024
_UNMAPPED = 4_000_000
"""A user id of the host that is in no container's map."""


@pytest.mark.parametrize("engine", [RUNC, CRUN], ids=lambda engine: engine.name)
def test_containers_with_a_map_of_their_own_each_see_their_own(
    engine: OciEngine, rootfs: Rootfs, daemon: Daemon, hook: Hook
) -> None:
    """As iSulad's --user-remap does it: no two containers share a user id of the host."""
    usable(engine)
    small = Limits(memory_bytes=MEMORY_BYTES // 4)
    with (
        engine.start(rootfs, default_limits(), views=hook, map_users=True) as one,
        engine.start(rootfs, small, views=hook, map_users=True, first_id=SUB_ID + 1_000_000) as other,
    ):
        for container, limits in ((one, default_limits()), (other, small)):
            slots.assert_views(container, daemon)
            for user in (None, 1000):
                assert slots.memory_kb(container.read("/proc/meminfo", user)) == slots.limit_kb(limits)
                # Its files are root's of the host, who is nobody here: what everybody may do has to be enough.
                shown = container.output(["stat", "-c", "%a %u", "/proc/meminfo"], user)
                assert shown == "444 65534\n"
        assert one.read("/proc/self/uid_map").split()[1] != other.read("/proc/self/uid_map").split()[1]


@pytest.mark.parametrize("engine", [RUNC, CRUN], ids=lambda engine: engine.name)
@pytest.mark.parametrize("user", [0, _UNMAPPED], ids=["root of the host", "unmapped"])
def test_a_visitor_without_a_user_id_inside_sees_the_container(
    engine: OciEngine, user: int, rootfs: Rootfs, hook: Hook
) -> None:
    """As with nsenter: in all namespaces of the container but that of its users."""
    with usable(engine).start(rootfs, default_limits(), views=hook, map_users=True) as container:
        enter = ["nsenter", "-t", str(container.pid), "-m", "-p", "--"]
        become = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--"]
        visitor = _Visitor.into(container, [*enter, *become])
        assert visitor.uid() == user
        assert slots.memory_kb(visitor.read("/proc/meminfo")) == _TOTAL_KB
        assert visitor.read("/sys/devices/system/cpu/online") == "0\n"


class _Visitor:
    """Somebody of the host who is in the cgroup and some namespaces of a container."""

    def __init__(self, prefix: list[str]) -> None:
        self._prefix = prefix

    @classmethod
    def into(cls, container: Container, prefix: list[str]) -> "_Visitor":
        return cls(in_cgroup(container.cgroup, prefix))

    def uid(self) -> int:
        return int(checked([*self._prefix, "cat", "/proc/self/status"]).split("\nUid:")[1].split()[0])

    def read(self, path: str) -> str:
        return checked([*self._prefix, "cat", path])


@pytest.mark.parametrize("mapped", [False, True], ids=["plain", "mapped"])
def test_a_container_in_the_container_without_a_proc_of_its_own_sees_the_outer_ones_memory(
    mapped: bool, rootfs: Rootfs, hook: Hook
) -> None:
    """Its users can make namespaces, but Linux refuses them a new /proc, as things are mounted over the old one."""
    with usable(RUNC).start(rootfs, default_limits(), views=hook, map_users=mapped) as container:
        inner = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount"]
        assert slots.memory_kb(container.output([*inner, "cat", "/proc/meminfo"], user=1000)) == _TOTAL_KB
        assert container.output([*inner, "cat", "/sys/devices/system/cpu/online"], user=1000) == "0\n"
        assert float(container.output([*inner, "cat", "/proc/uptime"], user=1000).split()[0]) < patient(30)
        for tool in (["free"], ["uptime"], ["nproc"]):
            container.output([*inner, *tool], user=1000)
        refused = container.run([*inner, "--mount-proc", "true"], user=1000)
        assert refused.returncode != 0
        assert "/proc" in refused.stderr


def test_a_container_in_the_container_with_a_proc_of_its_own_has_the_hosts_values_until_it_is_attached(
    rootfs: Rootfs, daemon: Daemon, hook: Hook
) -> None:
    """A new /proc has no views over it, and nobody calls our hook for it; it is a container like any other."""
    with usable(UNSHARE).start(rootfs, default_limits(), views=hook) as container:
        inner = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "sleep", "1000"]
        with container.popen(inner) as process:
            try:
                pid = _init_below(container)
                visitor = _Visitor.into(container, ["nsenter", "-t", str(pid), "-m", "-p", "--"])
                assert slots.memory_kb(visitor.read("/proc/meminfo")) == slots.host_memory_kb()
                daemon.attach(pid)
                assert slots.memory_kb(visitor.read("/proc/meminfo")) == _TOTAL_KB
                daemon.detach(pid)
                assert slots.memory_kb(visitor.read("/proc/meminfo")) == slots.host_memory_kb()
                assert slots.memory_kb(container.read("/proc/meminfo")) == _TOTAL_KB
            finally:
                process.kill()


def _init_below(container: Container) -> int:
    """The init of the pid namespace that was made in the container; waits for its program to be there."""
    outer = Path(f"/proc/{container.pid}/ns/pid").readlink()
    deadline = time.monotonic() + patient(10)
    while time.monotonic() < deadline:
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                status = dict(line.split(":\t", 1) for line in (entry / "status").read_text().splitlines())
                numbers = status["NSpid"].split()
                below = len(numbers) > 2 and numbers[-1] == "1" and status["Name"] == "sleep"
                if below and Path("/proc", status["PPid"], "ns/pid").readlink() == outer:
                    return int(entry.name)
        time.sleep(0.01)
    raise TimeoutError("no process came")
