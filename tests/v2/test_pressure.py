"""Pressure of a container: its cgroup's own numbers, which grow when it is the one that waits."""

import os
import time
from pathlib import Path

import pytest

from tests.v2.conftest import NewGroup, StartInside
from tests.v2.disks import Disk
from tests.v2.groups import ROOT, Group, stalled_usec
from tests.v2.inside import MIB, Inside

STALL_USEC = 200_000


@pytest.fixture(autouse=True)
def _pressure() -> None:
    if not Path("/proc/pressure/cpu").exists():
        pytest.skip("this kernel keeps no pressure numbers, or they are switched off")


def _shown(inside: Inside, group: Group, resource: str) -> int:
    """As the view has it, which is between what the cgroup says before and after."""
    before = group.stalled_usec(resource)
    text = inside.read(f"proc/pressure/{resource}")
    after = group.stalled_usec(resource)
    shown = stalled_usec(text)
    assert before <= shown <= after
    assert [line.split()[0] for line in text.splitlines()] == ["some", "full"]
    assert [word.partition("=")[0] for word in text.splitlines()[0].split()[1:]] == [
        "avg10",
        "avg60",
        "avg300",
        "total",
    ]
    return shown


def _assert_own(waiting: tuple[Inside, Group], idle: tuple[Inside, Group], resource: str, idle_before: int) -> None:
    """The one that waited shows it, the other nothing of it, and neither the host's number."""
    waited = _shown(*waiting, resource)
    assert waited >= STALL_USEC
    # It shares the machine with the tests, and may be kept waiting a little.
    assert _shown(*idle, resource) - idle_before < max(STALL_USEC // 2, waited // 4)
    host = stalled_usec(Path(f"/proc/pressure/{resource}").read_text(encoding="ascii"))
    assert stalled_usec(idle[0].read(f"proc/pressure/{resource}")) < host


def test_two_programs_on_one_cpu_are_cpu_pressure(
    new_group: NewGroup, start_inside: StartInside, two_cpus: list[int]
) -> None:
    busy = new_group(cpuset_cpus=two_cpus[1])
    quiet = new_group(cpuset_cpus=two_cpus[0])
    waiting, idle = start_inside(busy), start_inside(quiet)
    before, idle_before = _shown(waiting, busy, "cpu"), _shown(idle, quiet, "cpu")
    waiting.do("""
import os, time
end = time.monotonic() + 2
child = os.fork()
while time.monotonic() < end: pass
if not child: os._exit(0)
os.waitpid(child, 0)
""")
    assert _shown(waiting, busy, "cpu") - before >= STALL_USEC
    _assert_own((waiting, busy), (idle, quiet), "cpu", idle_before)


def test_a_program_above_its_high_mark_is_memory_pressure(new_group: NewGroup, start_inside: StartInside) -> None:
    """The kernel makes it wait for memory; how long, depends on how far it went."""
    tight, quiet = new_group(memory_swap_max=0), new_group()
    waiting, idle = start_inside(tight), start_inside(quiet)
    idle_before = _shown(idle, quiet, "memory")
    tight.write("memory.high", tight.number("memory.current") + MIB)
    waiting.do("import mmap; memory = mmap.mmap(-1, 64 << 20); taken = 0")
    deadline = time.monotonic() + 60
    while tight.stalled_usec("memory") < 2 * STALL_USEC:
        assert time.monotonic() < deadline
        waiting.do("memory[taken:taken + (256 << 10)] = bytes(256 << 10); taken += 256 << 10")
    tight.write("memory.high", "max")
    _assert_own((waiting, tight), (idle, quiet), "memory", idle_before)


def test_a_program_that_waits_for_its_disk_is_io_pressure(
    new_group: NewGroup, start_inside: StartInside, blank_disks: list[Disk]
) -> None:
    slow, quiet = new_group(), new_group()
    disk = blank_disks[0]
    slow.write("io.max", f"{os.major(disk.number)}:{os.minor(disk.number)} rbps={MIB}")
    waiting, idle = start_inside(slow), start_inside(quiet)
    idle_before = _shown(idle, quiet, "io")
    waiting.do(f"""
import mmap, os
disk = os.open({str(disk.path)!r}, os.O_RDONLY | os.O_DIRECT)
for number in range(16): os.preadv(disk, [mmap.mmap(-1, 64 << 10)], number << 16)
os.close(disk)
""")
    _assert_own((waiting, slow), (idle, quiet), "io", idle_before)


def test_averages_are_those_of_the_cgroup(new_group: NewGroup, start_inside: StartInside) -> None:
    group = new_group()
    inside = start_inside(group)
    before = group.read("io.pressure")
    shown = inside.read("proc/pressure/io")
    if group.read("io.pressure") == before:  # it does no I/O, so nothing moves
        assert shown == before


def test_nobody_can_set_a_trigger(new_group: NewGroup, start_inside: StartInside) -> None:
    inside = start_inside(new_group())
    with pytest.raises(RuntimeError, match="Permission denied"):
        inside.do(f"open({str(inside.views / 'proc/pressure/cpu')!r}, 'r+b')")
    assert (ROOT / "cpu.pressure").exists()
