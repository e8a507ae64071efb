"""The FUSE requests, called directly, without a mount."""

# ruff: noqa: ARG001, ARG005 - the texts and mistakes that a test makes up need not depend on who reads what

import errno
import logging
import os
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, cast

import pyfuse3
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from procview._fast.open_files import OpenFiles
from procview.fs import operations as module
from procview.fs.blocking import BlockingWork
from procview.fs.nodes import ROOT_INODE, inode_of
from procview.fs.operations import ViewOperations
from tests.fs.fake import CPU_DIR, FakeEngine

PID = os.getpid()
MEMINFO = inode_of("proc/meminfo")


@dataclass
class Context:
    """What pyfuse3 tells of the caller; its own class cannot be made by hand."""

    pid: int = PID


CTX = cast("pyfuse3.RequestContext", Context())


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await test()

    trio.run(main)


def serving(engine: FakeEngine | None = None, **kwargs: Any) -> ViewOperations:
    kwargs.setdefault("blocking", BlockingWork(deadline_seconds=1))
    return ViewOperations((engine or FakeEngine()).as_engine(), **kwargs)


async def opened(operations: ViewOperations, path: str = "proc/meminfo", flags: int = os.O_RDONLY) -> Any:
    node = ROOT_INODE
    for name in path.split("/"):
        node = (await operations.lookup(pyfuse3.InodeT(node), pyfuse3.FileNameT(name.encode()), CTX)).st_ino
    return (await operations.open(pyfuse3.InodeT(node), pyfuse3.FlagT(flags), CTX)).fh


async def error_of(call: Awaitable[object]) -> int:
    with pytest.raises(pyfuse3.FUSEError) as caught:
        await call
    return caught.value.errno


def test_attributes_are_those_of_procfs() -> None:
    async def test() -> None:
        operations = serving()
        file = await operations.getattr(MEMINFO, CTX)
        assert (oct(file.st_mode), file.st_size, file.st_uid, file.st_gid) == ("0o100444", 0, 0, 0)
        root = await operations.getattr(pyfuse3.ROOT_INODE, CTX)
        assert oct(root.st_mode) == "0o40555"

    run(test)


def test_only_names_that_everyone_has_are_cached() -> None:
    async def test() -> None:
        operations = serving()
        meminfo = await operations.lookup(inode_of("proc"), b"meminfo", CTX)
        assert meminfo.entry_timeout == meminfo.attr_timeout == module.STATIC_SECONDS
        cpu = await operations.lookup(inode_of(CPU_DIR), b"cpu0", CTX)
        assert (cpu.entry_timeout, cpu.attr_timeout) == (0, module.STATIC_SECONDS)
        core = await operations.lookup(inode_of(f"{CPU_DIR}/cpu0"), b"topology", CTX)
        assert core.entry_timeout == 0
        # A missing name is an error and not a negative entry, which could be cached.
        assert await error_of(operations.lookup(inode_of(CPU_DIR), b"cpu9", CTX)) == errno.ENOENT

    run(test)


def test_open_is_direct_io_and_read_only() -> None:
    async def test() -> None:
        operations = serving()
        info = await operations.open(MEMINFO, os.O_RDONLY, CTX)
        assert info.direct_io
        assert not info.keep_cache
        for flags in (os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_TRUNC, os.O_WRONLY | os.O_APPEND):
            assert await error_of(operations.open(MEMINFO, flags, CTX)) == errno.EACCES
        assert await error_of(operations.open(inode_of("proc"), os.O_RDONLY, CTX)) == errno.EISDIR
        assert await error_of(operations.open(pyfuse3.InodeT(987), os.O_RDONLY, CTX)) == errno.ESTALE

    run(test)


def test_offset_zero_renders_afresh_and_others_slice_it() -> None:
    async def test() -> None:
        count = iter(range(1000))
        operations = serving(FakeEngine(text=lambda pid, path: b"%03d abcdefgh" % next(count)))
        fh = await opened(operations)
        assert await operations.read(fh, 4, 4) == b"abcd"  # nothing rendered yet: renders
        assert await operations.read(fh, 0, 4) == b"001 "
        assert await operations.read(fh, 1, 100) == b"01 abcdefgh"
        assert await operations.read(fh, 12, 100) == b""
        assert await operations.read(fh, 1 << 62, 1) == b""
        assert await operations.read(fh, 0, 4096) == b"002 abcdefgh"
        assert await operations.read(fh, 2, 2) == b"2 "
        assert next(count) == 3

    run(test)


def test_a_shorter_rendering_ends_earlier() -> None:
    async def test() -> None:
        texts = iter([b"x" * 100, b"y" * 10])
        operations = serving(FakeEngine(text=lambda pid, path: next(texts)))
        fh = await opened(operations)
        assert await operations.read(fh, 0, 50) == b"x" * 50
        assert await operations.read(fh, 0, 50) == b"y" * 10
        assert await operations.read(fh, 50, 50) == b""

    run(test)


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 40), st.integers(1, 40)), max_size=40), st.integers(20, 200)
)
def test_any_reads_of_any_size_with_any_budget(reads: list[tuple[int, int, int]], budget_bytes: int) -> None:
    async def test() -> None:
        engine = FakeEngine(text=lambda pid, path: b"0123456789abcdefghij")
        operations = serving(engine, files=OpenFiles(engine.as_engine(), budget_bytes=budget_bytes))
        handles = [await opened(operations) for _ in range(4)]
        for which, offset, size in reads:
            expected = b"0123456789abcdefghij"[offset : offset + size]
            assert await operations.read(handles[which], offset, size) == expected
            assert operations.counters()["text_bytes"] <= budget_bytes
        for handle in handles:
            await operations.release(handle)
        assert operations.counters()["text_bytes"] == operations.counters()["open"] == 0

    run(test)


def test_identity_is_taken_at_open() -> None:
    async def test() -> None:
        operations = serving()
        fh = await opened(operations)
        # READ requests do not even say who reads.
        assert await operations.read(fh, 0, 100) == b"%d proc/meminfo\n" % PID

    run(test)


def test_handles_are_dead_after_release() -> None:
    async def test() -> None:
        operations = serving()
        fh = await opened(operations)
        await operations.release(fh)
        assert await error_of(operations.read(fh, 0, 10)) == errno.EBADF
        await operations.release(fh)
        assert operations.counters()["open"] == 0

    run(test)


def test_open_files_are_bounded_per_owner_and_in_all(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        engine = FakeEngine()
        operations = serving(engine, files=OpenFiles(engine.as_engine(), most=4, most_per_owner=3))
        handles = [await opened(operations) for _ in range(2)]
        directory = await operations.opendir(pyfuse3.ROOT_INODE, CTX)
        assert await error_of(opened(operations)) == errno.ENFILE
        assert await error_of(operations.opendir(pyfuse3.ROOT_INODE, CTX)) == errno.ENFILE
        nobody = cast("pyfuse3.RequestContext", Context(pid=0))
        handles.append((await operations.open(MEMINFO, os.O_RDONLY, nobody)).fh)
        assert await error_of(operations.open(MEMINFO, os.O_RDONLY, nobody)) == errno.ENFILE
        await operations.releasedir(directory)
        handles.append(await opened(operations))
        for handle in handles:
            await operations.release(handle)
        assert operations.counters()["open"] == 0
        assert operations.counters()["refused_opens"] == 3
        # A failed open is not charged.
        for _ in range(5):
            assert await error_of(operations.open(MEMINFO, os.O_WRONLY, CTX)) == errno.EACCES
        assert operations.counters()["open"] == 0

    run(test)
    assert all(getattr(record, "event", None) in ("open-files-refused", "fallback") for record in caplog.records)


def test_a_view_that_blocks_gives_way_to_the_host_after_the_deadline(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        release = threading.Event()
        stuck = threading.Event()

        def text(pid: int, path: str) -> bytes:
            stuck.set()
            release.wait()
            return b"never"

        engine = FakeEngine(text=text, render_blocking=True)
        operations = serving(engine, blocking=BlockingWork(deadline_seconds=0.05))
        try:
            fh = await opened(operations, "proc/diskstats")
            assert await operations.read(fh, 0, 100) == b"host proc/diskstats\n"
            assert await trio.to_thread.run_sync(stuck.wait, 20)
            assert operations.counters()["fallback_deadline"] == 1
            assert operations.counters()["blocking"] == 1
        finally:
            release.set()

    run(test)
    (line,) = caplog.records
    assert (line.event, line.reason) == ("fallback", "deadline")  # type: ignore[attr-defined]


def test_others_are_served_while_one_blocks() -> None:
    async def test() -> None:
        release = threading.Event()

        def text(pid: int, path: str) -> bytes:
            if path == "proc/diskstats":
                release.wait()
            return path.encode()

        engine = FakeEngine(text=text, render_blocking=True)
        operations = serving(engine, blocking=BlockingWork(deadline_seconds=30))
        results: list[bytes] = []

        async def read_slowly(handle: Any) -> None:
            results.append(await operations.read(handle, 0, 100))

        slow = await opened(operations, "proc/diskstats")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read_slowly, slow)
            engine.render_blocking = False
            quick = await opened(operations, "proc/uptime")
            assert await operations.read(quick, 0, 100) == b"proc/uptime"
            assert not results
            release.set()
        assert results == [b"proc/diskstats"]

    run(test)


def test_an_open_that_blocks_gives_way_to_the_host_after_the_deadline() -> None:
    async def test() -> None:
        release = threading.Event()

        def opening(pid: int) -> None:
            if pid:
                release.wait()

        engine = FakeEngine(open_blocking=True, opening=opening)
        operations = serving(engine, blocking=BlockingWork(deadline_seconds=0.05))
        try:
            fh = await opened(operations)
            assert await operations.read(fh, 0, 100) == b"host proc/meminfo\n"
        finally:
            release.set()

    run(test)


def test_a_file_released_while_it_renders_leaves_nothing() -> None:
    async def test() -> None:
        release = threading.Event()
        engine = FakeEngine(text=lambda pid, path: b"x" * (100 if release.wait() else 0), render_blocking=True)
        operations = serving(engine, blocking=BlockingWork(deadline_seconds=30))
        fh = await opened(operations)

        async def read() -> None:
            assert await operations.read(fh, 0, 10) == b"x" * 10

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await trio.testing.wait_all_tasks_blocked()
            await operations.release(fh)
            release.set()
        assert operations.counters()["text_bytes"] == operations.counters()["open"] == 0

    run(test)


def test_a_view_that_breaks_gives_the_host(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        def text(pid: int, path: str) -> bytes:
            raise ZeroDivisionError

        operations = serving(FakeEngine(text=text))
        fh = await opened(operations)
        assert await operations.read(fh, 0, 100) == b"host proc/meminfo\n"
        assert operations.counters()["unexpected"] == 1

    run(test)
    assert "ZeroDivisionError" in caplog.text


def test_an_open_that_breaks_gives_the_host() -> None:
    async def test() -> None:
        def opening(pid: int) -> None:
            if pid:
                raise ValueError("odd cgroup")

        operations = serving(FakeEngine(opening=opening))
        fh = await opened(operations)
        assert await operations.read(fh, 0, 100) == b"host proc/meminfo\n"

    run(test)


def test_whatever_breaks_is_an_error_code(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        def opening(pid: int) -> None:
            raise RecursionError

        operations = serving(FakeEngine(opening=opening))
        assert await error_of(opened(operations)) == errno.EIO
        assert operations.counters()["open"] == 0

    run(test)
    assert {record.levelno for record in caplog.records} == {logging.ERROR}


def test_errors_of_the_system_keep_their_number() -> None:
    async def test() -> None:
        def text(pid: int, path: str) -> bytes:
            raise OSError(errno.ENODEV, "gone")

        operations = serving(FakeEngine(text=text))
        fh = await opened(operations)
        assert await error_of(operations.read(fh, 0, 100)) == errno.ENODEV

    run(test)


def test_fallbacks_of_the_engine_are_counted_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        operations = serving(FakeEngine(fallback="unreadable-cgroup"))
        await opened(operations)
        assert operations.counters()["fallback_unreadable_cgroup"] == 1

    run(test)
    assert "unreadable-cgroup" in caplog.text


def test_reading_loadavg_wakes_the_sampler() -> None:
    async def test() -> None:
        woken: list[None] = []
        operations = serving(loadavg_was_read=lambda: woken.append(None))
        await operations.read(await opened(operations, "proc/meminfo"), 0, 100)
        assert not woken
        await operations.read(await opened(operations, "proc/loadavg"), 0, 100)
        assert len(woken) == 1

    run(test)


def test_nothing_can_be_changed() -> None:
    async def test() -> None:
        operations: Any = serving()
        root = pyfuse3.ROOT_INODE
        fields = pyfuse3.SetattrFields()
        assert await error_of(operations.setattr(MEMINFO, pyfuse3.EntryAttributes(), fields, None, CTX)) == errno.EPERM
        assert await error_of(operations.create(root, b"x", 0o644, os.O_RDWR, CTX)) == errno.EACCES
        assert await error_of(operations.mkdir(root, b"x", 0o755, CTX)) == errno.EPERM
        assert await error_of(operations.unlink(root, b"x", CTX)) == errno.EPERM
        assert await error_of(operations.rmdir(root, b"proc", CTX)) == errno.EPERM
        assert await error_of(operations.symlink(root, b"x", b"y", CTX)) == errno.EPERM
        assert await error_of(operations.rename(root, b"x", root, b"y", 0, CTX)) == errno.EPERM
        assert await error_of(operations.link(MEMINFO, root, b"y", CTX)) == errno.EPERM
        assert await error_of(operations.mknod(root, b"x", 0o644, 0, CTX)) == errno.EPERM
        assert await error_of(operations.readlink(MEMINFO, CTX)) == errno.EINVAL
        for call in (operations.flush(1), operations.fsync(1, False), operations.getxattr(MEMINFO, b"user.x", CTX)):
            assert await error_of(call) == errno.ENOSYS
        assert (await operations.statfs(CTX)).f_namemax == 255
        assert not await operations.access(MEMINFO, os.W_OK, CTX)
        assert not await operations.access(MEMINFO, os.X_OK, CTX)
        assert await operations.access(MEMINFO, os.R_OK, CTX)
        await operations.forget([(MEMINFO, 1)])

    run(test)
