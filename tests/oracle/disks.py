"""Section 7: which devices a container sees, and under which names."""

from __future__ import annotations

from dataclasses import dataclass
from string import ascii_lowercase

from tests.hosts.model import Container, DeviceIo, DeviceNode, Disk, Host


@dataclass(frozen=True)
class Shown:
    """A device under the name that the container sees."""

    name: str
    major: int
    minor: int
    size_sectors: int


def sizes(host: Host) -> dict[tuple[int, int], int]:
    """Sectors of each device and partition of the host."""
    found = {}
    for disk in host.disks:
        found[disk.major, disk.minor] = disk.size_sectors
        found |= {(disk.major, part.minor): part.size_sectors for part in disk.partitions}
    return found


def shown(host: Host, nodes: tuple[DeviceNode, ...], root: Disk | None) -> list[Shown]:
    """The root disk first, then whole devices and partitions in device-number order.

    ``root`` is the whole device behind the root file system (None: not on a block device). It is called sda. If a node
    of another device has that name, it keeps its own node's, else it takes the first free of sda, sdb, ...
    """
    size = sizes(host)
    blocks = {(n.major, n.minor): n.name for n in sorted(nodes, key=lambda n: n.name, reverse=True) if n.kind == "b"}
    known = {number: name for number, name in blocks.items() if number in size}
    found = []
    if root is not None:
        number = (root.major, root.minor)
        own = known.pop(number, None)
        taken = set(known.values())
        name = "sda"
        if name in taken:
            name = own or next(f"sd{letter}" for letter in ascii_lowercase if f"sd{letter}" not in taken)
        found.append(Shown(name, *number, root.size_sectors))
    return found + [Shown(name, *number, size[number]) for number, name in sorted(known.items())]


def diskstats(host: Host, container: Container, devices: list[Shown]) -> str:
    """One line for each device; what a cgroup does not count is 0, and there are as many columns as the host prints."""
    done = {(io.major, io.minor): io for io in container.io}
    return "".join(
        f"{device.major:>4} {device.minor:>7} {device.name} "
        + " ".join(map(str, columns(done.get((device.major, device.minor), DeviceIo(0, 0)))[: host.diskstats_columns]))
        + "\n"
        for device in devices
    )


def columns(io: DeviceIo) -> list[int]:
    """The kernel's 17: reads, merged, sectors, ms; writes alike; in flight, ms, weighted ms; discards; flushes."""
    return [
        *(io.rios, 0, io.rbytes // 512, 0),
        *(io.wios, 0, io.wbytes // 512, 0),
        *(0, 0, 0),
        *(io.dios, 0, io.dbytes // 512, 0),
        *(0, 0),
    ]


def partitions(devices: list[Shown]) -> str:
    """Sizes in blocks of 1 KiB; the kernel leaves empty devices out. An empty list leaves the header alone."""
    return "major minor  #blocks  name\n\n" + "".join(
        f"{device.major:>4}  {device.minor:>7} {device.size_sectors // 2:>10} {device.name}\n"
        for device in devices
        if device.size_sectors
    )
