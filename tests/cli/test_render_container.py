"""``procview render --container``: a container by its name, without a daemon."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests import session
from tests.containers.cgroups import Limits
from tests.containers.conftest import usable
from tests.containers.engines import RUNC, Container
from tests.containers.rootfs import Rootfs
from tests.daemon.process import needs_mount

pytestmark = needs_mount

MEMORY_BYTES = 77 << 20


@pytest.fixture(scope="module")
def rootfs() -> Iterator[Rootfs]:
    with session.temporary_directory() as directory:
        yield Rootfs.create(directory / "rootfs")


@pytest.fixture(scope="module")
def container(rootfs: Rootfs) -> Iterator[Container]:
    """Without views, as no daemon runs for it."""
    with usable(RUNC).start(rootfs, Limits(memory_bytes=MEMORY_BYTES), views=None) as container:
        yield container


def render(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-m", "procview", "render", *words], capture_output=True, text=True,
                          check=False)  # fmt: skip


def test_by_its_id_and_by_its_inits_pid(container: Container) -> None:
    for reference in (container.name, str(container.pid)):
        done = render("--container", reference, "meminfo")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith(f"MemTotal:       {MEMORY_BYTES >> 10:>8} kB\n")


def test_by_the_beginning_of_its_id_if_there_is_only_one_such(container: Container, rootfs: Rootfs) -> None:
    with usable(RUNC).start(rootfs, Limits(memory_bytes=MEMORY_BYTES), views=None) as other:
        beginning = session.SESSION
        done = render("--container", beginning, "meminfo")
        assert (done.returncode, done.stdout) == (1, "")
        assert f"'{beginning}' can be any of {container.name} (pid {container.pid}), {other.name}" in done.stderr
    assert render("--container", beginning, "uptime").returncode == 0


def test_of_an_unknown_one_it_says_which_there_are(container: Container) -> None:
    for reference in ("no\x1bsuch", "", "1", "99999999"):
        done = render("--container", reference, "meminfo")
        assert (done.returncode, done.stdout) == (1, "")
        assert "no container '" in done.stderr
        assert "\x1b" not in done.stderr
    assert container.name in done.stderr


def test_a_container_and_a_pid_are_one_too_many() -> None:
    done = render("--container", "web", "--pid", "1", "meminfo")
    assert done.returncode == 2
    assert "--pid or --container" in done.stderr
