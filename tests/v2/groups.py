"""Control groups of the tests on v2: their files, read and written by their names."""

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Group:
    """One cgroup; what it says is the truth that views are compared with."""

    path: Path

    def make(self, name: str) -> "Group":
        """A cgroup below this one, with every controller that there is; this one may hold no process then."""
        for controller in self.read("cgroup.controllers").split():
            with contextlib.suppress(OSError):
                self.write("cgroup.subtree_control", f"+{controller}")
        child = Group(self.path / name)
        child.path.mkdir()
        return child

    def has(self, file: str) -> bool:
        return (self.path / file).exists()

    def read(self, file: str) -> str:
        return (self.path / file).read_text(encoding="ascii")

    def write(self, file: str, text: str | int) -> None:
        (self.path / file).write_text(str(text), encoding="ascii")

    def number(self, file: str) -> int:
        return int(self.read(file))

    def table(self, file: str) -> dict[str, int]:
        """A file of lines ``key number``."""
        return {key: int(value) for key, value in (line.split() for line in self.read(file).splitlines())}

    def move(self, pid: int) -> None:
        """Put a process into it."""
        self.write("cgroup.procs", pid)

    def io(self, device: int) -> dict[str, int]:
        """What it did on a device: rbytes, wbytes, rios, wios, dbytes, dios; all 0 before it did anything."""
        number = f"{os.major(device)}:{os.minor(device)}"
        counts = dict.fromkeys(("rbytes", "wbytes", "rios", "wios", "dbytes", "dios"), 0)
        for line in self.read("io.stat").splitlines():
            key, *pairs = line.split()
            if key == number:
                counts |= {name: int(value) for name, value in (pair.split("=") for pair in pairs)}
        return counts

    def stalled_usec(self, resource: str) -> int:
        """How long some of its tasks waited for cpu, memory or io."""
        return stalled_usec(self.read(f"{resource}.pressure"))


def stalled_usec(pressure: str) -> int:
    """``total=`` of the line ``some``."""
    return int(pressure.splitlines()[0].rpartition("total=")[2])
