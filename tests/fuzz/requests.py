"""Requests to the lane as no kernel sends them: each begins as a right one, and then something of it is spoilt."""

import os
import random
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tests.fast.kernel import (
    BATCH_FORGET,
    DIRECTORY,
    FIRST_VIEW,
    FORGET,
    GETATTR,
    IN_HEADER,
    INIT,
    INTERRUPT,
    LOADAVG,
    LOOKUP,
    MEMINFO,
    NODES,
    OPEN,
    OPENDIR,
    PRESSURE,
    READ,
    READ_IN,
    RELEASE,
    RELEASE_IN,
    RELEASEDIR,
    STATFS,
    VIEWS,
)
from tests.fuzz.numbers import u32, u64

_INODES = [node[2] for node in NODES]
_LIKELY = (
    (OPEN, 24), (READ, 34), (RELEASE, 12), (LOOKUP, 6), (GETATTR, 6), (FORGET, 2), (BATCH_FORGET, 2), (INTERRUPT, 2),
    (INIT, 2), (STATFS, 2), (OPENDIR, 2), (RELEASEDIR, 2), (0, 4),
)  # fmt: skip
"""Opcodes and how often; 0 stands for any other."""
_OTHERS = (0, 4, 5, 16, 20, 22, 24, 25, 28, 30, 34, 35, 38, 39, 40, 41, 44, 46, 52, 4096, 2**31, 2**32 - 1)
_NAMES = (b"meminfo\0", b"loadavg\0", b"proc\0", b"cpu\0", b"nothing\0", b"\0", b"", b"meminfo", b"meminf\0o\0", b".\0",
          b"..\0", b"\0meminfo\0", b"\xff\xfe\0", b"n" * 255 + b"\0", b"/" * 4096 + b"\0", b"meminfo\0\0")  # fmt: skip
MOST_BYTES = 65536
"""Of a request that the lane reads at once; what is beyond is lost, as in read(2) from /dev/fuse."""


@dataclass
class Known:
    """What the one who asks knows: its chance to hit something."""

    pids: Sequence[int]
    handles: list[int] = field(default_factory=list)
    """Open ones, of the lane and of Python."""
    closed: list[int] = field(default_factory=list)
    lengths: list[int] = field(default_factory=lambda: [1500])
    """Of texts: reads begin and end there."""


def _handle(rng: random.Random, known: Known) -> int:
    chance = rng.random()
    if known.handles and chance < 0.75:
        return rng.choice(known.handles[-12:] if chance < 0.5 else known.handles)
    if known.closed and chance < 0.85:
        return rng.choice(known.closed)
    if known.handles and chance < 0.93:
        # A near miss: another place in the table, or another count.
        return (rng.choice(known.handles) + rng.choice((1, -1, 1 << 24, -(1 << 24), 1 << 63, 256))) % 2**64
    return u64(rng)


def _offset(rng: random.Random, known: Known) -> int:
    chance = rng.random()
    if chance < 0.4:
        return 0
    if chance < 0.85:
        return max(0, rng.choice(known.lengths) + rng.choice((-1, 0, 1, -100, -rng.randrange(1 << 12))))
    return u64(rng)


def _body(rng: random.Random, opcode: int, known: Known) -> bytes:
    match opcode:
        case _ if opcode == OPEN:
            flags = os.O_RDONLY if rng.random() < 0.85 else rng.choice((1, 2, 3, os.O_TRUNC, u32(rng)))
            return struct.pack("=II", flags, 0)
        case _ if opcode == READ:
            size = rng.choice((65536, 131072, 4096, 1, rng.randrange(200), u32(rng)))
            return READ_IN.pack(_handle(rng, known), _offset(rng, known), size, u32(rng), u64(rng), u32(rng), 0)
        case _ if opcode in (RELEASE, RELEASEDIR):
            return RELEASE_IN.pack(_handle(rng, known), u32(rng), u32(rng), u64(rng))
        case _ if opcode == LOOKUP:
            return rng.choice(_NAMES)
        case _ if opcode == GETATTR:
            return struct.pack("=IIQ", u32(rng), 0, _handle(rng, known))
        case _ if opcode in (FORGET, INTERRUPT):
            return struct.pack("=Q", u64(rng))
        case _ if opcode == BATCH_FORGET:
            return struct.pack("=II", u32(rng), 0) + rng.randbytes(16 * rng.randrange(4))
        case _ if opcode == INIT:
            return struct.pack("=5I", 7, u32(rng), u32(rng), u32(rng), u32(rng)) + bytes(44)
        case _:
            return rng.randbytes(rng.choice((0, 0, 8, 16, 40, rng.randrange(300))))


def _cut(rng: random.Random, message: bytes) -> bytes:
    return message[: rng.randrange(1, len(message))]


def _cut_and_say_so(rng: random.Random, message: bytes) -> bytes:
    """A length that is right, of a body that is too short."""
    return _with_length(message[: rng.randrange(1, len(message))])


def _extend(rng: random.Random, message: bytes) -> bytes:
    more = rng.randbytes(rng.choice((1, 3, 8, 100, 5000, max(1, MOST_BYTES - len(message)), MOST_BYTES)))
    return _with_length(message + more) if rng.random() < 0.7 else message + more


def _lie_about_length(rng: random.Random, message: bytes) -> bytes:
    return struct.pack("=I", rng.choice((len(message) + 1, len(message) - 1, u32(rng)))) + message[4:]


def _flip(rng: random.Random, message: bytes) -> bytes:
    changed = bytearray(message)
    for _ in range(rng.randrange(1, 5)):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _overwrite(rng: random.Random, message: bytes) -> bytes:
    """A number by another one, on a boundary of its size or beside it."""
    number = struct.pack("=I", u32(rng)) if rng.random() < 0.5 else struct.pack("=Q", u64(rng))
    at = rng.randrange(0, max(1, len(message) - 3), rng.choice((1, 4, 4, 8)))
    return (message[:at] + number + message[at + len(number) :])[: len(message)]


def _noise(rng: random.Random, message: bytes) -> bytes:
    return rng.randbytes(rng.choice((1, 16, 39, 40, 41, 80, 400))) or message


_SPOIL: tuple[Callable[[random.Random, bytes], bytes], ...] = (
    _cut, _cut_and_say_so, _cut_and_say_so, _extend, _lie_about_length, _flip, _flip, _overwrite, _overwrite,
    _overwrite, _noise,
)  # fmt: skip


def _with_length(message: bytes) -> bytes:
    return struct.pack("=I", len(message))[: len(message)] + message[4:]


def request(rng: random.Random, known: Known, unique: int) -> bytes:
    """One request of this number, which may be spoilt as all else."""
    opcode = rng.choices([opcode for opcode, _ in _LIKELY], [weight for _, weight in _LIKELY])[0] or rng.choice(_OTHERS)
    if opcode == OPEN and rng.random() < 0.9:
        node = rng.choice((MEMINFO, LOADAVG, PRESSURE, FIRST_VIEW + rng.randrange(len(VIEWS))))
    else:
        node = rng.choice(_INODES) if rng.random() < 0.85 else u64(rng)
    if opcode == LOOKUP and rng.random() < 0.7:
        node = rng.choice((1, DIRECTORY))
    chance = rng.random()
    pid = rng.choice(known.pids) if chance < 0.9 else rng.choice((0, 2**32 - 1, 77_777, 2**31, u32(rng)))
    body = _body(rng, opcode, known)
    message = IN_HEADER.pack(IN_HEADER.size + len(body), opcode, unique, node, u32(rng), 0, pid, 0, 0) + body
    while len(message) > 1 and rng.random() < 0.2:
        message = rng.choice(_SPOIL)(rng, message)
    return message[: 2 * MOST_BYTES]
