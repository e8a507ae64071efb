"""The long run: a million messages and more, and as many kernel texts as one has time for. ``./dev fuzz``.

Each kind runs in a child process, so that a crash is told and not shared. All is decided by the seed; what failed is
done again with ``--only``, and is left in a folder in the form of tests/fuzz/kept.
"""

import argparse
import mmap
import os
import secrets
import signal
import struct
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from procview._fast.engine import Engine
from tests.fuzz import kept, messages, texts
from tests.fuzz.exchange import Exchange, WrongAnswerError
from tests.fuzz.recordings import recordings, trees_folder

MESSAGES_PER_BATCH = 2000
KINDS = ("messages", "texts")
_HANG_SECONDS = 300
_SAY_SECONDS = 30
_PROGRESS = struct.Struct("=QQ")
"""The batch in hand, and how much was done before it."""


class Progress:
    """What a child has come to, for its parent to see even when it crashes."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _PROGRESS.size)

    def note(self, batch: int, done: int) -> None:
        self._memory[:] = _PROGRESS.pack(batch, done)

    def now(self) -> tuple[int, int]:
        batch, done = _PROGRESS.unpack(self._memory[:])
        return batch, done


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./dev fuzz [--sanitize]", description=__doc__)
    parser.add_argument("--messages", type=int, default=1_000_000, metavar="N", help="to the lane, from both its sides")
    parser.add_argument("--texts", type=int, default=200_000, metavar="N", help="files of the kernel that are spoilt")
    parser.add_argument("--seed", type=int, help="one for the whole run; a new one if it is not given")
    parser.add_argument("--only", metavar="KIND:BATCH", help="one batch once more: messages:17")
    parser.add_argument("--found", type=Path, default=Path(".cache/fuzz"), help="where to leave what has failed")
    arguments = parser.parse_args(words)
    if arguments.seed is None:
        arguments.seed = secrets.randbelow(2**32)
    if arguments.only is not None:
        kind, _, number = arguments.only.partition(":")
        if kind not in KINDS or not number.isdecimal():
            parser.error(f"--only wants one of {KINDS} and a number: {arguments.only}")
    return arguments


def _batches(arguments: argparse.Namespace, kind: str) -> Iterator[int]:
    if arguments.only is not None:
        yield int(arguments.only.removeprefix(f"{kind}:"))
        return
    batch = 0
    while True:
        yield batch
        batch += 1


def _do_messages(arguments: argparse.Namespace, progress: Progress, folder: Path) -> None:
    done = 0
    engine = messages.engine_for_messages(folder)
    descriptors = len(os.listdir("/proc/self/fd"))
    for number in _batches(arguments, "messages"):
        progress.note(number, done)
        if done >= arguments.messages:
            return
        batch = messages.Batch.of(engine, f"{arguments.seed}/{number}")
        with _kept_if_it_fails(arguments, batch.exchange, number):
            done += batch.run(MESSAGES_PER_BATCH)
        # The engine keeps some, of cgroups and callers; a lane must not.
        left = len(os.listdir("/proc/self/fd")) - descriptors - engine.counters()["descriptors"]
        if left > 100:
            raise WrongAnswerError(f"{left} descriptors are left open by lanes")
    progress.note(0, done)


@contextmanager
def _kept_if_it_fails(arguments: argparse.Namespace, exchange: Exchange, number: int) -> Iterator[None]:
    try:
        yield
    except Exception:
        place = arguments.found / f"messages-{arguments.seed}-{number}.txt"
        place.parent.mkdir(parents=True, exist_ok=True)
        steps = exchange.steps
        if exchange.options["threads"] == 1:
            steps = kept.shrunk(steps, lambda fewer: _fails(exchange.engine, exchange, fewer))
        kept.write_messages(place, exchange.options, steps)
        print(f"left in {place}", file=sys.stderr)
        raise


def _fails(engine: Engine, exchange: Exchange, steps: Sequence[str]) -> bool:
    again = Exchange(engine, exchange.options)
    try:
        with again.running():
            again.replay(list(steps))
            again.settle()
    except WrongAnswerError:
        return True
    return False


def _do_texts(arguments: argparse.Namespace, progress: Progress, folder: Path) -> None:
    done = 0
    found = recordings(folder)
    for number in _batches(arguments, "texts"):
        progress.note(number, done)
        if done >= arguments.texts:
            return
        batch = texts.Batch.of(found, f"{arguments.seed}/{number}")
        try:
            done += batch.run()
        except Exception:
            if batch.case is not None:
                place = arguments.found / f"texts-{arguments.seed}-{number}.tree"
                place.parent.mkdir(parents=True, exist_ok=True)
                kept.write_case(place, batch.case)
                print(f"left in {place}", file=sys.stderr)
            raise
    progress.note(0, done)


def _forked(arguments: argparse.Namespace, kind: str, progress: Progress, folder: Path) -> int:
    child = os.fork()
    if child == 0:
        status = 1
        try:
            # Else each message that is sent wakes a thread of the lane in place of this one: twice the time.
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
            (_do_messages if kind == "messages" else _do_texts)(arguments, progress, folder)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    return child


def _in_a_child(arguments: argparse.Namespace, kind: str) -> bool:
    """Whether it went well."""
    progress = Progress()
    start = time.monotonic()
    with trees_folder() as folder:  # here, for a child that crashes cannot remove it
        status = _wait(_forked(arguments, kind, progress, folder), kind, progress)
    batch, done = progress.now()
    took = f"{done} {kind} in {time.monotonic() - start:.0f} s"
    if status == 0:
        print(f"{took}: all is well (seed {arguments.seed})", flush=True)
        return True
    how = f"signal {-status}" if status < 0 else f"exit status {status}"
    print(
        f"{took}, then batch {batch} failed ({how}). Once more: --seed {arguments.seed} --only {kind}:{batch}",
        flush=True,
    )
    return False


def _wait(child: int, kind: str, progress: Progress) -> int:
    """The child's status as subprocess has it; one that hangs is killed."""
    seen, since, said = progress.now(), time.monotonic(), time.monotonic()
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        now = time.monotonic()
        if progress.now() != seen:
            seen, since = progress.now(), now
        elif now - since > _HANG_SECONDS:
            print(f"batch {seen[0]} has not ended in {_HANG_SECONDS} s", flush=True)
            os.kill(child, signal.SIGKILL)
        if now - said > _SAY_SECONDS:
            said = now
            print(f"{seen[1]} {kind} so far", flush=True)
        time.sleep(0.2)


def main(words: Sequence[str] | None = None) -> int:
    arguments = _arguments(words)
    print(f"seed {arguments.seed}", flush=True)
    wanted = [kind for kind in KINDS if getattr(arguments, kind) > 0 and (arguments.only or kind).startswith(kind)]
    went_well = [_in_a_child(arguments, kind) for kind in wanted]  # one that fails does not stop the other
    return 0 if all(went_well) else 1


if __name__ == "__main__":
    sys.exit(main())
