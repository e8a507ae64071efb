"""Mounts a :class:`FakeEngine` at argv[1] in a process of its own: two CPUs for the pid argv[2], four for others.

diskstats hangs for ever, swaps breaks, and the rest says who read it.
"""

import signal
import sys
import threading

import trio

from procview.fs.blocking import BlockingWork
from procview.fs.mount import mounted
from procview.fs.operations import ViewOperations
from tests.fs.fake import FakeEngine, FakeView

DEADLINE_SECONDS = 1.0


class OddEngine(FakeEngine):
    """Only diskstats can wait."""

    def open(self, pid: int, path: str, *, search: bool = True) -> FakeView:
        view = super().open(pid, path, search=search)
        view.blocking = path == "proc/diskstats" and pid != 0
        return view


def text(pid: int, path: str) -> bytes:
    if path == "proc/diskstats":
        threading.Event().wait()
    if path == "proc/swaps":
        raise ZeroDivisionError
    return f"{pid} {path}\n".encode() * (20_000 if path == "proc/stat" else 1)


async def main() -> None:
    engine = OddEngine(text=text, cpus_of={int(sys.argv[2]): 2})
    operations = ViewOperations(engine.as_engine(), blocking=BlockingWork(DEADLINE_SECONDS))
    stop = trio.Event()
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async with mounted(sys.argv[1], operations) as mount, trio.open_nursery() as nursery:
            nursery.start_soon(mount.serve, stop)
            print("mounted", flush=True)
            async for _ in signals:
                stop.set()
                break


if __name__ == "__main__":
    trio.run(main)
