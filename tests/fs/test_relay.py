"""What the lane hands on to pyfuse3, message by message: sockets stand in for /dev/fuse and for pyfuse3."""

import errno
import itertools
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from procview._fast.engine import Engine
from procview._fast.files import OpenFiles
from procview._fast.lane import Lane

OPENDIR, RELEASE, RELEASEDIR = 27, 18, 29
"""linux/fuse.h"""
MOST_PER_OWNER = 96
SECONDS = 30.0
"""A net: how long a message may take."""


@dataclass
class Wire:
    """Both ends that are not the lane's."""

    kernel: socket.socket
    pyfuse3: socket.socket
    lane: Lane
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(2, 2))

    def send(self, opcode: int, pid: int = 0) -> int:
        """A request as the kernel sends it; its number. Pid 0 is what it names for requests to close."""
        unique = next(self._numbers)
        self.kernel.send(struct.pack("<IIQQIIIHH", 64, opcode, unique, 1, 0, 0, pid, 0, 0) + bytes(24))
        return unique

    def relayed(self) -> int:
        """The number of the next request that reaches pyfuse3."""
        unique: int = struct.unpack_from("<IIQ", self.pyfuse3.recv(65536))[2]
        return unique

    def answer(self, unique: int) -> None:
        self.pyfuse3.send(struct.pack("<IiQ", 16, 0, unique))

    def answered(self) -> tuple[int, int]:
        """The next reply that reaches the kernel: which request, and the errno."""
        _, error, unique = struct.unpack("<IiQ", self.kernel.recv(65536))
        return unique, -error

    def answered_to(self, unique: int) -> int:
        """The errno of the next reply, which is to be this request's."""
        number, error = self.answered()
        assert number == unique
        return error


@pytest.fixture
def wire() -> Iterator[Wire]:
    engine = Engine()
    ours, device = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs, relay = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        for end in (ours, theirs):
            end.settimeout(SECONDS)
        lane = Lane(
            engine,
            OpenFiles(engine),
            device=device.detach(),
            socket=relay.detach(),
            nodes=[],
            static_seconds=1,
            start_ns=1,
            threads=1,
        )
        lane.start()
        yield Wire(ours, theirs, lane)
        ours.close()
        lane.stop()


def test_too_many_requests_are_refused_and_room_is_used_again(wire: Wire) -> None:
    first = [wire.send(OPENDIR, os.getpid()) for _ in range(MOST_PER_OWNER)]
    assert [wire.relayed() for _ in first] == first
    assert wire.answered_to(wire.send(OPENDIR, os.getpid())) == errno.EAGAIN
    wire.answer(first[0])
    assert wire.answered() == (first[0], 0)
    another = wire.send(OPENDIR, os.getpid())
    assert wire.relayed() == another
    assert wire.lane.counters()["pending"] == MOST_PER_OWNER


@pytest.mark.parametrize("opcode", [RELEASE, RELEASEDIR])
def test_what_is_to_be_closed_is_never_refused(wire: Wire, opcode: int) -> None:
    """The kernel asks once, and heeds no error: it would stay open for ever, and count."""
    first = [wire.send(OPENDIR) for _ in range(MOST_PER_OWNER)]
    assert [wire.relayed() for _ in first] == first
    assert wire.answered_to(wire.send(OPENDIR)) == errno.EAGAIN
    for _ in range(256):
        closing = wire.send(opcode)
        assert wire.relayed() == closing
    assert wire.lane.counters()["refused"] == 1
