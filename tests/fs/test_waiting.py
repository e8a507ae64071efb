"""Lingering between requests: it answers at once, it is bounded, and it makes way."""

import os
import time
from collections.abc import Iterator

import pytest
import trio

from procview.fs import waiting
from procview.fs.waiting import _BargingLock, _Lowlevel


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)
    os.close(writer)


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The descriptors that were waited for through trio."""
    seen: list[int] = []
    real = trio.lowlevel.wait_readable

    async def wait_readable(fd: int) -> None:
        seen.append(fd)
        await real(fd)

    monkeypatch.setattr(trio.lowlevel, "wait_readable", wait_readable)
    return seen


def test_a_request_that_follows_soon_takes_no_pass_through_trio(
    pipe: tuple[int, int], passes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        monkeypatch.setattr(waiting, "TURN_SECONDS", 60)
        lowlevel = _Lowlevel(lambda: False)
        os.write(pipe[1], b"x")
        await lowlevel.wait_readable(pipe[0])
        await lowlevel.wait_readable(pipe[0])
        assert passes == [pipe[0]]

    trio.run(main)


def test_a_turn_ends(pipe: tuple[int, int], passes: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """However fast requests come, the event loop gets its turn."""

    async def main() -> None:
        monkeypatch.setattr(waiting, "TURN_SECONDS", 0.01)
        lowlevel = _Lowlevel(lambda: False)
        os.write(pipe[1], b"x")
        deadline = time.monotonic() + 10
        while len(passes) < 3:
            assert time.monotonic() < deadline
            await lowlevel.wait_readable(pipe[0])

    trio.run(main)


def test_nobody_lingers_while_a_reader_waits_for_a_thread(pipe: tuple[int, int], passes: list[int]) -> None:
    async def main() -> None:
        lowlevel = _Lowlevel(lambda: True)
        os.write(pipe[1], b"x")
        for _ in range(3):
            await lowlevel.wait_readable(pipe[0])
        assert len(passes) == 3

    trio.run(main)


def test_without_a_request_it_waits_in_trio_and_can_be_cancelled(pipe: tuple[int, int], passes: list[int]) -> None:
    async def main() -> None:
        lowlevel = _Lowlevel(lambda: False)
        os.write(pipe[1], b"x")
        await lowlevel.wait_readable(pipe[0])
        os.read(pipe[0], 1)
        with trio.move_on_after(0.05) as scope:
            await lowlevel.wait_readable(pipe[0])
        assert scope.cancelled_caught
        assert len(passes) == 2

    trio.run(main)


def test_a_descriptor_too_high_for_select_waits_in_trio(passes: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        monkeypatch.setattr(waiting, "FD_SETSIZE", 0)
        reader, writer = os.pipe()
        try:
            lowlevel = _Lowlevel(lambda: False)
            os.write(writer, b"x")
            for _ in range(2):
                await lowlevel.wait_readable(reader)
            assert len(passes) == 2
        finally:
            os.close(reader)
            os.close(writer)

    trio.run(main)


def test_the_lock_admits_one_at_a_time_and_everybody_in_the_end() -> None:
    async def main() -> None:
        lock = _BargingLock()
        inside = 0
        done = 0

        async def enter() -> None:
            nonlocal inside, done
            for _ in range(3):
                async with lock:
                    inside += 1
                    assert inside == 1
                    await trio.sleep(0)
                    inside -= 1
                await trio.sleep(0)
            done += 1

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(enter)
        assert done == 5

    trio.run(main)
