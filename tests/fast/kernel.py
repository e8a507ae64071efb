"""The kernel's part of FUSE, played by a test: messages as linux/fuse.h has them (protocol 7), on a pair of sockets."""

import itertools
import os
import socket
import stat
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Self

from procview._fast.engine import PROC_VIEWS, Engine
from procview._fast.lane import Lane
from procview._fast.open_files import OpenFiles

LOOKUP, FORGET, GETATTR, OPEN, READ, STATFS, RELEASE = 1, 2, 3, 14, 15, 17, 18
INIT, OPENDIR, RELEASEDIR, INTERRUPT, BATCH_FORGET = 26, 27, 29, 36, 42

IN_HEADER = struct.Struct("=IIQQIIIHH")
"""len, opcode, unique, nodeid, uid, gid, pid, total_extlen, padding."""
OUT_HEADER = struct.Struct("=IiQ")
"""len, error, unique."""
OPEN_OUT = struct.Struct("=QIi")
READ_IN = struct.Struct("=QQIIQII")
RELEASE_IN = struct.Struct("=QIIQ")
INIT_OUT = struct.Struct("=IIIIHHIIHHI7I")
ENTRY_OUT = struct.Struct("=QQQQIIQQQQQQIIIIIIIIII")
ATTR_OUT = struct.Struct("=QIIQQQQQQIIIIIIIIII")

STATIC_SECONDS = 1000
START_NS = 1_234_567_890_123
DIRECTORY, MEMINFO, LOADAVG, PRESSURE = 10, 11, 12, 13
NODES = [
    (1, "proc", DIRECTORY, stat.S_IFDIR | 0o555, "proc"),
    (DIRECTORY, "meminfo", MEMINFO, stat.S_IFREG | 0o444, "proc/meminfo"),
    (DIRECTORY, "loadavg", LOADAVG, stat.S_IFREG | 0o444, "proc/loadavg"),
    (0, "cpu", PRESSURE, stat.S_IFREG | 0o444, "proc/pressure/cpu"),
]
FIRST_VIEW = 100
VIEWS = [f"proc/{name}" for name in PROC_VIEWS if "/" not in name] + ["sys/devices/system/cpu/online"]
"""The node of each is FIRST_VIEW and its place here."""
NODES += [(0, "", FIRST_VIEW + number, stat.S_IFREG | 0o444, path) for number, path in enumerate(VIEWS)]


@dataclass(frozen=True)
class Reply:
    """``error`` is 0 or an errno."""

    unique: int
    error: int
    body: bytes


@dataclass
class Kernel:
    """The other end of the lane's device, and the other end of its socket: pyfuse3's."""

    device: socket.socket
    pyfuse3: socket.socket
    lane: Lane
    files: OpenFiles
    _uniques: Iterator[int] = field(default_factory=lambda: itertools.count(2, 2))

    def send(self, opcode: int, body: bytes = b"", *, node: int = 1, pid: int | None = None) -> int:
        """One request; its number."""
        unique = next(self._uniques)
        self.device.send(self.request(opcode, unique, body, node=node, pid=pid))
        return unique

    @staticmethod
    def request(opcode: int, unique: int, body: bytes, *, node: int = 1, pid: int | None = None) -> bytes:
        caller = os.getpid() if pid is None else pid
        return IN_HEADER.pack(IN_HEADER.size + len(body), opcode, unique, node, 0, 0, caller, 0, 0) + body

    def reply(self) -> Reply:
        """The next one that the lane writes."""
        return parsed(self.device.recv(1 << 20))

    def ask(self, opcode: int, body: bytes = b"", *, node: int = 1, pid: int | None = None) -> Reply:
        """A request that is answered next."""
        unique = self.send(opcode, body, node=node, pid=pid)
        reply = self.reply()
        assert reply.unique == unique
        return reply

    def open(self, node: int = MEMINFO, flags: int = os.O_RDONLY) -> int:
        """The handle."""
        reply = self.ask(OPEN, struct.pack("=II", flags, 0), node=node)
        assert reply.error == 0
        return int(OPEN_OUT.unpack(reply.body)[0])

    def read(self, handle: int, offset: int = 0, size: int = 65536) -> Reply:
        return self.ask(READ, READ_IN.pack(handle, offset, size, 0, 0, 0, 0), node=MEMINFO)

    def release(self, handle: int) -> Reply:
        return self.ask(RELEASE, RELEASE_IN.pack(handle, 0, 0, 0), node=MEMINFO)

    def relayed(self) -> bytes:
        """What pyfuse3 gets next."""
        return self.pyfuse3.recv(1 << 20)

    def is_quiet(self) -> bool:
        """Whether nothing was written, by asking something that is answered in order (with one thread)."""
        return self.ask(GETATTR, struct.pack("=IIQ", 0, 0, 0), node=DIRECTORY).error == 0

    def __enter__(self) -> Self:
        self.lane.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.lane.stop()
        self.device.close()
        self.pyfuse3.close()


def parsed(message: bytes) -> Reply:
    size, error, unique = OUT_HEADER.unpack_from(message)
    assert size == len(message)
    assert error <= 0
    return Reply(unique, -error, message[OUT_HEADER.size :])


@contextmanager
def kernel(
    threads: int = 1,
    files: OpenFiles | None = None,
    engine: Engine | None = None,
    rings: Sequence[tuple[int, Sequence[int]]] = (),
) -> Iterator[Kernel]:
    """A lane on sockets in place of /dev/fuse, with the real engine behind it."""
    engine = Engine() if engine is None else engine
    files = OpenFiles(engine) if files is None else files
    ours, device = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs, end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for one in (ours, theirs, device, end):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
    ours.settimeout(20)
    theirs.settimeout(20)
    lane = Lane(
        engine, files, device=device.detach(), socket=end.detach(), nodes=NODES,
        static_seconds=STATIC_SECONDS, start_ns=START_NS, threads=threads, rings=rings,
    )  # fmt: skip
    with Kernel(ours, theirs, lane, files) as played:
        yield played
