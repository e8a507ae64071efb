"""The lane's side of the FUSE protocol, message by message; what a real kernel makes of it is tests/fs's."""

import errno
import os
import select
import signal
import struct
import subprocess
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from procview._fast.engine import Engine
from procview._fast.lane import ENDED, NO_RING, REFUSED, Lane
from procview._fast.open_files import OpenFiles
from procview._fast.ring import probe
from tests.fast import kernel as protocol
from tests.fast.kernel import (
    ATTR_OUT,
    BATCH_FORGET,
    DIRECTORY,
    ENTRY_OUT,
    FORGET,
    GETATTR,
    IN_HEADER,
    INIT,
    INIT_OUT,
    INTERRUPT,
    LOADAVG,
    LOOKUP,
    MEMINFO,
    OPEN,
    OPENDIR,
    OUT_HEADER,
    PRESSURE,
    READ,
    READ_IN,
    RELEASE,
    RELEASE_IN,
    RELEASEDIR,
    START_NS,
    STATFS,
    STATIC_SECONDS,
    Kernel,
)

OPEN_IN = struct.pack("=II", os.O_RDONLY, 0)
GETATTR_IN = struct.pack("=IIQ", 0, 0, 0)


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    with protocol.kernel() as played:
        yield played


def goes_to_pyfuse3(kernel: Kernel, opcode: int, body: bytes = b"", **more: int) -> None:
    """The request arrives there byte for byte, and its reply here."""
    unique = kernel.send(opcode, body, **more)
    assert kernel.relayed() == Kernel.request(opcode, unique, body, **more)
    answer = OUT_HEADER.pack(OUT_HEADER.size + 4, 0, unique) + b"\0\1\2\3"
    kernel.pyfuse3.send(answer)
    assert kernel.device.recv(1 << 20) == answer


def test_what_everyone_has_is_found_by_name(kernel: Kernel) -> None:
    reply = kernel.ask(LOOKUP, b"meminfo\0", node=DIRECTORY)
    node, generation, entry_valid, attr_valid, *rest = ENTRY_OUT.unpack(reply.body)
    assert (reply.error, node, generation, entry_valid, attr_valid) == (0, MEMINFO, 0, STATIC_SECONDS, STATIC_SECONDS)
    attributes = rest[2:]
    assert attributes[:9] == [MEMINFO, 0, 0, *[START_NS // 10**9] * 3, *[START_NS % 10**9] * 3]
    assert attributes[9:] == [0o100444, 1, 0, 0, 0, 4096, 0]


def test_attributes_of_what_everyone_has(kernel: Kernel) -> None:
    reply = kernel.ask(GETATTR, GETATTR_IN, node=DIRECTORY)
    valid, _, _, inode, size, blocks, *times, mode, links, uid, gid, rdev, block, flags = ATTR_OUT.unpack(reply.body)
    assert (valid, inode, size, blocks, mode, links) == (STATIC_SECONDS, DIRECTORY, 0, 0, 0o40555, 1)
    assert (uid, gid, rdev, block, flags) == (0, 0, 0, 4096, 0)
    assert times == [*[START_NS // 10**9] * 3, *[START_NS % 10**9] * 3]


def test_a_file_is_opened_read_to_its_end_and_released(kernel: Kernel) -> None:
    handle = kernel.open()
    text = kernel.read(handle).body
    assert text.startswith(b"MemTotal:")
    assert kernel.read(handle, len(text)).body == b""
    assert kernel.read(handle, 10, 20).body == text[10:30], "a slice of what offset 0 gave"
    assert kernel.read(handle, len(text) - 3, 100).body == text[-3:]
    assert kernel.read(handle, 1 << 62, 100).body == b""
    assert kernel.files.open_count == 1
    assert kernel.release(handle).error == 0
    assert (kernel.files.open_count, kernel.files.text_bytes) == (0, 0)
    assert kernel.lane.counters()["relayed"] == 0


def test_a_read_in_the_middle_first_gives_a_slice_of_a_whole_rendering(kernel: Kernel) -> None:
    handle = kernel.open()
    part = kernel.read(handle, 9, 50).body
    assert kernel.read(handle, 0, 59).body[9:] != b""
    assert len(part) == 50


def test_the_rest_goes_to_pyfuse3_byte_for_byte_and_back(kernel: Kernel) -> None:
    goes_to_pyfuse3(kernel, STATFS)
    goes_to_pyfuse3(kernel, OPENDIR, OPEN_IN, node=DIRECTORY)
    goes_to_pyfuse3(kernel, 4095, b"of a kernel to come")
    goes_to_pyfuse3(kernel, LOOKUP, b"cpu9\0", node=DIRECTORY)
    goes_to_pyfuse3(kernel, LOOKUP, b"meminfo", node=DIRECTORY)  # which is no string
    goes_to_pyfuse3(kernel, LOOKUP, b"", node=DIRECTORY)
    goes_to_pyfuse3(kernel, LOOKUP, b"cpu\0", node=0)  # whose children are not found by name
    goes_to_pyfuse3(kernel, GETATTR, GETATTR_IN, node=4711)
    goes_to_pyfuse3(kernel, GETATTR, GETATTR_IN, node=PRESSURE)
    goes_to_pyfuse3(kernel, OPEN, OPEN_IN, node=DIRECTORY)
    assert kernel.lane.counters()["pending"] == 0


@pytest.mark.parametrize("flags", [os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_TRUNC])
def test_errors_are_pythons(kernel: Kernel, flags: int) -> None:
    goes_to_pyfuse3(kernel, OPEN, struct.pack("=II", flags, 0), node=MEMINFO)
    assert kernel.files.open_count == 0


def test_who_cannot_be_placed_is_pythons(kernel: Kernel) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    for pid in (0, gone.pid):
        goes_to_pyfuse3(kernel, OPEN, OPEN_IN, node=MEMINFO, pid=pid)


def test_files_that_python_opened_are_pythons(kernel: Kernel) -> None:
    handle = kernel.files.open(1, Engine().open(os.getpid(), "proc/meminfo"))
    goes_to_pyfuse3(kernel, READ, READ_IN.pack(handle, 0, 10, 0, 0, 0, 0), node=MEMINFO)
    goes_to_pyfuse3(kernel, RELEASE, RELEASE_IN.pack(handle, 0, 0, 0), node=MEMINFO)
    kernel.files.keep(handle, b"0123456789", delivered=False)
    assert kernel.read(handle, 2, 3).body == b"234", "what Python has rendered need not be asked for"


def test_handles_that_are_not_open_are_pythons(kernel: Kernel) -> None:
    for handle in (0, 1, 1 << 63, (1 << 64) - 1):
        goes_to_pyfuse3(kernel, READ, READ_IN.pack(handle, 0, 10, 0, 0, 0, 0), node=MEMINFO)
        goes_to_pyfuse3(kernel, RELEASE, RELEASE_IN.pack(handle, 0, 0, 0), node=MEMINFO)


def test_what_may_take_long_is_pythons_until_it_does_not(kernel: Kernel) -> None:
    handle = kernel.open(LOADAVG)
    read = READ_IN.pack(handle, 0, 100, 0, 0, 0, 0)
    goes_to_pyfuse3(kernel, READ, read, node=LOADAVG)
    view = kernel.files.view(handle)
    assert view is not None
    assert view.path == "proc/loadavg"
    view.render()
    if view.blocking:
        pytest.skip("the tests run in the root of all cgroups, whose load is the host's and never watched")
    assert kernel.read(handle).body.count(b" ") == 4


def test_one_file_too_many_is_pythons() -> None:
    engine = Engine()
    with protocol.kernel(files=OpenFiles(engine, most=2), engine=engine) as kernel:
        handles = [kernel.open(), kernel.open()]
        goes_to_pyfuse3(kernel, OPEN, OPEN_IN, node=MEMINFO)
        for handle in handles:
            kernel.release(handle)
        assert kernel.files.open_count == 0


def test_a_pressure_file_is_opened_only_for_those_who_have_one(kernel: Kernel) -> None:
    engine = Engine()
    try:
        engine.open(os.getpid(), "proc/pressure/cpu")
    except FileNotFoundError:
        goes_to_pyfuse3(kernel, OPEN, OPEN_IN, node=PRESSURE)
    else:
        handle = kernel.open(PRESSURE)
        assert kernel.read(handle).body.startswith(b"some ")
        kernel.release(handle)
    assert kernel.files.open_count == 0


def test_what_is_forgotten_gets_no_reply(kernel: Kernel) -> None:
    kernel.send(FORGET, struct.pack("=Q", 1), node=MEMINFO)
    kernel.send(BATCH_FORGET, struct.pack("=IIQQ", 1, 0, MEMINFO, 1))
    assert kernel.is_quiet()
    assert kernel.lane.counters()["relayed"] == 0


def test_the_kernel_is_told_once_that_nothing_is_interrupted(kernel: Kernel) -> None:
    assert kernel.ask(INTERRUPT, struct.pack("=Q", 4)).error == errno.ENOSYS


def test_sizes_are_negotiated_so_that_every_message_fits(kernel: Kernel) -> None:
    unique = kernel.send(INIT, struct.pack("=IIII", 7, 38, 131072, 0xFFFFFFFF), pid=0)
    kernel.relayed()
    theirs = INIT_OUT.pack(7, 38, 131072, 0xFFFFFFFF, 16, 12, 1 << 20, 1, 256, 0, 3, *[0] * 7)
    kernel.pyfuse3.send(OUT_HEADER.pack(OUT_HEADER.size + len(theirs), 0, unique) + theirs)
    ours = INIT_OUT.unpack(kernel.reply().body)
    assert ours == (7, 38, 131072, 0xFFFFFFFF & ~(1 << 22), 256, 192, 4096, 1, 256, 0, 3, *[0] * 7)
    # Once: another request may have a reply of the same size.
    unique = kernel.send(STATFS)
    kernel.relayed()
    kernel.pyfuse3.send(OUT_HEADER.pack(OUT_HEADER.size + len(theirs), 0, unique) + theirs)
    assert kernel.reply().body == theirs


FLAGS_EXTEND, FLAGS2_RING = 1 << 30, 1 << 9
"""FUSE_INIT_EXT; FUSE_OVER_IO_URING without its lower half."""


@pytest.mark.parametrize(
    ("offer", "ring"),
    [
        (struct.pack("=5I", 7, 44, 131072, FLAGS_EXTEND, FLAGS2_RING) + bytes(44), True),
        (struct.pack("=5I", 7, 44, 131072, FLAGS_EXTEND, 0xFFFFFFFF & ~FLAGS2_RING) + bytes(44), False),
        (struct.pack("=5I", 7, 44, 131072, 0, FLAGS2_RING) + bytes(44), False),
        (struct.pack("=4I", 7, 31, 131072, 0xFFFFFFFF), False),
    ],
    ids=["offered", "not offered", "no flags2", "an older kernel"],
)
def test_a_ring_is_agreed_upon_when_the_kernel_offers_one(offer: bytes, ring: bool) -> None:
    if probe():
        pytest.skip(f"io_uring_setup: {os.strerror(probe())}")
    with protocol.kernel(rings=[(0, [0])]) as kernel:
        unique = kernel.send(INIT, offer, pid=0)
        kernel.relayed()
        theirs = INIT_OUT.pack(7, 38, 131072, 5, 16, 12, 1 << 20, 1, 256, 0, 3, *[0] * 7)
        kernel.pyfuse3.send(OUT_HEADER.pack(OUT_HEADER.size + len(theirs), 0, unique) + theirs)
        ours = INIT_OUT.unpack(kernel.reply().body)
        assert ours[3:6] == ((5 | FLAGS_EXTEND | 1 << 22, 128, 96) if ring else (5, 256, 192))
        assert ours[8] == (8 if ring else 256)
        assert ours[10] == (3 | FLAGS2_RING if ring else 3)
        assert select.select([kernel.lane], [], [], 20)[0]
        # A socket is no file system: it takes no ring, which is the end.
        assert kernel.lane.take_notices() & (ENDED | NO_RING) == (ENDED if ring else NO_RING)
        assert kernel.lane.ring_errors() == ([errno.EOPNOTSUPP] if ring else [])


def test_a_daemon_that_refuses_init_gets_no_ring() -> None:
    if probe():
        pytest.skip(f"io_uring_setup: {os.strerror(probe())}")
    with protocol.kernel(rings=[(0, [0])]) as kernel:
        offer = struct.pack("=5I", 7, 44, 131072, FLAGS_EXTEND, FLAGS2_RING) + bytes(44)
        unique = kernel.send(INIT, offer, pid=0)
        kernel.relayed()
        kernel.pyfuse3.send(OUT_HEADER.pack(OUT_HEADER.size, -errno.EPROTO, unique))
        assert kernel.reply().error == errno.EPROTO
        assert select.select([kernel.lane], [], [], 20)[0]
        assert kernel.lane.take_notices() & NO_RING


def test_a_lane_with_rings_that_never_begin_is_stopped() -> None:
    if probe():
        pytest.skip(f"io_uring_setup: {os.strerror(probe())}")
    with protocol.kernel(rings=[(0, [0]), (0, [1, 2])]) as kernel:
        assert kernel.open()


@pytest.fixture
def others() -> Iterator[list[int]]:
    """Processes in three pid namespaces of their own."""
    parents = [subprocess.Popen(["unshare", "-Urpf", "--kill-child", "sleep", "1000"]) for _ in range(3)]
    try:
        yield [inside(parent.pid) for parent in parents]
    finally:
        for parent in parents:
            parent.kill()
            parent.wait()


def test_too_many_requests_of_one_container_are_refused_and_not_those_of_another(
    kernel: Kernel, others: list[int]
) -> None:
    for _ in range(96):
        kernel.send(STATFS, pid=others[0])
    assert kernel.ask(STATFS, pid=others[0]).error == errno.EAGAIN
    assert select.select([kernel.lane], [], [], 20)[0]
    assert kernel.lane.take_notices() & REFUSED
    unique = kernel.send(STATFS, pid=others[1])
    requests = [kernel.relayed() for _ in range(97)]
    assert IN_HEADER.unpack_from(requests[-1])[2] == unique
    assert kernel.lane.counters() == {"answered": 0, "by_ring": 0, "relayed": 97, "refused": 1, "pending": 97}
    # What is answered makes room.
    first = IN_HEADER.unpack_from(requests[0])[2]
    kernel.pyfuse3.send(OUT_HEADER.pack(OUT_HEADER.size, -errno.EIO, first))
    assert kernel.reply() == protocol.Reply(first, errno.EIO, b"")
    kernel.send(STATFS, pid=others[0])
    assert kernel.ask(STATFS, pid=others[0]).error == errno.EAGAIN


def test_room_is_used_again_once_there_is_a_reply(kernel: Kernel, others: list[int]) -> None:
    first = [kernel.send(OPENDIR, pid=others[0]) for _ in range(96)]
    assert [IN_HEADER.unpack_from(kernel.relayed())[2] for _ in first] == first
    assert kernel.ask(OPENDIR, pid=others[0]).error == errno.EAGAIN
    kernel.pyfuse3.send(OUT_HEADER.pack(OUT_HEADER.size, 0, first[0]))
    assert kernel.reply().unique == first[0]
    another = kernel.send(OPENDIR, pid=others[0])
    assert IN_HEADER.unpack_from(kernel.relayed())[2] == another
    assert kernel.lane.counters()["pending"] == 96


@pytest.mark.parametrize("opcode", [RELEASE, RELEASEDIR])
def test_what_is_to_be_closed_is_never_refused(kernel: Kernel, opcode: int) -> None:
    """The kernel asks once, without a pid, and heeds no error: it would stay open for ever, and count."""
    first = [kernel.send(OPENDIR, pid=0) for _ in range(96)]
    assert [IN_HEADER.unpack_from(kernel.relayed())[2] for _ in first] == first
    assert kernel.ask(OPENDIR, pid=0).error == errno.EAGAIN
    for _ in range(256):
        closing = kernel.send(opcode, RELEASE_IN.pack(1, 0, 0, 0), pid=0)
        assert IN_HEADER.unpack_from(kernel.relayed())[2] == closing
    assert kernel.lane.counters()["refused"] == 1


def test_containers_leave_room_for_the_questions_of_guard_and_watchdog(kernel: Kernel, others: list[int]) -> None:
    for pid, count in zip(others, (96, 96, 32), strict=True):
        for _ in range(count):
            kernel.send(STATFS, pid=pid)
            kernel.relayed()
    assert kernel.ask(STATFS, pid=others[2]).error == errno.EAGAIN
    for _ in range(32):
        unique = kernel.send(STATFS)
        assert IN_HEADER.unpack_from(kernel.relayed())[2] == unique
    assert kernel.ask(STATFS).error == errno.EAGAIN


def inside(pid: int) -> int:
    """The process that ``unshare`` has put into a pid namespace of its own."""
    while True:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            if children := file.read().split():
                return int(children[0])
        time.sleep(0.01)


def test_replies_to_nothing_and_notifications(kernel: Kernel) -> None:
    kernel.pyfuse3.send(OUT_HEADER.pack(OUT_HEADER.size, 0, 4710))  # nobody asked
    note = OUT_HEADER.pack(OUT_HEADER.size + 8, -2, 0) + b"notified"
    kernel.pyfuse3.send(note)
    assert kernel.device.recv(1 << 20) == note


@pytest.mark.parametrize("last", [None, b"cut", bytes(3 << 20)], ids=["closed", "cut", "too-long"])
def test_that_pyfuse3_is_not_there_any_more_is_noticed(kernel: Kernel, last: bytes | None) -> None:
    if last is None:
        kernel.pyfuse3.close()
    else:
        kernel.pyfuse3.send(last)
    assert select.select([kernel.lane], [], [], 20)[0]
    assert kernel.lane.take_notices() & ENDED


def test_the_end_of_the_connection_is_noticed_once() -> None:
    with protocol.kernel(threads=3) as kernel:
        kernel.device.close()
        assert select.select([kernel.lane], [], [], 20)[0]
        assert kernel.lane.take_notices() & ENDED
        kernel.lane.stop()
        kernel.lane.stop()


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_threads_that_wait_are_stopped(threads: int) -> None:
    with protocol.kernel(threads=threads) as kernel:
        start = time.monotonic()
        kernel.lane.stop()
        assert time.monotonic() - start < 5
        with pytest.raises(RuntimeError):
            kernel.lane.start()


def test_a_lane_that_was_never_started_goes_away() -> None:
    engine = Engine()
    null = [os.open("/dev/null", os.O_RDWR) for _ in range(2)]
    lane = Lane(engine, OpenFiles(engine), device=null[0], socket=null[1], nodes=[], static_seconds=1, start_ns=0,
                threads=1)  # fmt: skip
    del lane
    for descriptor in null:
        with pytest.raises(OSError):
            os.fstat(descriptor)
    with pytest.raises(ValueError):
        Lane(engine, OpenFiles(engine), device=-1, socket=-1, nodes=[], static_seconds=1, start_ns=0, threads=0)


def test_signals_are_left_to_python(kernel: Kernel) -> None:
    came = threading.Event()
    before = signal.signal(signal.SIGUSR1, lambda _number, _frame: came.set())
    try:
        for _ in range(20):
            came.clear()
            os.kill(os.getpid(), signal.SIGUSR1)
            assert came.wait(5)
            assert kernel.is_quiet()
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_many_threads_answer_many_readers_without_mixing_them_up() -> None:
    with protocol.kernel(threads=4) as kernel:
        handles = [kernel.open() for _ in range(32)]
        asked = {}
        for number in range(2000):
            handle = handles[number % 32]
            offset = number % 7
            unique = kernel.send(READ, READ_IN.pack(handle, offset, 9, 0, 0, 0, 0), node=MEMINFO)
            asked[unique] = offset
            if number % 16 == 15:
                for _ in range(16):
                    reply = kernel.reply()
                    assert reply.error == 0
                    assert reply.body == b"MemTotal:      "[(at := asked.pop(reply.unique)) : at + 9]
        assert not asked
        for handle in handles:
            kernel.release(handle)
        assert kernel.files.open_count == 0


def test_everything_at_once() -> None:
    """What ``./dev sanitize thread`` looks at: all views in several threads, and all that Python does meanwhile."""
    engine = Engine()
    over = threading.Event()

    def meddle() -> None:
        while not over.is_set():
            engine.sample()
            engine.configure(cpus="cpuset")
            engine.counters()
            engine.configure()
            engine.absent_controllers()
            played.lane.counters()
            played.lane.take_notices()
            for path in protocol.VIEWS:
                handle = played.files.open(1, engine.open(os.getpid(), path))
                view = played.files.view(handle)
                assert view is not None
                played.files.keep(handle, view.render(), delivered=True)
                played.files.close(handle)

    def serve() -> None:
        """pyfuse3's part."""
        while message := played.pyfuse3.recv(1 << 20):
            _, opcode, unique, *_ = IN_HEADER.unpack_from(message)
            body = message[IN_HEADER.size :]
            if opcode == READ:
                handle, _, size, *_ = READ_IN.unpack(body)
                view = played.files.view(handle)
                assert view is not None
                text = view.render()
                played.files.keep(handle, text, delivered=True)
                body = text[:size]
            played.pyfuse3.send(OUT_HEADER.pack(OUT_HEADER.size + len(body), 0, unique) + body)

    with protocol.kernel(threads=4, engine=engine) as played:
        played.pyfuse3.settimeout(None)
        threads = [threading.Thread(target=meddle), threading.Thread(target=serve)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(30):
                handles = [played.open(protocol.FIRST_VIEW + number) for number in range(len(protocol.VIEWS))] * 2
                sent = {
                    played.send(READ, READ_IN.pack(handle, 0, 1 << 16, 0, 0, 0, 0), node=MEMINFO): handle
                    for handle in handles
                }
                while sent:
                    reply = played.reply()
                    assert reply.error == 0
                    path = protocol.VIEWS[handles.index(sent.pop(reply.unique))]
                    assert reply.body or path == "sys/devices/system/cpu/offline"
                for handle in set(handles):
                    assert played.release(handle).error == 0
            assert played.files.open_count <= 1
        finally:
            over.set()
            threads[0].join()
            played.lane.stop()
            played.pyfuse3.close()
            threads[1].join()


_BODY = st.binary(max_size=200) | st.sampled_from([OPEN_IN, GETATTR_IN, b"meminfo\0"])


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=300),
            st.tuples(
                st.sampled_from([LOOKUP, GETATTR, OPEN, READ, RELEASE, FORGET, INTERRUPT, INIT, STATFS])
                | st.integers(0, 2**32 - 1),
                st.sampled_from([1, DIRECTORY, MEMINFO, LOADAVG, PRESSURE]) | st.integers(0, 2**64 - 1),
                st.sampled_from([0, os.getpid()]) | st.integers(0, 2**32 - 1),
                _BODY,
            ),
        ),
        max_size=30,
    ),
    st.lists(st.binary(max_size=100), max_size=5),
)
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_no_message_harms_it(requests: list[bytes | tuple[int, int, int, bytes]], replies: list[bytes]) -> None:
    with protocol.kernel() as kernel:
        for message in replies:
            # A reply that is cut ends the relay, as the end of pyfuse3 would: not today's subject.
            if len(message) >= OUT_HEADER.size:
                kernel.pyfuse3.send(message)
        for request in requests:
            if isinstance(request, tuple):
                opcode, node, pid, body = request
                kernel.send(opcode, body, node=node, pid=pid)
            elif request:
                kernel.device.send(request)
        unique = kernel.send(GETATTR, GETATTR_IN, node=DIRECTORY)
        while (reply := kernel.reply()).unique != unique:
            pass
        assert reply.error == 0
