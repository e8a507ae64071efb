"""lxcfs' own LXC hook, as Debian ships it, on the tree of procview (the setting ``compat``), in real LXC containers.

``./dev test`` unpacks the package into .cache/lxcfs and does not install it. The hook knows one place, /var/lib/lxcfs,
which may be in use on this machine: a script gives it the tree there, in the mount namespace of the new container.
"""

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests import session
from tests.containers import slots
from tests.containers.cgroups import Limits
from tests.containers.conftest import MEMORY_BYTES, host_cpus, usable
from tests.containers.engines import LXC, Container
from tests.containers.engines.lxc import MountHook
from tests.containers.rootfs import Rootfs
from tests.containers.served import Daemon
from tests.control.client import ask
from tests.daemon.process import eventually
from tests.timing import patient

SECONDS = patient(1)
_PLACES = (Path(__file__).parents[2] / ".cache/lxcfs", Path("/"))
_HOOK = "usr/share/lxcfs/lxc.mount.hook"
_IN_ITS_PLACE = """#!/bin/sh -e
# In the new container's mount namespace, which is thrown away but for the container's root.
[ "$(readlink /proc/self/ns/mnt)" != "{host}" ]
mount --make-rslave /
mount -n -t tmpfs tmpfs /var/lib
mkdir /var/lib/lxcfs
mount -n --rbind {tree} /var/lib/lxcfs
exec {hook}
"""


@pytest.fixture(scope="module")
def daemon(_privileges: None) -> Iterator[Daemon]:
    with session.temporary_directory() as directory:
        daemon = Daemon.start(directory, f'compat = "lxcfs"\ncompat_directory = "{directory}/lxcfs"\n')
        yield daemon
        daemon.stop()
        assert not (directory / "lxcfs").exists()


@pytest.fixture(scope="module")
def hook(daemon: Daemon) -> Iterator[MountHook]:
    usable(LXC)
    found = next((place / _HOOK for place in _PLACES if (place / _HOOK).exists()), None)
    if found is None:
        message = "lxcfs' hook is not to be had: ./dev test unpacks it"
        if os.environ.get("PROCVIEW_REQUIRE_ENGINES"):
            pytest.fail(message)
        pytest.skip(message)
    with session.temporary_directory() as directory:
        theirs, ours = directory / "lxc.mount.hook", directory / "in-its-place"
        shutil.copyfile(found, theirs)
        host = os.readlink("/proc/self/ns/mnt")
        ours.write_text(_IN_ITS_PLACE.format(host=host, tree=f"{daemon.directory}/lxcfs", hook=theirs))
        for program in (theirs, ours):
            program.chmod(0o755)
        yield MountHook(ours)


def limits() -> Limits:
    return Limits(memory_bytes=MEMORY_BYTES, cpuset=str(host_cpus()[-1]), cpus=1.0)


def total_kb(container: Container) -> int:
    """As ``free`` has it."""
    return int(container.output(["free", "-k"]).splitlines()[1].split()[1])


def cpus(container: Container) -> str:
    return container.output(["getconf", "_NPROCESSORS_ONLN"]).strip()


def assert_own(container: Container) -> None:
    assert total_kb(container) == slots.limit_kb(limits())
    assert cpus(container) == "1"
    assert container.output(["nproc"]).strip() == "1"
    assert container.read("/proc/cpuinfo").count("processor") == 1


def assert_hosts_soon(container: Container) -> None:
    """Within a second of now, the host's values: a read that begins later fails no more."""
    slots.assert_hosts_within(SECONDS, container)
    assert cpus(container) == str(len(host_cpus()))


def assert_found(daemon: Daemon, container: Container, words: str) -> None:
    """That this is what ``procview check`` says of the container; it has little patience with a busy machine."""

    def said() -> list[str]:
        findings = json.loads(daemon.command("check", "--json", *daemon.options).stdout)["findings"]
        return [one["text"] for one in findings if one.get("pid") == container.pid]

    eventually(lambda: said() == [words], words)


@pytest.mark.slow
@pytest.mark.parametrize("mapped", [False, True])
def test_its_containers_have_their_own_and_the_hosts_and_their_own_again(
    rootfs: Rootfs, daemon: Daemon, hook: MountHook, mapped: bool
) -> None:
    with LXC.start(rootfs, limits(), views=hook, map_users=mapped) as container:
        assert_own(container)
        assert_found(daemon, container, "views in place and answered")
        told = ask(daemon.listens().run_directory / "control.sock", f"/v1/containers/{container.pid}").json
        assert (told["state"], told["why"]) == ("attached", ""), "which is what procview status says"
        for end in (daemon.kill, daemon.hang, daemon.terminate):
            end()
            assert_hosts_soon(container)
            daemon.start_again()
            assert_own(container)
            assert_found(daemon, container, "views in place and answered")


@pytest.mark.slow
def test_one_that_starts_without_a_daemon_has_its_own_with_the_next(
    rootfs: Rootfs, daemon: Daemon, hook: MountHook
) -> None:
    daemon.terminate()
    try:
        with LXC.start(rootfs, limits(), views=hook) as container:
            assert slots.memory_kb(container.read("/proc/meminfo")) == slots.host_memory_kb()
            daemon.start_again()
            assert_own(container)
    finally:
        daemon.start_again()


@pytest.mark.slow
def test_one_that_starts_while_dead_views_are_up_gets_slots_when_they_go(
    rootfs: Rootfs, daemon: Daemon, hook: MountHook
) -> None:
    """The hook cannot see what is in the folder of the CPUs then, and leaves that out."""
    children = psutil.Process(daemon.process.pid).children()
    (guard,) = [child for child in children if "procview.guard" in child.cmdline()]
    guard.suspend()
    daemon.kill()
    guard.kill()
    try:
        with LXC.start(rootfs, limits(), views=hook) as container:
            assert container.run(["cat", "/proc/meminfo"]).returncode != 0
            assert daemon.command("withdraw", *daemon.options).returncode == 0
            assert slots.memory_kb(container.read("/proc/meminfo")) == slots.host_memory_kb()
            daemon.start_again()
            assert total_kb(container) == slots.limit_kb(limits())
            assert_found(daemon, container, "no views: sys/devices/system/cpu")
            daemon.attach(container.pid)
            assert_found(daemon, container, "views in place and answered")
            assert_own(container)
    finally:
        daemon.start_again()


@pytest.mark.slow
def test_an_exchange_of_the_daemon_leaves_them_their_own(rootfs: Rootfs, daemon: Daemon, hook: MountHook) -> None:
    with LXC.start(rootfs, limits(), views=hook) as container:
        before, served = daemon.process, daemon.said().count("serving ")
        before.send_signal(signal.SIGUSR2)
        assert before.wait(patient(30)) == 0, daemon.said()
        eventually(lambda: daemon.said().count("serving ") > served, "the successor has its lock, and says so")
        successor = psutil.Process(int((daemon.run_directory / "lock").read_text()))
        try:
            assert_own(container)
            assert_found(daemon, container, "views in place and answered")
        finally:
            successor.kill()
        assert_hosts_soon(container)
        daemon.start_again()
        assert_own(container)
