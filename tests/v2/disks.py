"""Disks to write on: those of the machine on which nobody can lose anything, and file systems on them."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests import session
from tests.session import mounts

_MOST_BYTES = 256 << 20
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Disk:
    name: str
    number: int
    size_bytes: int

    @classmethod
    def of(cls, folder: Path) -> "Disk":
        """From its folder in /sys/block."""
        major, minor = (int(number) for number in (folder / "dev").read_text(encoding="ascii").split(":"))
        sectors = int((folder / "size").read_text(encoding="ascii"))
        return cls(folder.name, os.makedev(major, minor), sectors * 512)

    @property
    def path(self) -> Path:
        return Path("/dev", self.name)

    def is_blank(self) -> bool:
        """Whether it is small, nobody uses it, and there is nothing but zeros on it."""
        if not 0 < self.size_bytes <= _MOST_BYTES or not self.path.is_block_device():
            return False
        try:
            # O_EXCL: refused while it is mounted, is swap, or belongs to a device mapper or RAID.
            descriptor = os.open(self.path, os.O_RDONLY | os.O_EXCL)
        except OSError:
            return False
        with os.fdopen(descriptor, "rb", buffering=0) as disk:
            return all(not any(chunk) for chunk in iter(lambda: disk.read(_CHUNK), b""))

    def wipe(self) -> None:
        """Blank again, for the next run."""
        descriptor = os.open(self.path, os.O_WRONLY)
        try:
            for offset in range(0, self.size_bytes, _CHUNK):
                os.pwrite(descriptor, bytes(min(_CHUNK, self.size_bytes - offset)), offset)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def blank_disks() -> list[Disk]:
    disks = [Disk.of(folder) for folder in sorted(Path("/sys/block").iterdir()) if not folder.name.startswith("loop")]
    return [disk for disk in disks if disk.is_blank()]


@contextmanager
def ext4(device: Path) -> Iterator[Path]:
    """A new file system on it, mounted."""
    make = ["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", str(device)]
    subprocess.run(make, stdin=subprocess.DEVNULL, check=True, timeout=60)
    with session.temporary_directory() as point, mounted("ext4", str(device), point):
        yield point


@contextmanager
def mounted(kind: str, source: str, point: Path, options: str = "defaults") -> Iterator[Path]:
    """A mount, taken away again."""
    point.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", kind, "-o", options, source, str(point)], check=True, timeout=60)
    try:
        yield point
    finally:
        # Whoever had copied it with a mount namespace has ended, but such a namespace takes a moment to go.
        deadline = time.monotonic() + 20
        while any(mount.point == point for mount in mounts()):
            done = subprocess.run(["umount", str(point)], check=False, timeout=60, capture_output=True)
            if done.returncode and time.monotonic() > deadline:
                raise RuntimeError(done.stderr.decode())


@contextmanager
def linear(disk: Disk, name: str) -> Iterator[Disk]:
    """A device mapper device that is the whole of a disk."""
    table = f"0 {disk.size_bytes // 512} linear {disk.path} 0"
    subprocess.run(["dmsetup", "create", name, "--noudevsync", "--table", table], check=True, timeout=60)
    try:
        made = (
            folder
            for folder in Path("/sys/block").glob("dm-*")
            if (folder / "dm/name").read_text(encoding="utf-8").strip() == name
        )
        yield Disk.of(next(made))
    finally:
        subprocess.run(["dmsetup", "remove", "--noudevsync", "--retry", name], check=True, timeout=60)
