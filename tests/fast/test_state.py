"""The memory that outlives a daemon: what the next one finds in it, and that it believes nothing blindly."""

import fcntl
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from procview._fast.engine import Engine, View
from procview._fast.inherit import inherit
from procview._fast.open_files import OpenFiles
from procview._fast.state import State
from tests.fast.kernel import MEMINFO, Kernel, kernel

HEAD_BYTES, UNIT_BYTES, UNITS = 4096, 256, 196608
RECORDS_AT = HEAD_BYTES + UNITS * 4
"""Where the units begin."""
MEMINFO_PATH = "proc/meminfo"


@contextmanager
def served(state: State) -> Iterator[tuple[Kernel, list[tuple[int, View, bool]]]]:
    """A daemon's hot path on this state, and what of it wants Python."""
    engine = Engine()
    files = OpenFiles(engine, state=state)
    wanting = inherit(engine, files, state)
    with kernel(files=files, engine=engine) as served_kernel:
        yield served_kernel, wanting


def next_daemons(state: State) -> State:
    """The same memory, as another process maps it."""
    return State(os.dup(state.fileno()))


def test_a_new_one_is_empty_and_sealed() -> None:
    state = State()
    assert not state.found
    assert not any(state.objects.values())
    seals = fcntl.fcntl(state.fileno(), fcntl.F_GET_SEALS)
    assert seals & fcntl.F_SEAL_SHRINK
    with pytest.raises(PermissionError):
        os.ftruncate(state.fileno(), 0)


def test_open_files_and_their_texts_are_found_again() -> None:
    state = State()
    with served(state) as (before, wanting):
        assert wanting == []
        whole, part, unread, closed = (before.open() for _ in range(4))
        before.read(whole)
        first = before.read(part, 0, 100).body
        rest = before.read(part, 100).body
        before.read(closed)
        before.release(closed)
        assert state.objects["files"] == 3
        assert state.objects["texts"] == 2
        with served(next_daemons(state)) as (after, wanting):
            assert wanting == []
            assert after.files.open_count == 3
            assert after.read(part, 100).body == rest, "a slice of what the first one gave"
            assert after.read(part, 50).body == (first + rest)[50:]
            assert after.read(whole, 1 << 20).body == b""
            assert after.read(unread).body.startswith(b"MemTotal:")
            assert after.open() not in {whole, part, unread, closed}, "no handle is given out twice"
            for handle in (whole, part, unread):
                assert after.release(handle).error == 0
            assert after.files.open_count == 1
            assert after.files.text_bytes == 0


def test_what_python_had_opened_is_for_python_to_open_again() -> None:
    state = State()
    engine = Engine()
    files = OpenFiles(engine, state=state)
    inherit(engine, files, state)
    host = files.open(0, engine.open(0, MEMINFO_PATH), MEMINFO_PATH)
    folder = files.open(0, object(), "sys/devices/system/cpu", is_directory=True)
    files.keep(folder, b".\n..\ncpu0", delivered=False)
    # Nobody was told of them yet: they are opened anew by the request that comes again.
    assert inherit(Engine(), OpenFiles(Engine(), state=(again := next_daemons(state))), again) == []
    assert not files.close(0)
    assert (host, folder) != (0, 0)


def test_containers_keep_their_records_and_those_of_dead_ones_go() -> None:
    state = State()
    with served(state) as (before, _):
        before.release(before.open())
        assert state.objects["containers"] >= 1
        count = state.objects["containers"]
        with served(next_daemons(state)) as (after, _):
            assert state.objects["containers"] == count
            after.release(after.open())
            assert state.objects["containers"] == count


def test_settings_of_containers_that_are_taken_over_are_asked_for_before_anything_is_served() -> None:
    """If each were asked for at its next read, those who read at the same moment would be too many for pyfuse3."""
    asked = []

    def ask(pid_namespace: int, start_ticks: int, cgroups: bytes) -> dict[str, Any]:
        asked.append((pid_namespace, start_ticks, cgroups))
        return {
            "cpus": "quota",
            "topology": "container",
            "swap": True,
            "devices": "container",
            "uptime": "container",
            "loadavg": True,
        }

    state = State()
    with served(state) as (before, _):
        handle = before.open()
        engine, following = Engine(), next_daemons(state)
        engine.configure(ask=ask)
        assert asked == []
        files = OpenFiles(engine, state=following)
        inherit(engine, files, following)
        assert len(asked) == 1
        with kernel(files=files, engine=engine) as after:
            assert after.read(handle).body.startswith(b"MemTotal:")
            after.release(handle)
    assert len(asked) == 1


def test_paths_of_single_callers() -> None:
    state = State()
    state.add_node("sys/devices/system/cpu/cpu0", is_dir=True, is_link=False)
    state.add_node("sys/devices/system/cpu/cpu0/node0", is_dir=False, is_link=True)
    assert next_daemons(state).nodes() == [
        ("sys/devices/system/cpu/cpu0", True, False),
        ("sys/devices/system/cpu/cpu0/node0", False, True),
    ]


def test_more_texts_than_there_is_room_for() -> None:
    """What has no room is kept in ordinary memory, and unknown to the next daemon."""
    state = State()
    engine = Engine()
    files = OpenFiles(engine, state=state, budget_bytes=200 << 20)
    inherit(engine, files, state)
    handles = [files.open(1, object(), "proc/x") for _ in range(70)]
    for number, handle in enumerate(handles):
        files.keep(handle, bytes([number]) * (1 << 20), delivered=False)
    assert state.objects["texts"] < 70
    for number, handle in enumerate(handles):
        assert files.part(handle, 1, 2) == bytes([number]) * 2
        files.close(handle)
    assert state.objects["texts"] == state.objects["files"] == 0


@pytest.mark.parametrize("size", [0, 4096, RECORDS_AT + UNITS * UNIT_BYTES])
def test_what_is_not_one_is_refused(size: int) -> None:
    fd = os.memfd_create("not-a-state", os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    with pytest.raises(ValueError, match=r"sealed|version"):
        State(fd)


@pytest.mark.parametrize("seed", range(150))
def test_whatever_is_in_it_the_next_daemon_serves(seed: int) -> None:
    """Damage of every kind: single bytes, whole words, in the table and in the objects."""
    chosen = random.Random(seed)
    state = State()
    with served(state) as (before, _):
        for _ in range(8):
            before.read(before.open(), 0, chosen.choice([10, 100000]))
        state.add_node("sys/devices/system/cpu/cpu0", is_dir=True, is_link=False)
        for _ in range(chosen.randrange(1, 40)):
            place = chosen.choice([HEAD_BYTES, RECORDS_AT + UNIT_BYTES]) + chosen.randrange(60 * UNIT_BYTES)
            if chosen.random() < 0.1:
                place = chosen.randrange(24, 100)  # the head, behind what says that it is one
            length = chosen.choice([1, 4, 8])
            os.pwrite(state.fileno(), chosen.choice([bytes(length), b"\xff" * length, chosen.randbytes(length)]), place)
        try:
            damaged = next_daemons(state)
        except ValueError:
            return
        damaged.nodes()
        with served(damaged) as (after, wanting):
            for handle, view, is_directory in wanting:
                after.files.give(handle, view)
                assert is_directory in (True, False)
            handle = after.open(MEMINFO)
            assert after.read(handle).body.startswith(b"MemTotal:")
            assert after.release(handle).error == 0
