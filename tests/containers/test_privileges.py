"""What the daemon may do is what the unit leaves it: that is enough, and none of it is too much."""

import shutil
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psutil
import pytest

from procview.mount_namespace import VARIABLE
from tests import session, shipped_unit
from tests.containers import engines
from tests.containers.conftest import MEMORY_BYTES, default_limits, usable
from tests.containers.rootfs import Rootfs
from tests.containers.served import Daemon, shut_in
from tests.timing import patient

OWN = f"MemTotal:       {MEMORY_BYTES // 1024:>8} kB"


@contextmanager
def _daemon_with(names: Sequence[str], *around: str) -> Iterator[Daemon]:
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv is not installed")
    with session.temporary_directory() as directory:
        daemon = Daemon.start(directory, tracer=[*around, *shipped_unit.only(list(names))])
        try:
            yield daemon
        finally:
            daemon.stop()


def _totals(daemon: Daemon, rootfs: Rootfs) -> list[str]:
    """The first line of meminfo in a container with the host's users, and in one with users of its own."""
    lines = []
    for map_users in (False, True):
        with usable(engines.RUNC).start(rootfs, default_limits(), views=daemon.mount, map_users=map_users) as container:
            lines.append(container.output(["head", "-n", "1", "/procview/proc/meminfo"]).strip())
    return lines


def test_the_capabilities_of_the_unit_are_enough_for_daemon_and_guard(rootfs: Rootfs) -> None:
    names = shipped_unit.capabilities()
    with _daemon_with(names) as daemon:
        (guard,) = (
            child for child in psutil.Process(daemon.process.pid).children() if "procview.guard" in child.cmdline()
        )
        assert shipped_unit.held(daemon.process.pid) == shipped_unit.held(guard.pid) == shipped_unit.mask(names)
        assert _totals(daemon, rootfs) == [OWN, OWN]
        # The guard withdraws the views, ends the connection, and kills the daemon: without CAP_KILL, as the same user.
        daemon.hang()
        reader = psutil.Popen(["cat", str(daemon.mount / "proc/meminfo")], stdout=-3, stderr=-3)
        assert daemon.process.wait(patient(10)) == -signal.SIGKILL
        assert reader.wait(patient(10)) != 0
        guard.wait(patient(10))


def test_without_sys_admin_nothing_is_mounted() -> None:
    names = [name for name in shipped_unit.capabilities() if name != "CAP_SYS_ADMIN"]
    with pytest.raises(RuntimeError, match="Operation not permitted"), _daemon_with(names):
        pass


def test_without_sys_chroot_a_daemon_that_is_shut_in_cannot_go_to_where_views_are() -> None:
    names = [name for name in shipped_unit.capabilities() if name != "CAP_SYS_CHROOT"]
    with (
        pytest.raises(RuntimeError, match=f"{VARIABLE}=.*: cannot be entered: Operation not permitted"),
        _daemon_with(names, *shut_in()),
    ):
        pass


def test_without_sys_ptrace_a_container_is_not_told_from_the_host(rootfs: Rootfs) -> None:
    """One with users of its own still is, where root has made its namespace: who owns one may do everything in it."""
    names = [name for name in shipped_unit.capabilities() if name != "CAP_SYS_PTRACE"]
    with _daemon_with(names) as daemon:
        with_the_hosts_users, _ = _totals(daemon, rootfs)
        assert with_the_hosts_users != OWN


def test_each_capability_of_the_unit_has_its_test_here() -> None:
    for name in shipped_unit.capabilities():
        assert any(name.removeprefix("CAP_").lower() in test for test in globals() if test.startswith("test_without_"))
