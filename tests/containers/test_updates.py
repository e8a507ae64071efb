"""Limits of a running container that change: the very next read shows it."""

import subprocess

import pytest

from tests.containers.cgroups import Limits
from tests.containers.conftest import MEMORY_BYTES, Start, host_cpus, two_cpus
from tests.containers.engines import Container
from tests.containers.rootfs import PYTHON

_REREAD = """
import sys
with open("/proc/meminfo") as file:
    print(file.read().split()[1], flush=True)
    sys.stdin.read()
    file.seek(0)
    print(file.read().split()[1])
"""


def _total(container: Container) -> int:
    return int(container.output(["free", "-b"]).splitlines()[1].split()[1])


def _cpus(container: Container) -> tuple[int, int, int]:
    stat = container.read("/proc/stat").splitlines()
    return (
        int(container.output(["getconf", "_NPROCESSORS_CONF"])),
        sum(line.startswith("cpu") for line in stat) - 1,
        container.read("/proc/cpuinfo").count("processor\t:"),
    )


@pytest.mark.parametrize("memory_bytes", [MEMORY_BYTES // 2, MEMORY_BYTES * 2])
def test_a_changed_memory_limit_shows_in_the_next_free(container: Container, memory_bytes: int) -> None:
    assert _total(container) == MEMORY_BYTES
    container.update(Limits(memory_bytes=memory_bytes))
    assert _total(container) == memory_bytes


def test_a_changed_cpuset_shows_in_the_next_read(start: Start) -> None:
    container = start(Limits(memory_bytes=MEMORY_BYTES, cpuset=two_cpus()))
    assert _cpus(container) == (2, 2, 2)
    assert container.output(["nproc", "--all"]) == "2\n"
    container.update(Limits(cpuset=str(host_cpus()[1])))
    assert _cpus(container) == (1, 1, 1)
    assert container.output(["nproc", "--all"]) == "1\n"
    container.update(Limits(cpuset=two_cpus()))
    assert _cpus(container) == (2, 2, 2)


def test_a_changed_quota_shows_in_the_next_read(start: Start) -> None:
    """But not in ``nproc --all``: told of one or two CPUs, coreutils believes the affinity mask if that has more."""
    container = start(Limits(memory_bytes=MEMORY_BYTES, cpuset=two_cpus(), cpus=0.5))
    assert _cpus(container) == (1, 1, 1)
    container.update(Limits(cpus=1.5))
    assert _cpus(container) == (2, 2, 2)
    container.update(Limits(cpus=1.0))
    assert _cpus(container) == (1, 1, 1)


def test_a_file_that_stays_open_is_rendered_afresh_when_read_from_its_start(container: Container) -> None:
    command = [PYTHON, "-c", _REREAD]
    with container.popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdin is not None
        assert reader.stdout is not None
        assert int(reader.stdout.readline()) * 1024 == MEMORY_BYTES
        container.update(Limits(memory_bytes=MEMORY_BYTES * 2))
        reader.stdin.close()
        assert int(reader.stdout.readline()) * 1024 == MEMORY_BYTES * 2
