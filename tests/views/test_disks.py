"""/proc/diskstats and /proc/partitions: which devices, under which names, with which numbers."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.hosts.build import Tree, build
from tests.hosts.known import SYSTEM_DISK
from tests.hosts.model import Container, DeviceIo, DeviceNode, Disk, Host, Layout, Level, Partition
from tests.hosts.trees import fresh
from tests.oracle.disks import diskstats, partitions, shown
from tests.views.strategies import device_ios, disks

pytest.importorskip("procview._fast.engine", reason="the engine is not built")
from procview._fast.engine import Engine

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="device nodes can only be made as root")

DATA_DISK = Disk(
    "sdb", 8, 16, 2_000_000, (Partition("sdb1", 17, 1_000_000),), sysfs_dir="pci0000:00/0000:00:03.0/ata1/block"
)
OTHER_DISK = Disk("nvme0n1", 259, 0, 99_999_999, sysfs_dir="pci0000:00/0000:00:04.0/nvme")
MAPPED = Disk("dm-3", 253, 3, 5_000, sysfs_dir="virtual/block")
HOST = Host(disks=(SYSTEM_DISK, DATA_DISK, OTHER_DISK, MAPPED), has_cpu_folders=False)
IO = (
    DeviceIo(254, 0, 4096, 8192, 1, 2, 512, 1),
    DeviceIo(8, 16, 1024, 0, 5),
    DeviceIo(259, 0, 10**15, 10**15 + 511, 10**9, 10**9),
    DeviceIo(253, 3, 2048, 0, 2),
)
ON_PARTITION = ("100 99 254:1 /containers/web / rw,relatime - ext4 /dev/vda1 rw",)
ON_MAPPER = ("100 99 253:3 / / rw,relatime - xfs /dev/mapper/vg-root rw",)
OVERLAY_OPTIONS = r"rw,lowerdir=/var/lib/c/l1:/var/lib/c/l2,upperdir=/var/lib/c/a\040b/upper,workdir=/var/lib/c/work"
ON_OVERLAY = (f"100 99 0:40 / / rw,relatime - overlay overlay {OVERLAY_OPTIONS}",)
HOST_OVERLAY_MOUNTS = (
    "23 20 8:17 / /var/lib/c rw shared:9 - ext4 /dev/sdb1 rw",
    "24 20 259:0 / /var/lib/c/other rw shared:10 - ext4 /dev/nvme0n1 rw",
)
ON_BTRFS = ("100 99 0:45 /@ / rw,relatime - btrfs /dev/sdb1 rw,subvol=/@",)
ON_TMPFS = ("100 99 0:41 / / rw,relatime - tmpfs tmpfs rw",)


def container(mounts: tuple[str, ...], dev: tuple[DeviceNode, ...] = (), io: tuple[DeviceIo, ...] = IO) -> Container:
    return Container(levels=(Level("c"),), mounts=mounts, dev=dev, io=io)


def both(tree: Tree, of: Container, **settings: str) -> tuple[str, str]:
    """(diskstats, partitions) as the engine shows them."""
    engine = Engine(**tree.roots)
    engine.configure(**settings)  # type: ignore[arg-type]
    texts = [engine.open(of.pid, f"proc/{name}").render().decode() for name in ("diskstats", "partitions")]
    engine.close()
    return texts[0], texts[1]


@given(layout=st.sampled_from(list(Layout)), columns=st.sampled_from([11, 15, 17]), on=disks(), data=st.data())
def test_numbers_equal_the_oracle(
    scratch: Path, layout: Layout, columns: int, on: tuple[Disk, ...], data: st.DataObject
) -> None:
    """The root disk alone (no device nodes), with any numbers up to 2^64-1."""
    host = Host(disks=on, diskstats_columns=columns, has_cpu_folders=False)
    root = data.draw(st.sampled_from([None, *on]))
    mounts = ON_TMPFS if root is None else (f"100 99 {root.major}:{root.minor} / / rw - ext4 /dev/root rw",)
    if root is not None and root.partitions and data.draw(st.booleans()):
        mounts = (f"100 99 {root.major}:{root.partitions[-1].minor} / / rw - ext4 /dev/root rw",)
    of = container(mounts, io=data.draw(device_ios(on)))
    with fresh(scratch) as folder:
        texts = both(build(folder, layout, host, of), of)
    devices = shown(host, (), root)
    assert texts == (diskstats(host, of, devices), partitions(devices))


@pytest.mark.parametrize(
    ("mounts", "root"),
    [
        (ON_PARTITION, SYSTEM_DISK),
        (ON_MAPPER, MAPPED),
        (ON_OVERLAY, DATA_DISK),
        (ON_BTRFS, DATA_DISK),
        (ON_TMPFS, None),
    ],
    ids=["partition", "device-mapper", "overlay", "btrfs", "tmpfs"],
)
@pytest.mark.parametrize("layout", list(Layout))
def test_root_disk(scratch: Path, layout: Layout, mounts: tuple[str, ...], root: Disk | None) -> None:
    host = replace(HOST, mounts=HOST_OVERLAY_MOUNTS)
    of = container(mounts)
    with fresh(scratch) as folder:
        texts = both(build(folder, layout, host, of), of)
    devices = shown(host, (), root)
    assert texts == (diskstats(host, of, devices), partitions(devices))
    assert len(devices) == (root is not None)


def test_the_disk_below_an_overlay_is_looked_up_in_the_hosts_mounts_wherever_the_daemon_is(scratch: Path) -> None:
    """One that is shut in has others over them, such as an empty folder over /home."""
    host = replace(HOST, mounts=(*HOST_OVERLAY_MOUNTS, "25 20 0:99 / /var/lib/c rw - tmpfs tmpfs rw"))
    of = container(ON_OVERLAY)
    with fresh(scratch) as folder:
        tree = build(folder, Layout.V2, host, of)
        assert partitions_of(tree, of) == partitions([])
        tree.write("proc/77/mountinfo", "".join(f"{line}\n" for line in HOST_OVERLAY_MOUNTS))
        assert partitions_of(tree, of, mounts_of="77") == partitions(shown(host, (), DATA_DISK))


def partitions_of(tree: Tree, of: Container, mounts_of: str = "self") -> str:
    engine = Engine(**tree.roots, mounts_of=mounts_of)
    text = engine.open(of.pid, "proc/partitions").render().decode()
    engine.close()
    return text


@needs_root
@pytest.mark.parametrize(
    ("nodes", "names"),
    [
        # no block device, and a device that the host has not
        ((DeviceNode("null", 1, 3, "c"), DeviceNode("gone", 9, 9)), ["sda"]),
        # the root disk's node alone: it is called sda all the same
        ((DeviceNode("xvda", 254, 0),), ["sda"]),
        # other disks under their nodes' names, a partition too; the root disk comes first
        (
            (DeviceNode("data", 8, 16), DeviceNode("data1", 8, 17), DeviceNode("fast", 259, 0)),
            ["sda", "data", "data1", "fast"],
        ),
        # sda is another disk: the root disk is called as its own node
        ((DeviceNode("sda", 8, 16), DeviceNode("rootdisk", 254, 0)), ["rootdisk", "sda"]),
        # or, without one, the first free name
        ((DeviceNode("sda", 8, 16), DeviceNode("sdb", 259, 0)), ["sdc", "sda", "sdb"]),
    ],
    ids=["none", "own-node", "others", "clash-own-node", "clash-first-free"],
)
def test_device_nodes(scratch: Path, nodes: tuple[DeviceNode, ...], names: list[str]) -> None:
    of = container(ON_PARTITION, nodes)
    with fresh(scratch) as folder:
        tree = build(folder, Layout.V2, HOST, of)
        tree.make_device_nodes(of)
        texts = both(tree, of)
    devices = shown(HOST, nodes, SYSTEM_DISK)
    assert [device.name for device in devices] == names
    assert texts == (diskstats(HOST, of, devices), partitions(devices))


def test_hostile_dev(scratch: Path) -> None:
    """Links out of the container or to themselves, thousands of entries: nothing of the host shows, and it ends."""
    of = container(ON_PARTITION)
    with fresh(scratch) as folder:
        tree = build(folder, Layout.V2, HOST, of)
        dev = folder / f"rootfs-{of.init_pid}" / "dev"
        (dev / "sdb").symlink_to("/dev/sda")
        (dev / "loop").symlink_to("loop")
        os.mkfifo(dev / "fifo")
        for number in range(5000):
            (dev / f"x{number}").touch()
        texts = both(tree, of)
        assert [line.split()[2] for line in texts[0].splitlines()] == ["sda"]
        for entry in dev.iterdir():
            entry.unlink()
        dev.rmdir()
        dev.symlink_to("/dev")  # the host's: absolute, so inside the container it names the container's own
        assert [line.split()[2] for line in both(tree, of)[0].splitlines()] == ["sda"]


def test_setting_host(scratch: Path) -> None:
    """Host names, and all devices that the cgroup has done I/O on."""
    of = container(ON_TMPFS, io=IO[:2])
    with fresh(scratch) as folder:
        stats, parts = both(build(folder, Layout.V2, HOST, of), of, devices="host")
    assert sorted(line.split()[2] for line in stats.splitlines()) == ["sdb", "vda"]
    assert sorted(line.split()[3] for line in parts.splitlines()[2:]) == ["sdb", "vda"]


@pytest.mark.parametrize("layout", list(Layout))
def test_io_controller_absent(scratch: Path, layout: Layout) -> None:
    """Not enabled down to the container (v2) or not mounted (v1): the host's counts of its disk; it is reported."""
    of = replace(container(ON_PARTITION), levels=(Level("c", absent=frozenset(["io"])),))
    with fresh(scratch) as folder:
        tree = build(folder, layout, HOST, of)
        engine = Engine(**tree.roots)
        words = engine.open(of.pid, "proc/diskstats").render().decode().split()
        absent = engine.absent_controllers()
        engine.close()
    assert words[2] == "sda"
    assert [int(words[3 + column]) for column in (0, 2, 4, 6)] == [100, 102, 104, 106]
    assert absent == ["io"]
