"""An engine of the same shape as the real one whose texts, delays and mistakes a test decides.

It stands in where the file system's own bookkeeping is tested; the views themselves are tested with the real engine.
"""

# ruff: noqa: ARG005 - the texts and mistakes that a test makes up need not depend on who reads what

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, cast

from procview._fast.engine import PROC_VIEWS, Engine

CPU_DIR = "sys/devices/system/cpu"
NODE_DIR = "sys/devices/system/node"


@dataclass
class FakeView:
    """Renders whatever ``text`` returns."""

    path: str
    text: Callable[[], bytes]
    fallback: str | None = None
    blocking: bool = False
    owner: int = 0

    def render(self) -> bytes:
        return self.text()


@dataclass
class FakeEngine:
    """Every view of every caller is ``text(pid, path)``; pid 0 gets ``host <path>``."""

    text: Callable[[int, str], bytes] = lambda pid, path: f"{pid} {path}\n".encode()
    cpus_of: dict[int, int] = field(default_factory=dict)
    nodes_of: dict[int, int] = field(default_factory=dict)
    has_nodes: bool = True
    pressure_of: Callable[[int], bool] = lambda pid: True
    opening: Callable[[int], None] = lambda pid: None
    open_blocking: bool = False
    render_blocking: bool = False
    fallback: str | None = None
    missing: frozenset[str] = frozenset()
    owner_of: Callable[[int], int] = lambda pid: os.stat(f"/proc/{pid}/ns/pid").st_ino if pid else 0
    absent_bits: int = 0

    def callers_were_kept(self) -> bool:
        return False

    def absent_controllers(self) -> list[str]:
        return []

    def as_engine(self) -> Engine:
        """Itself, as what the file system takes."""
        return cast("Engine", self)

    def _files(self, pid: int) -> set[str]:
        files = {f"proc/{name}" for name in PROC_VIEWS if self.pressure_of(pid) or not name.startswith("pressure")}
        files |= {f"{CPU_DIR}/{name}" for name in ("kernel_max", "offline", "online", "possible", "present", "uevent")}
        for cpu in range(self.cpus_of.get(pid, 4)):
            files |= {f"{CPU_DIR}/cpu{cpu}/online", f"{CPU_DIR}/cpu{cpu}/topology/core_id"}
        if self.has_nodes:
            files |= {f"{NODE_DIR}/{name}" for name in ("has_cpu", "online", "possible")}
            files |= {f"{NODE_DIR}/node{node}/meminfo" for node in range(self.nodes_of.get(pid, 2))}
        return files - self.missing

    def _links(self, pid: int) -> set[str]:
        """All CPUs are in node 0."""
        cpus = range(self.cpus_of.get(pid, 4)) if self.has_nodes else ()
        return {f"{NODE_DIR}/node0/cpu{cpu}" for cpu in cpus} | {f"{CPU_DIR}/cpu{cpu}/node0" for cpu in cpus}

    def open(self, pid: int, path: str, *, search: bool = True) -> FakeView:
        if not search and self.open_blocks(pid):
            raise BlockingIOError(errno.EAGAIN, path)
        self.opening(pid)
        if self.kind(pid, path) == "dir":
            raise IsADirectoryError(errno.EISDIR, path)
        if pid == 0:
            return FakeView(path, lambda: f"host {path}\n".encode(), fallback="unknown-caller")
        return FakeView(path, lambda: self.text(pid, path), self.fallback, self.render_blocking, self.owner_of(pid))

    def open_blocks(self, pid: int) -> bool:
        return self.open_blocking and pid != 0

    def kind(self, pid: int, path: str) -> Literal["file", "dir", "link"]:
        files = self._files(pid)
        if path in files:
            return "file"
        if path in self._links(pid):
            return "link"
        if path == "proc/pressure" or any(file.startswith(f"{path}/") for file in files):
            return "dir"
        raise FileNotFoundError(errno.ENOENT, path)

    def listdir(self, pid: int, path: str) -> list[str]:
        names = {
            file[len(path) + 1 :].split("/")[0]
            for file in self._files(pid) | self._links(pid)
            if file.startswith(f"{path}/")
        }
        if not names and path != "proc/pressure":
            raise FileNotFoundError(errno.ENOENT, path)
        return sorted(names, key=lambda name: (len(name), name))
