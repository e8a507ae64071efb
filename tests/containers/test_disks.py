"""The disks of a container: its root under its own name, its own traffic only."""

import os
import shlex
from pathlib import Path

import pytest

from tests import session
from tests.containers.conftest import Start
from tests.containers.engines import Container


def _whole_disk(path: str) -> tuple[int, int]:
    """Device number of the disk that holds a path, and its size in KiB."""
    device = os.stat(path).st_dev
    link = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}")
    if not link.exists():
        pytest.skip(f"the file system of {path} is on no block device of this machine")
    folder = link.resolve()
    if (folder / "partition").exists():
        folder = folder.parent
    major, minor = (folder / "dev").read_text(encoding="ascii").split(":")
    return os.makedev(int(major), int(minor)), int((folder / "size").read_text(encoding="ascii")) // 2


def _another_device(than: int) -> int:
    """Device number of a block device of this machine; it need not work, since nobody opens it."""
    disks = sorted(Path("/sys/block").iterdir(), key=lambda disk: -int((disk / "size").read_text(encoding="ascii")))
    for disk in disks:
        major, minor = (int(number) for number in (disk / "dev").read_text(encoding="ascii").split(":"))
        if os.makedev(major, minor) != than:
            return os.makedev(major, minor)
    pytest.skip("this machine has one block device")


def _in_order(devices: list[tuple[str, int]], path: str) -> list[str]:
    """The names that ``path`` lists: as with the kernel's, there are no devices without a medium in partitions."""
    sizes = {name: Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/size") for name, device in devices}
    return [name for name, _ in devices if "diskstats" in path or int(sizes[name].read_text(encoding="ascii"))]


def _names(container: Container, path: str) -> list[str]:
    return [
        line.split()[2 if "diskstats" in path else 3] for line in container.read(path).splitlines()[_HEADER[path] :]
    ]


_HEADER = {"/proc/diskstats": 0, "/proc/partitions": 2}


@pytest.mark.parametrize("path", _HEADER)
def test_the_disk_of_the_root_is_shown_as_sda_and_no_other(start_runc: Start, path: str) -> None:
    _whole_disk("/var/tmp")
    assert _names(start_runc(), path) == ["sda"]


def test_the_root_disk_has_the_size_of_the_hosts(start_runc: Start) -> None:
    _, size_kb = _whole_disk("/var/tmp")
    row = start_runc().read("/proc/partitions").splitlines()[2].split()
    assert int(row[2]) == size_kb


@pytest.mark.parametrize("path", _HEADER)
def test_a_device_node_is_shown_under_its_own_name(start_runc: Start, path: str) -> None:
    root, _ = _whole_disk("/var/tmp")
    other = _another_device(root)
    container = start_runc(block_devices=[("/dev/xvdq", other)])
    assert _names(container, path) == _in_order([("sda", root), ("xvdq", other)], path)


@pytest.mark.parametrize("path", _HEADER)
def test_the_root_disk_makes_way_for_a_node_called_sda(start_runc: Start, path: str) -> None:
    root, _ = _whole_disk("/var/tmp")
    other = _another_device(root)
    container = start_runc(block_devices=[("/dev/sda", other), ("/dev/xvdr", root)])
    assert _names(container, path) == _in_order([("xvdr", root), ("sda", other)], path)


def test_what_the_container_writes_is_counted(start_unshare: Start) -> None:
    disk, _ = _whole_disk("/var/tmp")
    with session.temporary_directory() as directory:
        container = start_unshare()
        if not container.cgroup.is_v2:  # there the kernel counts only what it might have to slow down
            rule = container.cgroup.directories["blkio"] / "blkio.throttle.write_bps_device"
            rule.write_text(f"{os.major(disk)}:{os.minor(disk)} {1 << 40}", encoding="ascii")

        def written_sectors() -> int:
            return sum(int(line.split()[9]) for line in container.read("/proc/diskstats").splitlines())

        before = written_sectors()
        file = shlex.quote(f"{directory}/data")
        container.run(["sh", "-c", f"dd if=/dev/zero of={file} bs=1M count=8 conv=fsync oflag=direct"])
        assert written_sectors() - before >= 8 * 2048
