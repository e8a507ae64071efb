"""diskstats and partitions: two disks, each under the container's name for it, with the container's traffic alone."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests import session
from tests.containers import engines
from tests.containers.cgroups import Limits
from tests.containers.conftest import Start, starter, usable
from tests.containers.rootfs import Rootfs
from tests.containers.served import Daemon
from tests.v2 import disks
from tests.v2.conftest import NewGroup, StartInside
from tests.v2.disks import Disk
from tests.v2.groups import Group
from tests.v2.inside import MIB, Inside

MEMORY_BYTES = 128 * MIB
BLOCK = 64 << 10
SECTOR = 512

_DIRECT = f"""
import mmap, os
block = mmap.mmap(-1, {BLOCK})
block[:] = b"x" * {BLOCK}
def transfer(path, blocks, write):
    '''Past the page cache, a request for each block.'''
    file = os.open(path, (os.O_WRONLY if write else os.O_RDONLY) | os.O_DIRECT)
    for number in range(blocks):
        done = (os.pwritev if write else os.preadv)(file, [block], number * {BLOCK})
        assert done == {BLOCK}
    os.close(file)
"""


class Row:
    """A line of diskstats."""

    def __init__(self, line: str) -> None:
        words = line.split()
        self.number = os.makedev(int(words[0]), int(words[1]))
        self.name = words[2]
        self.counts = [int(word) for word in words[3:]]

    @property
    def reads(self) -> tuple[int, int]:
        """Requests, sectors."""
        return self.counts[0], self.counts[2]

    @property
    def writes(self) -> tuple[int, int]:
        return self.counts[4], self.counts[6]

    @property
    def unknowable(self) -> list[int]:
        """Merges, times, requests in flight, flushes."""
        return [count for place, count in enumerate(self.counts) if place not in (0, 2, 4, 6, 11, 13)]


def _rows(inside: Inside) -> dict[str, Row]:
    rows = [Row(line) for line in inside.read("proc/diskstats").splitlines()]
    return {row.name: row for row in rows}


def _minus(new: tuple[int, int], old: tuple[int, int]) -> tuple[int, int]:
    return new[0] - old[0], new[1] - old[1]


def test_what_is_read_and_written_on_two_disks_is_counted_for_each(
    new_group: NewGroup, start_inside: StartInside, blank_disks: list[Disk]
) -> None:
    first, second = blank_disks
    group = new_group()
    inside = start_inside(group)
    inside.do(_DIRECT)
    before = _rows(inside)
    inside.do(f"transfer({str(first.path)!r}, 5, True); transfer({str(second.path)!r}, 3, False)")
    after = _rows(inside)
    sectors = BLOCK // SECTOR
    assert _minus(after[first.name].writes, before[first.name].writes) == (5, 5 * sectors)
    assert _minus(after[second.name].reads, before[second.name].reads) == (3, 3 * sectors)
    assert after[second.name].writes == before[second.name].writes
    for disk in blank_disks:
        truth = group.io(disk.number)
        assert after[disk.name].number == disk.number
        assert after[disk.name].reads == (truth["rios"], truth["rbytes"] // SECTOR)
        assert after[disk.name].writes == (truth["wios"], truth["wbytes"] // SECTOR)
        assert set(after[disk.name].unknowable) == {0}


def test_what_others_do_on_the_same_disk_is_not_shown(
    new_group: NewGroup, start_inside: StartInside, blank_disks: list[Disk]
) -> None:
    disk = blank_disks[0]
    one, other = start_inside(new_group()), start_inside(new_group())
    other.do(f"{_DIRECT}\ntransfer({str(disk.path)!r}, 4, False)")
    assert _rows(one)[disk.name].reads == (0, 0)
    assert _rows(other)[disk.name].reads == (4, 4 * BLOCK // SECTOR)


def test_as_many_columns_as_the_hosts(new_group: NewGroup, start_inside: StartInside) -> None:
    shown = start_inside(new_group()).read("proc/diskstats").splitlines()
    hosts = Path("/proc/diskstats").read_text(encoding="ascii").splitlines()
    if not hosts:
        pytest.skip("this machine has no disks")
    assert {len(line.split()) for line in shown} == {len(line.split()) for line in hosts}


def test_discarded_sectors_are_counted(new_group: NewGroup, start_inside: StartInside, blank_disks: list[Disk]) -> None:
    disk = blank_disks[0]
    if not int(Path(f"/sys/block/{disk.name}/queue/discard_max_bytes").read_text(encoding="ascii")):
        pytest.skip(f"{disk.name} cannot discard")
    group = new_group()
    inside = start_inside(group)
    # And something else, since io.stat does not name a device on which nothing but discards was done.
    inside.do(f"""{_DIRECT}
transfer({str(disk.path)!r}, 1, False)
import fcntl, struct
disk = os.open({str(disk.path)!r}, os.O_WRONLY)
fcntl.ioctl(disk, 0x1277, struct.pack("QQ", 0, {MIB}))  # BLKDISCARD
os.close(disk)
""")
    counts = _rows(inside)[disk.name].counts
    truth = group.io(disk.number)
    assert truth["dbytes"] == MIB
    assert (counts[11], counts[13]) == (truth["dios"], MIB // SECTOR)


# --- The disk of the root file system --------------------------------------------------------------------------------


@contextlib.contextmanager
def _root_on(kind: str, disk: Disk, rootfs: Rootfs) -> Iterator[tuple[Rootfs, Path, Disk]]:
    """A root for containers, a folder on the same file system, and the device that the kernel accounts there."""
    with contextlib.ExitStack() as stack:
        if kind == "device mapper":
            if shutil.which("dmsetup") is None:
                pytest.skip("dmsetup is not installed")
            if not Path("/dev/mapper/control").exists():
                pytest.skip("this kernel has no device mapper")
            disk = stack.enter_context(disks.linear(disk, session.new_name()))
        point = stack.enter_context(disks.ext4(disk.path))
        if kind == "overlay":
            for name in ("upper", "work", "merged"):
                (point / name).mkdir()
            options = f"lowerdir={rootfs.path},upperdir={point}/upper,workdir={point}/work"
            merged = stack.enter_context(disks.mounted("overlay", "overlay", point / "merged", options))
            yield replace(rootfs, path=merged), point, disk
        else:
            yield Rootfs.create(point / "root"), point, disk


@pytest.mark.parametrize("kind", ["ext4", "overlay", "device mapper"])
def test_the_disk_under_the_root_is_sda_with_what_was_done_on_it(
    blank_disks: list[Disk], rootfs: Rootfs, daemon: Daemon, kind: str
) -> None:
    with _root_on(kind, max(blank_disks, key=lambda disk: disk.size_bytes), rootfs) as (root, point, device):
        with contextlib.contextmanager(starter)(usable(engines.RUNC), root, daemon.mount) as start:
            container = start(Limits(memory_bytes=MEMORY_BYTES))
            inside = Inside.join(container, daemon.mount)
            try:
                file = point / "data"
                inside.do(_DIRECT)
                # Written once before, so that the second time there is nothing to allocate.
                inside.do(f"open({str(file)!r}, 'wb').write(bytes(16 * {BLOCK})); os.sync()")
                before = _rows(inside)
                inside.do(f"transfer({str(file)!r}, 16, True); transfer({str(file)!r}, 8, False)")
                after = _rows(inside)
            finally:
                inside.stop()
            partitions = container.read("/proc/partitions").splitlines()[2:]
        assert list(after) == ["sda"]
        assert after["sda"].number == device.number
        requests, sectors = _minus(after["sda"].reads, before["sda"].reads)
        assert (requests, sectors) == (8, 8 * BLOCK // SECTOR)
        requests, sectors = _minus(after["sda"].writes, before["sda"].writes)
        assert 16 <= requests <= 20  # and perhaps the time of the last change
        assert 16 * BLOCK // SECTOR <= sectors <= 17 * BLOCK // SECTOR
        assert [line.split()[2:] for line in partitions] == [[str(device.size_bytes // 1024), "sda"]]


def test_a_second_disk_has_its_nodes_name_and_its_own_traffic(
    blank_disks: list[Disk], rootfs: Rootfs, daemon: Daemon
) -> None:
    """A node in the container's /dev shows it; what was done on it before is there as well."""
    first, second = sorted(blank_disks, key=lambda disk: -disk.size_bytes)
    with (
        _root_on("ext4", first, rootfs) as (root, _, _),
        contextlib.contextmanager(starter)(usable(engines.RUNC), root, daemon.mount) as start,
    ):
        container = start(Limits(memory_bytes=MEMORY_BYTES), block_devices=[("/dev/xvdq", second.number)])
        # Opened by us: runc lets nothing in the cgroup open a device.
        descriptor = os.open(second.path, os.O_RDONLY | os.O_DIRECT)
        try:
            inside = Inside.join(container, daemon.mount, (descriptor,))
        finally:
            os.close(descriptor)
        try:
            inside.do(f"{_DIRECT}\nfor number in range(7): os.preadv({descriptor}, [block], number * {BLOCK})")
            rows = _rows(inside)
        finally:
            inside.stop()
        group = Group(container.cgroup.directories["io"])
        assert list(rows) == ["sda", "xvdq"]
        assert (rows["sda"].number, rows["xvdq"].number) == (first.number, second.number)
        assert rows["xvdq"].reads == (7, 7 * BLOCK // SECTOR)
        assert rows["sda"].reads == (group.io(first.number)["rios"], group.io(first.number)["rbytes"] // SECTOR)


def test_vmstat_adds_up_what_two_disks_did(start_unshare: Start, daemon: Daemon, blank_disks: list[Disk]) -> None:
    container = start_unshare(Limits(memory_bytes=MEMORY_BYTES))
    inside = Inside.join(container, daemon.mount)
    first, second = blank_disks
    try:
        inside.do(f"{_DIRECT}\ntransfer({str(first.path)!r}, 6, False); transfer({str(second.path)!r}, 2, True)")
    finally:
        inside.stop()
    lines = container.output(["vmstat", "-d"]).splitlines()[2:]
    rows = {words[0]: [int(word) for word in words[1:]] for words in map(str.split, lines)}
    assert rows[first.name][:4] == [6, 0, 6 * BLOCK // SECTOR, 0]
    assert rows[second.name][4:8] == [2, 0, 2 * BLOCK // SECTOR, 0]
    summary = container.output(["vmstat", "-D"])
    totals = {name.strip(): int(number) for number, name in (line.split(maxsplit=1) for line in summary.splitlines())}
    assert totals["read sectors"] == sum(row[2] for row in rows.values())
    assert totals["written sectors"] == sum(row[6] for row in rows.values())
