"""The tree of the mount: which paths there are, their inode numbers, and which of them depend on who asks.

Opens nothing itself. Inode numbers are a fixed function of the path, so that a daemon started anew can go on where a
crashed one stopped.
"""

import errno
import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

from procview._fast.engine import PROC_VIEWS, Engine
from procview._fast.state import State

ROOT_INODE = 1
"""The same as pyfuse3.ROOT_INODE; FUSE fixes it."""

CPU_DIR = "sys/devices/system/cpu"
CPU_FILES = ("kernel_max", "offline", "online", "possible", "present", "uevent")
"""Files of :data:`CPU_DIR` that every caller has, if the host has them."""

NODE_DIR = "sys/devices/system/node"
NODE_FILES = ("has_cpu", "has_generic_initiator", "has_memory", "has_normal_memory", "online", "possible")
"""Files of :data:`NODE_DIR` that every caller has, if the host has them."""

_PRESSURE_DIR = "proc/pressure"
_CPU_NUMBER = re.compile(rf"{CPU_DIR}/cpu(0|[1-9][0-9]{{0,7}})", re.ASCII)
_NODE_NUMBER = re.compile(rf"{NODE_DIR}/node(0|[1-9][0-9]{{0,7}})", re.ASCII)
_OF_CALLERS = (f"{CPU_DIR}/cpu", f"{NODE_DIR}/node")
"""How paths begin that some callers have and others have not; or another one under that name."""


@dataclass(frozen=True, slots=True)
class Node:
    """One path of the mount. ``path`` is "" for the root."""

    inode: int
    path: str
    is_dir: bool
    per_caller: bool
    """Whether some callers do not have it, so that no name look-up of it may be cached."""
    is_link: bool = False

    @property
    def target(self) -> str:
        """Where the link leads. The only ones are cpuN/nodeN and nodeN/cpuN, each to the other tree."""
        name = self.path.rpartition("/")[2]
        return f"../../{name.rstrip('0123456789')}/{name}"


def inode_of(path: str) -> int:
    """The inode number of ``path``.

    What every container has, and the directories cpuN and nodeN, get numbers below 2^32: a 32-bit program without large
    file support fails with EOVERFLOW in stat(2) and readdir(3) on anything larger. The many files below them have room
    for collisions to be impossible in practice. The kinds cannot collide with each other.
    """
    if path == "":
        return ROOT_INODE
    cpu = _CPU_NUMBER.fullmatch(path)
    if cpu is not None:
        return 1 << 28 | int(cpu[1])
    node = _NODE_NUMBER.fullmatch(path)
    if node is not None:
        return 1 << 29 | int(node[1])
    if path.startswith(_OF_CALLERS):
        return 1 << 63 | _hash(path, 8)
    return 1 << 31 | _hash(path, 4)


def _hash(path: str, size_bytes: int) -> int:
    return int.from_bytes(hashlib.blake2b(os.fsencode(path), digest_size=size_bytes).digest())


class Tree:
    """The nodes known so far: the static ones from the start, those of single callers as they are looked up.

    Only paths that the engine confirms are added, so the host's number of CPUs bounds the table; it is never shrunk,
    which is why FORGET needs no bookkeeping. With ``state`` those of single callers are remembered there, and found
    again: the kernel may know them only by their number.
    """

    def __init__(self, engine: Engine, state: State | None = None) -> None:
        self._engine = engine
        self._state = state
        self._by_inode: dict[int, Node] = {}
        self._by_path: dict[str, Node] = {}
        self._names: dict[str, list[str]] = {}
        for path in ("", "proc", "sys", "sys/devices", "sys/devices/system", CPU_DIR):
            self._add_static(path, is_dir=True)
        # Pid 0 is nobody, so these are the host's files: a kernel without swap has no /proc/swaps for anyone.
        for path in [f"proc/{name}" for name in PROC_VIEWS] + [f"{CPU_DIR}/{name}" for name in CPU_FILES]:
            if not self._exists(0, path):
                continue
            if not path.startswith(f"{_PRESSURE_DIR}/"):
                self._add_static(path, is_dir=False)
            elif _PRESSURE_DIR not in self._names:
                # The folder is everyone's, so that it can be mounted over the host's; what is in it is not.
                self._add_static(_PRESSURE_DIR, is_dir=True)
        # A kernel without NUMA has no such tree.
        if self._exists(0, NODE_DIR):
            self._add_static(NODE_DIR, is_dir=True)
            for name in NODE_FILES:
                if self._exists(0, f"{NODE_DIR}/{name}"):
                    self._add_static(f"{NODE_DIR}/{name}", is_dir=False)
        for path, is_dir, is_link in state.nodes() if state is not None else ():
            if path.startswith((*_OF_CALLERS, f"{_PRESSURE_DIR}/")):
                self._add(Node(inode_of(path), path, is_dir, per_caller=True, is_link=is_link))

    def _exists(self, pid: int, path: str) -> bool:
        try:
            self._engine.kind(pid, path)
        except FileNotFoundError:
            return False
        return True

    def _add_static(self, path: str, *, is_dir: bool) -> None:
        self._add(Node(inode_of(path), path, is_dir, per_caller=False))
        if is_dir:
            self._names[path] = []
        if path:
            parent, _, name = path.rpartition("/")
            self._names[parent].append(name)

    def _add(self, node: Node) -> Node:
        known = self._by_inode.setdefault(node.inode, node)
        if known.path != node.path:
            raise OSError(errno.EIO, f"{node.path!r} and {known.path!r} have the same inode number {node.inode}")
        return self._by_path.setdefault(node.path, known)

    def static_nodes(self) -> Iterator[tuple[int, Node]]:
        """What is the same for every caller, with its parent's inode; and, with parent 0, the pressure files: they are
        the same for all who have them."""
        for node in list(self._by_inode.values()):
            if node.path and not node.per_caller:
                yield inode_of(node.path.rpartition("/")[0]), node
        if _PRESSURE_DIR in self._names:
            for name in PROC_VIEWS:
                path = f"proc/{name}"
                if path.startswith(f"{_PRESSURE_DIR}/"):
                    yield 0, Node(inode_of(path), path, is_dir=False, per_caller=True)

    def __len__(self) -> int:
        return len(self._by_inode)

    def node(self, inode: int) -> Node:
        """The node the kernel means by ``inode``. Raises OSError ESTALE for a number never given out."""
        try:
            return self._by_inode[inode]
        except KeyError:
            raise OSError(errno.ESTALE, f"inode {inode} is not known") from None

    def known(self, parent: Node, name: str) -> Node | None:
        """The node ``name`` in ``parent``, if it was ever looked up."""
        return self._by_path.get(_path(parent, name))

    def named(self, path: str) -> Node | None:
        """The node of ``path``, if it was ever looked up."""
        return self._by_path.get(path)

    def static_child(self, parent: Node, name: str) -> Node | None:
        """The node ``name`` in ``parent`` that every caller has; None if the answer depends on the caller.

        Raises FileNotFoundError for what nobody has, NotADirectoryError.
        """
        path = _path(parent, name)
        node = self._by_path.get(path)
        if node is not None and not node.per_caller:
            return node
        if parent.path == _PRESSURE_DIR or path.startswith(_OF_CALLERS):
            return None
        raise FileNotFoundError(errno.ENOENT, path)

    def child(self, parent: Node, name: str, pid: int) -> Node:
        """The node ``name`` in ``parent`` as ``pid`` sees it. Raises FileNotFoundError, NotADirectoryError."""
        node = self.static_child(parent, name)
        if node is not None:
            return node
        path = _path(parent, name)
        node = self._by_path.get(path)
        kind = self._engine.kind(pid, path)
        if node is None:
            node = self._add(Node(inode_of(path), path, kind == "dir", per_caller=True, is_link=kind == "link"))
            if self._state is not None:
                self._state.add_node(path, is_dir=node.is_dir, is_link=node.is_link)
        if (node.is_dir, node.is_link) != (kind == "dir", kind == "link"):
            raise OSError(errno.EIO, f"{path!r} is not for every caller of one kind: {kind} for this one")
        return node

    def children(self, parent: Node, pid: int) -> Iterator[Node]:
        """What ``pid`` sees in the directory ``parent``, in order. Raises NotADirectoryError, FileNotFoundError."""
        if not parent.is_dir:
            raise NotADirectoryError(errno.ENOTDIR, parent.path)
        names = list(self._names.get(parent.path, ()))
        if parent.path in (CPU_DIR, NODE_DIR, _PRESSURE_DIR) or parent.per_caller:
            names += [name for name in self._engine.listdir(pid, parent.path) if name not in names]
        for name in names:
            try:
                yield self.child(parent, name, pid)
            except FileNotFoundError:
                continue  # gone since it was listed, or not this caller's


def _path(parent: Node, name: str) -> str:
    if not parent.is_dir:
        raise NotADirectoryError(errno.ENOTDIR, parent.path)
    if name == "..":
        return parent.path.rpartition("/")[0]
    if name == ".":
        return parent.path
    return f"{parent.path}/{name}" if parent.path else name
