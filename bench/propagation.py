"""How long it takes to put all views into many containers at once, to swap them for new ones, and to take them away.

``python -m bench.propagation`` prints it for 10, 100 and 1,000 mount namespaces. Each is made as a container's is: a
root of its own, in which every slot is bound, and nothing left of the host's tree. The kernel does the work: one mount
or umount for each slot on the host, one for each namespace below that.

Touches: a mount namespace of its own, a directory in /tmp, one process for each namespace.
"""

import ctypes
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import servers
from bench.private import CLONE_NEWNS, enter_private_mounts
from procview.daemon.publication import SLOT_NAMES
from procview.mounts import MS_BIND, MS_SLAVE, mount, parse_mountinfo
from procview.slots.publish import publish, withdraw
from procview.slots.skeleton import Skeleton

COUNTS = (10, 100, 1000)
ROUNDS = 5

_MS_REC = 1 << 14
_MNT_DETACH = 2
_SYS_PIVOT_ROOT = {"x86_64": 155, "s390x": 217, "ppc64le": 203}.get(os.uname().machine, 41)
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Propagation:
    """Medians, in seconds, for all slots together."""

    namespaces: int
    slots: int
    publish_seconds: float
    swap_seconds: float
    """A new view for each, while the old one is there."""
    withdraw_seconds: float


def measure(views: Path, work: Path, *, namespaces: int, rounds: int = ROUNDS) -> Propagation:
    """``views`` is a mount of procview. Call it in a mount namespace of your own, without threads."""
    skeleton = Skeleton(str(work / f"slots-{namespaces}"))
    skeleton.make(SLOT_NAMES)
    try:
        with _containers(skeleton, namespaces, work) as pids:
            slots = len(skeleton.names())
            publishing, swapping, withdrawing = [], [], []
            for _ in range(rounds):
                publishing.append(_seconds(lambda: publish(skeleton, str(views))))
                _expect(pids, slots)
                swapping.append(_seconds(lambda: publish(skeleton, str(views))))
                _expect(pids, slots)
                withdrawing.append(_seconds(lambda: withdraw(skeleton)))
                _expect(pids, 0)
    finally:
        withdraw(skeleton)
        skeleton.remove()
    medians = (statistics.median(times) for times in (publishing, swapping, withdrawing))
    return Propagation(namespaces, slots, *medians)


def _expect(pids: Sequence[int], views: int) -> None:
    """Each namespace has so many views: what was measured has happened."""
    for pid in pids:
        found = sum(entry.ours for entry in parse_mountinfo(Path(f"/proc/{pid}/mountinfo").read_text(encoding="utf-8")))
        if found != views:
            raise RuntimeError(f"a namespace has {found} views instead of {views}")


def _seconds(action: Callable[[], object]) -> float:
    before = time.perf_counter()
    action()
    return time.perf_counter() - before


@contextmanager
def _containers(skeleton: Skeleton, count: int, work: Path) -> Iterator[list[int]]:
    """So many processes with mount namespaces that have every slot."""
    root = work / "root"
    root.mkdir(exist_ok=True)
    pids: list[int] = []
    ready_read, ready_write = os.pipe()
    try:
        for _ in range(count):
            pid = os.fork()
            if pid == 0:
                _live(skeleton, root, ready_write)
            pids.append(pid)
        os.close(ready_write)
        ready_write = -1
        seen = 0
        while seen < count and (received := os.read(ready_read, count)):
            seen += len(received)
        if seen < count:
            raise OSError(f"only {seen} of {count} namespaces could be made")
        yield pids
    finally:
        os.close(ready_read)
        if ready_write >= 0:
            os.close(ready_write)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        for pid in pids:
            os.waitpid(pid, 0)


def _live(skeleton: Skeleton, root: Path, ready: int) -> None:
    """The life of a container: make its mounts, say so, wait for the end. Never returns."""
    try:
        _enter(skeleton, root)
        os.write(ready, b".")
        os.close(ready)
        signal.pause()
    except OSError as error:
        print(f"bench: {error}", file=sys.stderr)
    finally:
        os._exit(1)


def _enter(skeleton: Skeleton, root: Path) -> None:
    _check(_libc.unshare(CLONE_NEWNS))
    mount("none", "/", None, MS_SLAVE | _MS_REC)
    mount("tmpfs", str(root), "tmpfs", 0)
    for name in skeleton.names():
        source, target = skeleton.src(name), root / name
        if os.path.isdir(source):
            target.mkdir(parents=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.touch()
        mount(source, str(target), None, MS_BIND)
    os.chdir(root)
    _check(_libc.syscall(_SYS_PIVOT_ROOT, b".", b"."))
    _check(_libc.umount2(b".", _MNT_DETACH))


def _check(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def table(results: Sequence[Propagation]) -> str:
    lines = [f"{'mount namespaces':>16} {'slots':>6} {'publish':>10} {'swap':>10} {'withdraw':>10}"]
    for one in results:
        times = (one.publish_seconds, one.swap_seconds, one.withdraw_seconds)
        lines.append(
            f"{one.namespaces:>16,} {one.slots:>6} " + " ".join(f"{seconds * 1000:>7.1f} ms" for seconds in times)
        )
    return "\n".join(lines)


def main() -> int:
    if os.geteuid() != 0:
        print("bench: needs root: it mounts file systems", file=sys.stderr)
        return 2
    enter_private_mounts()
    with tempfile.TemporaryDirectory(prefix="procview-bench-") as directory:
        work = Path(directory)
        with servers.ours(work) as server:
            print(table([measure(server.mount, work, namespaces=count) for count in COUNTS]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
