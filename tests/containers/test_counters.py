"""Counters of a container: they move with its work, add up, and never go back."""

import itertools
import time

import pytest

from tests.containers.cgroups import UNIFIED, Limits
from tests.containers.conftest import MEMORY_BYTES, Start, two_cpus
from tests.containers.engines import INSIDE, Container

Row = list[int]
_USER, _NICE, _SYSTEM, _IDLE, _STEAL = 0, 1, 2, 3, 7


def _stat(text: str) -> dict[str, Row]:
    rows = (line.split() for line in text.splitlines() if line.startswith("cpu"))
    return {row[0]: [int(word) for word in row[1:]] for row in rows}


def _read(container: Container) -> dict[str, Row]:
    return _stat(container.read("/proc/stat"))


def _burn(container: Container, seconds: float) -> None:
    container.run(["timeout", str(seconds), "sh", "-c", "while :; do :; done"])


def _use_cpu(container: Container, seconds: int) -> None:
    """So much CPU time, however long that takes where others want some as well."""
    container.run(["sh", "-c", f"ulimit -t {seconds}; while :; do :; done"])


def _idle_share(first: Row, second: Row) -> float:
    return (second[_IDLE] - first[_IDLE]) / (sum(second) - sum(first))


def test_burning_cpu_raises_user_time_and_lowers_idle_time(container: Container) -> None:
    before = _read(container)["cpu"]
    time.sleep(1)
    idle = _read(container)["cpu"]
    _use_cpu(container, 1)
    busy = _read(container)["cpu"]
    assert idle[_USER] - before[_USER] < 50
    assert busy[_USER] - idle[_USER] > 50
    assert _idle_share(idle, busy) < _idle_share(before, idle)


def test_a_quota_shows_as_steal_time(start: Start) -> None:
    container = start(Limits(memory_bytes=MEMORY_BYTES, cpuset=two_cpus(), cpus=0.2))
    before = _read(container)["cpu"]
    _burn(container, 2)
    after = _read(container)["cpu"]
    assert after[_STEAL] > before[_STEAL]
    assert after[_USER] - before[_USER] < 100


def test_cpu_is_the_sum_of_its_lines_and_no_column_goes_back(start: Start) -> None:
    container = start(Limits(memory_bytes=MEMORY_BYTES, cpuset=two_cpus(), cpus=2.0))
    # One process that reads 20 times: no faster way to see two readings that do not fit.
    script = "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do cat /proc/stat; echo end; done"
    readings = [_stat(text) for text in container.output(["sh", "-c", script]).split("end\n")[:-1]]
    assert len(readings) == 20
    _assert_consistent(readings)


def test_no_column_goes_back_when_cpus_come_and_go(start: Start) -> None:
    container = start(Limits(memory_bytes=MEMORY_BYTES, cpuset=two_cpus(), cpus=2.0))
    readings = []
    for cpus in (2.0, 1.0, 2.0, 0.5, 1.5, 2.0):
        container.update(Limits(cpus=cpus))
        _burn(container, 0.2)
        readings.append(_read(container))
    assert [len(reading) - 1 for reading in readings] == [2, 1, 2, 1, 2, 2]
    _assert_consistent(readings, same_cpus=False)


def _assert_consistent(readings: list[dict[str, Row]], *, same_cpus: bool = True) -> None:
    for reading in readings:
        lines = [row for name, row in reading.items() if name != "cpu"]
        assert reading["cpu"] == [sum(column) for column in zip(*lines, strict=True)]
    for earlier, later in itertools.pairwise(readings):
        for name in earlier if same_cpus else ["cpu"]:
            assert all(new >= old for old, new in zip(earlier[name], later[name], strict=True)), (name, earlier, later)


def test_idle_time_is_the_same_in_uptime_and_stat(container: Container) -> None:
    # It goes on while they are read.
    lines = [
        line.split() for line in container.output(["cat", "/proc/stat", "/proc/uptime", "/proc/stat"]).splitlines()
    ]
    before, after = (int(words[1 + _IDLE]) / 100 for words in lines if words[0] == "cpu")
    (idle_seconds,) = (float(words[1]) for words in lines if len(words) == 2 and "." in words[1])
    assert before - 0.1 < idle_seconds < after + 0.1


def test_processes_are_the_containers_own(container: Container) -> None:
    fields = dict(line.split(" ", 1) for line in container.read("/proc/stat").splitlines())
    assert 1 <= int(fields["processes"]) < 20
    assert int(fields["procs_running"]) >= 1
    assert fields["ctxt"] == "0"


def test_load_average_counts_as_the_container_does(container: Container) -> None:
    one, five, fifteen, tasks, last = container.read("/proc/loadavg").split()
    running, total = tasks.split("/")
    assert all(0 <= float(load) < 10 for load in (one, five, fifteen))
    assert 0 <= int(running) <= int(total) < 20
    assert 1 <= int(last) < 1000


@pytest.mark.parametrize("resource", ["cpu", "io", "memory"])
def test_pressure_is_that_of_the_containers_cgroup(container: Container, resource: str) -> None:
    directory = container.cgroup.directories.get(UNIFIED)
    if directory is None or not (directory / f"{resource}.pressure").exists():
        assert container.run(["ls", f"{INSIDE}/proc/pressure/{resource}"]).returncode != 0
        pytest.skip("this kernel keeps no pressure numbers of cgroups")
    before = _stalled_usec((directory / f"{resource}.pressure").read_text(encoding="ascii"))
    shown = _stalled_usec(container.read(f"/proc/pressure/{resource}"))
    after = _stalled_usec((directory / f"{resource}.pressure").read_text(encoding="ascii"))
    assert before <= shown <= after


def _stalled_usec(pressure: str) -> int:
    return int(pressure.splitlines()[0].rpartition("total=")[2])


def test_memory_that_is_used_shows_as_used(container: Container) -> None:
    def used(script: str) -> int:
        return int(container.output(["sh", "-c", script]).split("Mem:")[1].split()[1])

    size = MEMORY_BYTES // 4
    # dd writes when it has a whole block, and holds it while the pipe is full.
    hold = f"dd if=/dev/zero bs={size} count=2 2>/dev/null | {{ head -c 1 >/dev/null; free -b; cat >/dev/null; }}"
    assert used(hold) - used("free -b") > size // 2
