"""The endurance run: it works for real, it cleans up, and what checks the bytes can tell wrong ones from right ones."""

import functools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench.cgroups import Limits, hierarchies
from bench.compile import CHECKOUT, compiled
from bench.soak import Expected, expected_of, limits_of
from tests.timing import patient

MEMORY_KB = 262144
GOLDEN = CHECKOUT / "tests" / "golden" / "v1-hybrid-6.18"
"""Of a container with this limit and one CPU."""
ONLINE = "sys/devices/system/cpu/online"

EXPECTS_ANOTHER_LIMIT = """
from dataclasses import replace
from bench import soak

def wrong(limits, right=soak.expected_of):
    return replace(right(limits), memory_kb=right(limits).memory_kb + 4)

soak.expected_of, soak.STEPS = wrong, 2
raise SystemExit(soak.main())
"""


@pytest.fixture
def privileges() -> None:
    if os.geteuid() != 0:
        pytest.skip("containers with limits and mounts can be made by root only")
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("this machine has no /dev/fuse")


def _check(directory: Path, file: str, *texts: str, memory_kb: int = MEMORY_KB, cpus: int = 1) -> str:
    """What the checker finds wrong in texts that a file shows one after the other; nothing is an empty string."""
    paths = [directory / str(number) for number in range(len(texts))]
    for path, text in zip(paths, texts, strict=True):
        path.write_bytes(text.encode())
    command = [str(compiled("soak")), "check", str(memory_kb), str(cpus), file, *map(str, paths)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=patient(10), check=False)
    assert result.returncode == (1 if result.stdout else 0), result
    return result.stdout.strip()


def _golden(name: str) -> str:
    return (GOLDEN / f"{name}.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "name", ["cpuinfo", "diskstats", "loadavg", "meminfo", "partitions", "stat", "swaps", "uptime", "vmstat"]
)
def test_what_a_container_sees_is_right(name: str, tmp_path: Path) -> None:
    assert _check(tmp_path, f"proc/{name}", _golden(name), _golden(name)) == ""


@pytest.mark.parametrize(
    ("name", "old", "new", "why"),
    [
        ("meminfo", "262144", "262148", "MemTotal is not the container's limit"),
        ("meminfo", "MemFree:          220532 kB", "MemFree: 262143 kB", "not MemFree <= MemAvailable <= MemTotal"),
        ("meminfo", "Buffers", "Buffer", "other words or lines than at first"),
        ("stat", "cpu0 16", "cpu0 17", "the line cpu is not the sum of the others"),
        ("stat", "intr", "cpu1 0 0 0 0 0 0 0 0 0 0\nintr", "more CPUs than the container has"),
        ("stat", "processes 3", "processes 300", "more tasks than the container has"),
        ("cpuinfo", "processor\t: 0", "processor\t: 1", "processors are not numbered from 0"),
        ("cpuinfo", "cpu family\t: 6", "cpu family\t: 7", "a number that never changes is another one than at first"),
        ("loadavg", "/", "/9", "more tasks than the container has"),
        ("loadavg", "\n", "\n\n", "more than a line"),
        ("swaps", "Filename", "Filenam", "no header"),
        ("partitions", "sda", "sdb", "not what it was at first"),
        ("vmstat", "pgfault ", "pgfault x", "other words or lines than at first"),
        ("uptime", " ", "\0 ", "a NUL byte"),
    ],
)
def test_a_byte_that_is_wrong_is_found(name: str, old: str, new: str, why: str, tmp_path: Path) -> None:
    right = _golden(name)
    assert old in right
    assert _check(tmp_path, f"proc/{name}", right, right.replace(old, new, 1)) == why


@pytest.mark.parametrize("name", ["meminfo", "stat", "cpuinfo", "vmstat"])
def test_a_text_that_is_torn_is_found(name: str, tmp_path: Path) -> None:
    right = _golden(name)
    for piece in (right[: len(right) // 2], right[len(right) // 2 :], right[:-1], right + right, ""):
        assert _check(tmp_path, f"proc/{name}", right, piece)


def test_numbers_that_go_back_are_found(tmp_path: Path) -> None:
    assert _check(tmp_path, "proc/uptime", "3.00 2.00\n", "3.01 2.00\n", "4.00 2.50\n") == ""
    assert "went back" in _check(tmp_path, "proc/uptime", "3.00 2.00\n", "2.99 2.00\n")
    assert "idle for longer" in _check(tmp_path, "proc/uptime", "3.00 3.10\n")
    pressure = "some avg10=0.00 avg60=0.00 avg300=0.00 total={}\n"
    assert _check(tmp_path, "proc/pressure/cpu", *map(pressure.format, (100, 100, 2000))) == ""
    assert "went back" in _check(tmp_path, "proc/pressure/cpu", *map(pressure.format, (100, 99)))


def test_the_cpus_have_to_be_the_containers(tmp_path: Path) -> None:
    assert _check(tmp_path, ONLINE, "0-1\n", cpus=2) == ""
    assert _check(tmp_path, ONLINE, "0-1\n", cpus=1)
    assert _check(tmp_path, ONLINE, "0\n", cpus=2)


def test_a_quota_below_the_cpuset_is_what_a_container_must_see() -> None:
    assert expected_of(Limits(1 << 30, (0, 1), 0.8)) == Expected(1 << 20, 1)
    assert expected_of(Limits(1 << 30, (0, 1), 1.7)) == Expected(1 << 20, 2)
    assert expected_of(Limits(1 << 30, (1,), 3.0)) == Expected(1 << 20, 1)
    assert expected_of(Limits(1 << 30, (0, 1))) == Expected(1 << 20, 2)
    assert len({limits_of(number).memory_bytes // 1024 for number in range(50)}) == 50


def left_of(pid: int) -> list[Path]:
    return [group for each in hierarchies() for group in each.mount_point.glob(f"procview-bench-{pid}*")]


@contextmanager
def _running(*command: str) -> "Iterator[subprocess.Popen[str]]":
    """Ended in the end, by a signal that lets it clean up."""
    # Whoever started the tests in the background may have had SIGINT ignored, which children keep.
    heed = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen([sys.executable, *command], cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, preexec_fn=heed) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.terminate()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("privileges")
def test_a_short_run_finds_nothing_wrong(tmp_path: Path) -> None:
    file = tmp_path / "soak.json"
    with _running("-m", "bench.soak", "--reads", "20000", "--containers", "5", "--json", str(file)) as process:
        output, errors = process.communicate()
    assert process.returncode == 0, f"{output}{errors}"
    found = json.loads(file.read_text(encoding="utf-8"))
    counted = found["states"][-1]["counted"]
    assert counted["reads"] >= 20_000
    assert counted["killed_asking"] >= 10
    assert (counted["wrong"], counted["failed"], found["reports"]) == (0, {}, [])
    assert not left_of(process.pid)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("privileges")
def test_containers_that_see_another_limit_than_theirs_fail_the_run(tmp_path: Path) -> None:
    file = tmp_path / "soak.json"
    command = ["-c", EXPECTS_ANOTHER_LIMIT, "--reads", "500", "--containers", "2", "--json", str(file)]
    with _running(*command) as process:
        output, errors = process.communicate()
    assert process.returncode == 1, f"{output}{errors}"
    assert "proc/meminfo: MemTotal is not the container's limit" in output
    assert "FAIL: not every bound is kept" in output
    found = json.loads(file.read_text(encoding="utf-8"))
    assert found["states"][-1]["counted"]["wrong"] > 0
    assert not left_of(process.pid)


@pytest.mark.usefixtures("privileges")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_told_to_end_leaves_nothing(number: int) -> None:
    with _running("-m", "bench.soak", "--containers", "3") as process:
        assert process.stdout is not None
        while "files in each" not in (line := process.stdout.readline()):
            assert line, process.communicate()[1]
        assert left_of(process.pid)
        process.send_signal(number)
        process.communicate()
    assert process.returncode != 0
    assert not left_of(process.pid)
