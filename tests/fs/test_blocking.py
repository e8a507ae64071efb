"""Work in threads: results, errors, the deadline, and that one owner cannot take the threads of others."""

import os
import threading
from collections.abc import Callable

import pytest
import trio
import trio.testing

from procview.fs.blocking import THREADS, THREADS_PER_OWNER, WAITING_PER_OWNER, BlockingWork, TooSlowError


@pytest.fixture
def stuck() -> "threading.Event":
    """Set at the end of the test, so that no thread outlives it."""
    return threading.Event()


def run_to_the_end(test: Callable[[], object], release: threading.Event) -> None:
    async def main() -> None:
        try:
            await test()  # type: ignore[misc]
        finally:
            release.set()

    trio.run(main)


def test_result_and_errors_pass_through(stuck: threading.Event) -> None:
    async def test() -> None:
        work = BlockingWork(deadline_seconds=30)
        assert await work.run(1, lambda: 42) == 42
        with pytest.raises(FileNotFoundError):
            await work.run(1, lambda: os.stat("/nonexistent"))
        assert work.running == 0

    run_to_the_end(test, stuck)


def test_deadline(stuck: threading.Event) -> None:
    async def test() -> None:
        work = BlockingWork(deadline_seconds=0.05)
        with pytest.raises(TooSlowError):
            await work.run(1, stuck.wait)
        assert work.running == 1
        stuck.set()
        while work.running:
            await trio.sleep(0.001)

    run_to_the_end(test, stuck)


def test_a_stuck_owner_leaves_the_threads_of_others_alone(stuck: threading.Event) -> None:
    async def test() -> None:
        work = BlockingWork(deadline_seconds=1.5)

        async def hang() -> None:
            with pytest.raises(TooSlowError):
                await work.run(1, stuck.wait)

        async with trio.open_nursery() as nursery:
            for _ in range(WAITING_PER_OWNER):
                nursery.start_soon(hang)
            await trio.testing.wait_all_tasks_blocked()
            assert work.running == THREADS_PER_OWNER < THREADS
            with pytest.raises(TooSlowError, match="wait already"):
                await work.run(1, lambda: 1)
            assert await work.run(2, lambda: 2) == 2
        assert work.running == THREADS_PER_OWNER

    run_to_the_end(test, stuck)


def test_more_readers_than_threads_all_get_their_result(stuck: threading.Event) -> None:
    async def test() -> None:
        work = BlockingWork(deadline_seconds=30)
        results: list[int] = []

        async def ask(number: int) -> None:
            results.append(await work.run(number % 3, lambda: number))

        async with trio.open_nursery() as nursery:
            for number in range(100):
                nursery.start_soon(ask, number)
        assert sorted(results) == list(range(100))
        assert work.running == 0

    run_to_the_end(test, stuck)
