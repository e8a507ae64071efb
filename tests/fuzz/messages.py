"""Batches of messages: what is sent to one lane, in which order, and with what in between. A seed decides all of it."""

import errno
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from procview._fast.engine import PROC_VIEWS, Engine
from tests.fast.kernel import INIT, INIT_OUT, OUT_HEADER
from tests.fuzz.exchange import Asked, Exchange
from tests.fuzz.numbers import u32, u64
from tests.fuzz.requests import Known, request
from tests.hosts.build import build
from tests.hosts.known import SYSTEM_DISK, WEB
from tests.hosts.model import Host, Layout, Level

PIDS = (1, WEB.init_pid, WEB.pid, 2000, 2001, 3001)
"""Processes of the host and of three containers."""
READER = WEB.pid
BURSTS = (1, 10, 100, 250)
"""Messages, at most, that are sent before what comes back is looked at: the longest come to the bounds of the relay."""
_HELD = 40
"""Requests that pyfuse3 may keep waiting: they count against the bounds of those who asked."""
_PYTHON_PATHS = tuple(f"proc/{name}" for name in PROC_VIEWS if "/" not in name)
_BOUNDS = ((32768, 4096, 16 << 20), (32768, 4096, 6000), (64, 24, 3000), (300, 100, 0), (3, 2, 1 << 20), (1, 1, 1000))
"""Of the table of open files: in all, for one owner, bytes of text."""


def engine_for_messages(folder: Path) -> Engine:
    """On a host of three containers, which is the same for every seed and every machine."""
    tree = build(
        folder, Layout.V2, Host(disks=(SYSTEM_DISK,)),
        *(
            replace(WEB, levels=(Level(name, memory_max_bytes=limit, memory_current_bytes=20 << 20),),
                    init_pid=init, pid=init + 1, pidns=pidns)
            for name, limit, init, pidns in (
                ("web", 256 << 20, WEB.init_pid, WEB.pidns), ("db", 128 << 20, 2000, 4_026_532_600),
                ("cache", None, 3000, 4_026_532_700),
            )
        ),
    )  # fmt: skip
    return Engine(**tree.roots)


@dataclass
class Batch:
    """One exchange as a seed has it."""

    rng: random.Random
    exchange: Exchange
    known: Known
    uniques: int = 0

    @classmethod
    def of(cls, engine: Engine, seed: str) -> "Batch":
        rng = random.Random(seed)
        most, most_per_owner, budget_bytes = rng.choice(_BOUNDS)
        options = {
            "threads": rng.choice((1, 1, 2, 4)), "most": most, "most_per_owner": most_per_owner,
            "budget_bytes": budget_bytes,
        }  # fmt: skip
        return cls(rng, Exchange(engine, options), Known(PIDS))

    def run(self, count: int) -> int:
        """How many messages were sent, both ways: at least ``count``."""
        with self.exchange.running() as exchange:
            while exchange.sent_count < count:
                self._burst()
            exchange.check_good_request(READER)
            if exchange.options["most"] > 1000 and self.rng.random() < 0.15:
                exchange.end(self.rng.choice((None, b"cut", b"\0" * 15, bytes(3 << 20))))
                exchange.check_good_request(READER)
            exchange.finish()
        return exchange.sent_count

    def _burst(self) -> None:
        rng, exchange = self.rng, self.exchange
        self.known.handles = list(exchange.open)
        self.known.closed = exchange.closed[-30:]
        for _ in range(rng.randint(1, rng.choice(BURSTS))):
            exchange.ask(self._in_order(request(rng, self.known, self._unique())))
        exchange.settle()
        for reply in self._replies():
            exchange.tell(reply)
        if rng.random() < 0.2:
            self._something_by_python()
        if rng.random() < 0.02 and exchange.open:
            self.known.lengths.append(len(exchange.text(*rng.choice(list(exchange.open.values())))))
        exchange.settle()

    def _unique(self) -> int:
        self.uniques += 1
        chance = self.rng.random()
        if chance < 0.97:
            return 2 * self.uniques
        return self.rng.choice((1, 3, 2 * self.uniques - 2, 2**64 - 1, 2**63, self.rng.getrandbits(64)))

    def _in_order(self, message: bytes) -> bytes:
        """The model cannot tell which of two requests of one number an answer is to: two of one burst have their own,
        and INIT, whose answer is changed on its way, always.
        """
        asked = Asked.of(message)
        if asked is None or (asked.opcode != INIT and not self.exchange.is_awaited(asked.unique)):
            return message
        self.uniques += 1
        return message[:8] + (2**50 + 2 * self.uniques).to_bytes(8, "little") + message[16:]

    # --- pyfuse3's side -------------------------------------------------------------------------------------------

    def _replies(self) -> Iterator[bytes]:
        rng = self.rng
        waiting = [(unique, asked) for unique, all_of_it in self.exchange.pending.items() for asked in all_of_it]
        rng.shuffle(waiting)
        keep = rng.randrange(_HELD) if rng.random() < 0.5 else 0
        for unique, asked in waiting[keep:]:
            if unique == 0:
                continue  # a notification has that number: nobody can reply to it
            yield self._reply(unique, asked.opcode)
        if rng.random() < 0.3:
            # Of nothing, of what was replied to already, or a notification.
            yield self._reply(rng.choice((0, u64(rng), 2 * rng.randrange(self.uniques + 1), 2**40 + 1)), 0)

    def _reply(self, unique: int, opcode: int) -> bytes:
        rng = self.rng
        error = -rng.choice((0, 0, 0, errno.EIO, errno.ENOSYS, errno.ENOENT, -5, 2**31, rng.randrange(4096)))
        if opcode == INIT and rng.random() < 0.8:
            body = INIT_OUT.pack(7, u32(rng), u32(rng), u32(rng), 12, 9, u32(rng), 1, rng.randrange(65536), 0,
                                 *(u32(rng) for _ in range(8)))  # fmt: skip
            body = body[: rng.choice((64, 64, 64, 63, 24, 8, 0))] + rng.randbytes(rng.choice((0, 0, 1, 100)))
        else:
            body = rng.randbytes(
                rng.choice((0, 0, 1, 16, 104, 128, rng.randrange(400), 70_000 * (rng.random() < 0.01)))
            )
        size = OUT_HEADER.size + len(body)
        if rng.random() < 0.05:
            size = u32(rng)
        return OUT_HEADER.pack(size, error, unique) + body

    def _something_by_python(self) -> None:
        rng, exchange = self.rng, self.exchange
        match rng.randrange(3):
            case 0:
                exchange.open_by_python(rng.choice(PIDS), rng.choice(_PYTHON_PATHS))
            case 1 if exchange.open:
                exchange.close_by_python(rng.choice(list(exchange.open)))
            case _:
                known = [*exchange.open, *exchange.closed[-5:], u64(rng)]
                exchange.keep_by_python(rng.choice(known))
