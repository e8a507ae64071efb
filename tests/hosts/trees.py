"""Host trees as single text files, so that a recording can be read, diffed and reviewed as one.

# kernel: 6.12.117           what the recording is, ``key: value``
@@@ proc/meminfo             a file, followed by its text; a last line without newline ends in the mark below
@@@ proc/1/ns/pid -> pid:[4026531836]
@@@ rootfs/dev/vda b 254:0   a device node
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

MARK = "@@@ "
NO_NEWLINE = "@@@(no newline)"

RECORDED = Path(__file__).parent / "recorded"


@dataclass
class TreeText:
    """A tree in memory: files as text, links and device nodes (kind, major, minor) by path."""

    notes: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    nodes: dict[str, tuple[str, int, int]] = field(default_factory=dict)

    def dump(self) -> str:
        parts = [f"# {key}: {value}\n" for key, value in self.notes.items()]
        for path in sorted({*self.files, *self.links, *self.nodes}):
            if path in self.links:
                parts.append(f"{MARK}{path} -> {self.links[path]}\n")
            elif path in self.nodes:
                kind, major, minor = self.nodes[path]
                parts.append(f"{MARK}{path} {kind} {major}:{minor}\n")
            else:
                text = self.files[path]
                parts.append(f"{MARK}{path}\n{text}")
                if text and not text.endswith("\n"):
                    parts.append(f"\n{NO_NEWLINE}\n")
        return "".join(parts)

    @classmethod
    def parse(cls, text: str) -> TreeText:
        tree = cls()
        path = ""
        for line in text.split("\n")[:-1]:
            if line.startswith(MARK):
                path = line.removeprefix(MARK)
                if " -> " in path:
                    name, _, target = path.partition(" -> ")
                    tree.links[name] = target
                elif path[-1].isdigit() and path.rsplit(" ", 2)[1:2] in (["b"], ["c"]):
                    name, kind, numbers = path.rsplit(" ", 2)
                    major, minor = numbers.split(":")
                    tree.nodes[name] = (kind, int(major), int(minor))
                else:
                    tree.files[path] = ""
            elif line == NO_NEWLINE:
                tree.files[path] = tree.files[path].removesuffix("\n")
            elif not path:
                key, _, value = line.removeprefix("# ").partition(": ")
                tree.notes[key] = value
            else:
                tree.files[path] += line + "\n"
        return tree

    @classmethod
    def load(cls, name: str) -> TreeText:
        """A recording of tests/hosts/recorded by its name without .tree."""
        return cls.parse((RECORDED / f"{name}.tree").read_bytes().decode("utf-8", "surrogateescape"))

    def write(self, base: Path) -> None:
        """Unpack below a folder. Device nodes are left out unless root asks."""
        for path, text in self.files.items():
            where = base / path
            where.parent.mkdir(parents=True, exist_ok=True)
            where.write_bytes(text.encode("utf-8", "surrogateescape"))
        for path, target in self.links.items():
            where = base / path
            where.parent.mkdir(parents=True, exist_ok=True)
            where.symlink_to(target)
        for path, (kind, major, minor) in self.nodes.items():
            where = base / path
            where.parent.mkdir(parents=True, exist_ok=True)
            if os.geteuid() == 0:
                os.mknod(where, (0o060000 if kind == "b" else 0o020000) | 0o600, os.makedev(major, minor))

    def roots(self, base: Path) -> dict[str, str | int]:
        """What an Engine is made from, once written to base."""
        return {
            "proc": str(base / "proc"),
            "sys": str(base / "sys"),
            "cgroup": str(base / "cgroup"),
            "boottime_ns": int(self.notes["boottime_ns"]),
        }

    @property
    def pid(self) -> int:
        """The process whose view is the recorded one."""
        return int(self.notes["pid"])


@contextmanager
def fresh(scratch: Path) -> Iterator[Path]:
    """An empty folder below scratch that is gone afterwards."""
    with TemporaryDirectory(dir=scratch) as folder:
        yield Path(folder)
