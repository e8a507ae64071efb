"""One exchange with a lane: what is sent to it from both sides, and a model that knows what must come back.

For each whole request exactly one of these must happen: the lane answers it, and rightly; it refuses it; or it hands it
on to pyfuse3 byte for byte, and what pyfuse3 replies comes back byte for byte, once.
"""

import errno
import os
import select
import socket
import struct
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Self

from procview._fast.engine import Engine
from procview._fast.lane import ENDED
from procview._fast.open_files import OpenFiles
from tests.fast import kernel as protocol
from tests.fast.kernel import (
    ATTR_OUT,
    BATCH_FORGET,
    ENTRY_OUT,
    FORGET,
    GETATTR,
    IN_HEADER,
    INIT,
    INIT_OUT,
    INTERRUPT,
    LOOKUP,
    MEMINFO,
    NODES,
    OPEN,
    OPEN_OUT,
    OUT_HEADER,
    READ,
    READ_IN,
    RELEASE,
    RELEASE_IN,
    Kernel,
)
from tests.fuzz.requests import MOST_BYTES

_PATHS = {inode: path for _, _, inode, _, path in NODES}
_BY_NAME = {(parent, os.fsencode(name)): inode for parent, name, inode, _, _ in NODES if parent}
_PATIENCE_SECONDS = 20
_MOST_RELAYED_BYTES = 32 << 16
"""Of a reply of pyfuse3."""

OPTIONS = {"threads": 1, "most": 32768, "most_per_owner": 4096, "budget_bytes": 16 << 20}
"""Of an exchange: how many threads the lane has, and the bounds of its table of open files."""


class WrongAnswerError(AssertionError):
    """What came back, or did not."""


def _ensure(holds: bool, what: str) -> None:
    if not holds:
        raise WrongAnswerError(what)


@dataclass(frozen=True)
class Asked:
    """A request as the lane must take it apart."""

    opcode: int
    unique: int
    node: int
    pid: int
    whole: bytes

    @classmethod
    def of(cls, message: bytes) -> Self | None:
        """None: it is no request, and gets no answer."""
        message = message[:MOST_BYTES]
        if len(message) < IN_HEADER.size:
            return None
        size, opcode, unique, node, _, _, pid, _, _ = IN_HEADER.unpack_from(message)
        return cls(opcode, unique, node, pid, message) if size == len(message) else None

    @property
    def body(self) -> bytes:
        return self.whole[IN_HEADER.size :]


@dataclass
class Exchange:
    """A lane with files of its own, for one batch of messages."""

    engine: Engine
    options: Mapping[str, int]
    kernel: Kernel = field(init=False)
    steps: list[str] = field(default_factory=list)
    """What was done, to be done once more by :meth:`replay`."""
    open: dict[int, tuple[int, str]] = field(default_factory=dict)
    """Handle -> who opened it, and what."""
    of_python: set[int] = field(default_factory=set)
    """Handles of files that Python has opened, which the lane can only hand on."""
    closed: list[int] = field(default_factory=list)
    pending: dict[int, list[Asked]] = field(default_factory=dict)
    """With pyfuse3, by number."""
    sent_count: int = 0
    ended: bool = False
    """pyfuse3 has gone."""
    _awaited: dict[int, list[Asked]] = field(default_factory=dict)
    _back: Counter[bytes] = field(default_factory=Counter)
    _just_closed: dict[int, tuple[int, str]] = field(default_factory=dict)
    _texts: dict[tuple[int, str], bytes] = field(default_factory=dict)
    _counts: Counter[str] = field(default_factory=Counter)
    _to_nobody: bool = False
    """pyfuse3 has replied to what nobody asked, and the lane may not have seen it yet."""

    @contextmanager
    def running(self) -> Iterator[Self]:
        files = OpenFiles(
            self.engine, most=self.options["most"], most_per_owner=self.options["most_per_owner"],
            budget_bytes=self.options["budget_bytes"],
        )  # fmt: skip
        with protocol.kernel(threads=self.options["threads"], files=files, engine=self.engine) as self.kernel:
            self.kernel.device.setblocking(False)
            self.kernel.pyfuse3.setblocking(False)
            yield self

    # --- what is done to the lane ---------------------------------------------------------------------------------

    def ask(self, message: bytes) -> None:
        """The kernel's side. Nothing comes back before :meth:`settle`."""
        self.steps.append(f"ask {message.hex()}")
        self.sent_count += 1
        asked = Asked.of(message)
        if asked is not None and asked.opcode in (FORGET, BATCH_FORGET):
            self._counts["answered"] += 1
        elif asked is not None:
            self._awaited.setdefault(asked.unique, []).append(asked)
        self._send(self.kernel.device, message)

    def tell(self, message: bytes) -> None:
        """pyfuse3's side: a reply, or what is none. It must be at least a header."""
        self.steps.append(f"tell {message.hex()}")
        self.sent_count += 1
        _, error, unique = OUT_HEADER.unpack_from(message)
        if unique == 0:
            self._back[message] += 1
        elif self.pending.get(unique):
            asked = self.pending[unique].pop(0)
            adjusted = asked.opcode == INIT and error == 0 and len(message) >= OUT_HEADER.size + INIT_OUT.size
            self._back[_adjusted(message) if adjusted else message] += 1
        else:
            self._to_nobody = True
        self._send(self.kernel.pyfuse3, message)

    def open_by_python(self, pid: int, path: str) -> int | None:
        """The handle; None: too many."""
        self.steps.append(f"open {pid} {path}")
        view = self.engine.open(pid, path)
        try:
            handle = self.kernel.files.open(view.owner, view)
        except OSError as error:
            _ensure(error.errno == errno.ENFILE, f"open says {error}")
            return None
        self._opened(handle, pid, path)
        self.of_python.add(handle)
        return handle

    def keep_by_python(self, handle: int) -> None:
        """What pyfuse3's side does with what it has rendered."""
        self.steps.append(f"keep {handle}")
        text = self.text(*self.open[handle]) if handle in self.open else b"of nobody"
        self.kernel.files.keep(handle, text, delivered=handle % 3 == 0)

    def close_by_python(self, handle: int) -> None:
        self.steps.append(f"close {handle}")
        _ensure(self.kernel.files.close(handle) == (handle in self.open), f"closing {handle:#x}")
        self._forget(handle)

    def is_awaited(self, unique: int) -> bool:
        """Whether nothing has come back yet for a request of this number."""
        return unique in self._awaited

    def settle(self) -> None:
        """Wait until all has come back that must; then see that no file is open which should not be."""
        self.steps.append("settle")
        if self._to_nobody and not self.ended:
            # A reply to nobody must not come late, to a later request of that number: replies are taken in order.
            self._to_nobody = False
            marker = OUT_HEADER.pack(OUT_HEADER.size + 8, -1, 0) + struct.pack("=Q", len(self.steps))
            self._back[marker] += 1
            self._send(self.kernel.pyfuse3, marker)
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while self._awaited or self._back:
            ready, _, _ = select.select([self.kernel.device, self.kernel.pyfuse3], [], [], 0.5)
            for end in ready:
                self._take_all(end)
            _ensure(time.monotonic() < deadline, f"nothing came back for {self._awaited} {self._back}")
        self._just_closed.clear()
        count = self.kernel.files.open_count
        _ensure(count == len(self.open), f"{count} files are open in place of {len(self.open)}")

    def replay(self, steps: list[str]) -> None:
        for step in steps:
            word, *rest = step.split()
            match word:
                case "ask":
                    self.ask(bytes.fromhex(rest[0]))
                case "tell":
                    self.tell(bytes.fromhex(rest[0]))
                case "open":
                    self.open_by_python(int(rest[0]), rest[1])
                case "keep":
                    self.keep_by_python(int(rest[0]))
                case "close":
                    self.close_by_python(int(rest[0]))
                case "settle":
                    self.settle()
                case "end":
                    self.end(bytes.fromhex(rest[0]) if rest else None)
                case _:
                    raise ValueError(step)

    def end(self, last: bytes | None) -> None:
        """pyfuse3 goes away, or says what is no reply: the lane says so, and nothing is handed on any more."""
        self.steps.append("end" if last is None else f"end {last.hex()}")
        self.ended = True
        if last is None:
            self.kernel.pyfuse3.shutdown(socket.SHUT_RDWR)
        else:
            self._send(self.kernel.pyfuse3, last)
        ready, _, _ = select.select([self.kernel.lane], [], [], _PATIENCE_SECONDS)
        _ensure(bool(ready) and self._is_told_of_the_end(), "the lane did not say that pyfuse3 has gone")

    def _is_told_of_the_end(self) -> bool:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < deadline:
            if self.kernel.lane.take_notices() & ENDED:
                return True
            time.sleep(0.001)
        return False

    # --- what must hold in the end --------------------------------------------------------------------------------

    def check_good_request(self, pid: int) -> None:
        """A reader that does nothing wrong gets what it should, unless the table is full."""
        of_owner = sum(self._owner(opener) == self._owner(pid) for opener, _ in self.open.values())
        if len(self.open) >= self.options["most"] or of_owner >= self.options["most_per_owner"]:
            return
        before = set(self.open)
        self.ask(self._request(OPEN, struct.pack("=II", os.O_RDONLY, 0), MEMINFO, pid))
        self.settle()
        _ensure(len(self.open) == len(before) + 1, "a good open was not answered by the lane")
        (handle,) = set(self.open) - before
        half = len(self.text(pid, "proc/meminfo")) // 2
        answered = self._counts["read"]
        for at in (0, half):
            self.ask(self._request(READ, READ_IN.pack(handle, at, 65536, 0, 0, 0, 0), MEMINFO, pid))
            self.settle()
        _ensure(self._counts["read"] == answered + 2, "a good read was not answered by the lane")

    def finish(self) -> None:
        """Answer what waits, release what is open: then there is nothing left."""
        for unique in [] if self.ended else [unique for unique, waiting in self.pending.items() if unique and waiting]:
            for _ in range(len(self.pending[unique])):
                self.tell(OUT_HEADER.pack(OUT_HEADER.size, -errno.EIO, unique))
        self.settle()
        for handle in sorted(self.of_python & set(self.open)):
            self.close_by_python(handle)
        for handle in list(self.open):
            self.ask(self._request(RELEASE, RELEASE_IN.pack(handle, 0, 0, 0), MEMINFO, 0))
        self.settle()
        files = self.kernel.files
        left = (files.open_count, files.text_bytes)
        _ensure(left == (0, 0), f"all is released, and {left[0]} files and {left[1]} bytes of text are left")
        if not self.ended:
            self._check_counters()
        self.kernel.lane.stop()
        for end in (self.kernel.device, self.kernel.pyfuse3):
            self._take_all(end)

    def _check_counters(self) -> None:
        expected = {
            "answered": self._counts["answered"], "by_ring": 0, "relayed": self._counts["relayed"],
            "refused": self._counts["refused"], "pending": sum(map(len, self.pending.values())),
        }  # fmt: skip
        deadline = time.monotonic() + _PATIENCE_SECONDS
        # A thread counts an answer after it has written it.
        while (counted := self.kernel.lane.counters()) != expected and time.monotonic() < deadline:
            time.sleep(0.001)
        _ensure(counted == expected, f"the lane has counted {counted}, and it were {expected}")

    # --- the model ------------------------------------------------------------------------------------------------

    def text(self, pid: int, path: str) -> bytes:
        """What a reader gets. The host is a recording, whose clock stands still: always the same."""
        if (pid, path) not in self._texts:
            self._texts[pid, path] = self.engine.open(pid, path).render()
        return self._texts[pid, path]

    def _owner(self, pid: int) -> int:
        return self.engine.open(pid, "proc/meminfo").owner

    def _request(self, opcode: int, body: bytes, node: int, pid: int) -> bytes:
        unique = (1 << 40) + 2 * len(self.steps)
        return Kernel.request(opcode, unique, body, node=node, pid=pid)

    def _send(self, end: socket.socket, message: bytes) -> None:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                end.send(message)
                return
            except BlockingIOError:
                _ensure(time.monotonic() < deadline, "the lane takes no more messages")
                for other in (self.kernel.device, self.kernel.pyfuse3):
                    self._take_all(other)

    def _take_all(self, end: socket.socket) -> None:
        take = self._came_back if end is self.kernel.device else self._was_relayed
        while True:
            try:
                message = end.recv(4 << 20)
            except BlockingIOError:
                return
            if not message:
                return
            take(message)

    def _was_relayed(self, message: bytes) -> None:
        asked = Asked.of(message)
        _ensure(asked is not None, f"pyfuse3 was sent what is no request: {message.hex()}")
        assert asked is not None
        _ensure(asked in self._awaited.get(asked.unique, ()), f"pyfuse3 was sent what nobody asked: {message.hex()}")
        self._answered(asked)
        self._counts["relayed"] += 1
        self.pending.setdefault(asked.unique, []).append(asked)

    def _came_back(self, message: bytes) -> None:
        if self._back[message] > 0:
            self._back[message] -= 1
            self._back += Counter()  # without zeros
            return
        _ensure(len(message) >= OUT_HEADER.size, f"the kernel was sent what is no reply: {message.hex()}")
        size, error, unique = OUT_HEADER.unpack_from(message)
        _ensure(size == len(message), f"a reply of {len(message)} bytes says it has {size}")
        wrong = []
        for asked in self._awaited.get(unique, ()):
            try:
                self._check(asked, -error, message[OUT_HEADER.size :])
            except (WrongAnswerError, struct.error) as reason:
                wrong.append(str(reason))
                continue
            self._answered(asked)
            return
        raise WrongAnswerError("; ".join(wrong) or f"a reply that nobody waits for: {message.hex()}")

    def _answered(self, asked: Asked) -> None:
        waiting = self._awaited[asked.unique]
        waiting.remove(asked)
        if not waiting:
            del self._awaited[asked.unique]

    def _check(self, asked: Asked, error: int, body: bytes) -> None:
        """Whether the lane answers this rightly by itself."""
        if error == errno.EAGAIN and not body:
            self._counts["refused"] += 1
            return
        what = f"{asked.whole.hex()} was answered {error} {body.hex()}"
        match asked.opcode:
            case _ if asked.opcode == INTERRUPT:
                _ensure(error == errno.ENOSYS and not body, what)
            case _ if error != 0:
                raise WrongAnswerError(what)
            case _ if asked.opcode == OPEN:
                self._check_open(asked, body, what)
            case _ if asked.opcode == READ:
                self._check_read(asked, body, what)
            case _ if asked.opcode == RELEASE:
                handle = RELEASE_IN.unpack_from(asked.body)[0]
                _ensure(handle in self.open and handle not in self.of_python and not body, what)
                self._forget(handle)
            case _ if asked.opcode == LOOKUP:
                name = asked.body.partition(b"\0")[0]
                inode = _BY_NAME.get((asked.node, name))
                _ensure(inode == ENTRY_OUT.unpack(body)[0] and asked.body.endswith(b"\0"), what)
            case _ if asked.opcode == GETATTR:
                _ensure(ATTR_OUT.unpack(body)[3] == asked.node and asked.node in _BY_NAME.values(), what)
            case _:
                raise WrongAnswerError(what)
        self._counts["answered"] += 1

    def _check_open(self, asked: Asked, body: bytes, what: str) -> None:
        handle, _, _ = OPEN_OUT.unpack(body)
        flags = struct.unpack_from("=I", asked.body)[0]
        _ensure(flags & (os.O_ACCMODE | os.O_TRUNC) == os.O_RDONLY and len(asked.body) >= 8, what)
        path = _PATHS.get(asked.node, "")
        _ensure("/" in path and 0 < asked.pid < 2**31, what)
        self._opened(handle, asked.pid, path)

    def _check_read(self, asked: Asked, body: bytes, what: str) -> None:
        handle, offset, size, *_ = READ_IN.unpack_from(asked.body)
        whose = self.open.get(handle)
        if whose is None and self.options["threads"] > 1:
            whose = self._just_closed.get(handle)
        _ensure(whose is not None, what)
        assert whose is not None
        _ensure(body == self.text(*whose)[offset : offset + size], f"of {whose} {what}")
        self._counts["read"] += 1

    def _opened(self, handle: int, pid: int, path: str) -> None:
        known = handle in self.open or handle in self._just_closed or handle in self.closed[-1000:]
        _ensure(handle != 0 and not known, f"handle {handle:#x} was given out twice")
        self.open[handle] = (pid, path)

    def _forget(self, handle: int) -> None:
        if handle in self.open:
            self._just_closed[handle] = self.open.pop(handle)
            self.of_python.discard(handle)
            self.closed.append(handle)


def _adjusted(message: bytes) -> bytes:
    """pyfuse3's reply to INIT as the kernel is to get it, without a ring."""
    fields = list(INIT_OUT.unpack_from(message, OUT_HEADER.size))
    fields[3] &= ~(1 << 22)
    fields[4:7] = [256, 192, 4096]
    return message[: OUT_HEADER.size] + INIT_OUT.pack(*fields) + message[OUT_HEADER.size + INIT_OUT.size :]
