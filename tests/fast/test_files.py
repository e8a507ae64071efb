"""The table of open files: what is kept of each stays within the budget, and fairly so; handles are never confused."""

import errno
import gc
import os
import sys
import weakref
from collections import OrderedDict
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procview._fast.engine import Engine, View
from procview._fast.open_files import OpenFiles

NO_ENGINE = cast("Engine", None)


class Opened:
    """Stands for a view: the table does not look into those that it is given."""


def table(budget_bytes: int = 100, most: int = 1000, most_per_owner: int = 1000) -> OpenFiles:
    return OpenFiles(NO_ENGINE, most=most, most_per_owner=most_per_owner, budget_bytes=budget_bytes)


def opened(files: OpenFiles, owner: int = 1) -> int:
    return files.open(owner, cast("View", Opened()))


def kept(files: OpenFiles, handle: int) -> bool:
    """Whether a read in the middle is answered from what was kept."""
    return files.part(handle, 1, 1) is not None


def test_keeps_and_drops() -> None:
    files = table()
    handle = opened(files)
    assert files.part(handle, 0, 10) is None
    files.keep(handle, b"0123456789", delivered=False)
    assert files.part(handle, 0, 10) is None, "offset 0 is a new rendering"
    assert (files.part(handle, 2, 3), files.part(handle, 8, 100), files.part(handle, 10, 1)) == (b"234", b"89", b"")
    files.keep(handle, b"y", delivered=False)
    assert (files.part(handle, 1, 10), files.text_bytes) == (b"", 1)
    assert files.close(handle)
    assert not files.close(handle)
    assert (files.text_bytes, files.open_count, files.view(handle)) == (0, 0, None)
    files.keep(handle, b"late", delivered=False)
    assert files.text_bytes == 0


def test_the_owner_with_most_loses_first() -> None:
    files = table()
    mine = opened(files, 1)
    files.keep(mine, b"x" * 20, delivered=False)
    greedy = [opened(files, 2) for _ in range(10)]
    for handle in greedy:
        files.keep(handle, b"x" * 30, delivered=False)
    assert kept(files, mine)
    assert kept(files, greedy[-1])
    assert not kept(files, greedy[0])


def test_delivered_texts_go_before_those_still_being_read() -> None:
    files = table()
    handles = [opened(files) for _ in range(3)]
    for handle, delivered in zip(handles, (False, True, False), strict=True):
        files.keep(handle, b"x" * 40, delivered=delivered)
    assert [kept(files, handle) for handle in handles] == [True, False, True]


def test_least_recently_used_goes_first() -> None:
    files = table()
    handles = [opened(files) for _ in range(3)]
    files.keep(handles[0], b"x" * 40, delivered=False)
    files.keep(handles[1], b"x" * 40, delivered=False)
    assert kept(files, handles[0])
    files.keep(handles[2], b"x" * 40, delivered=False)
    assert [kept(files, handle) for handle in handles] == [True, False, True]


def test_a_text_beyond_the_budget_is_not_kept_but_its_end_is_known() -> None:
    files = table()
    small, large = opened(files), opened(files)
    files.keep(small, b"x" * 50, delivered=False)
    files.keep(large, b"x" * 101, delivered=False)
    assert (kept(files, small), kept(files, large)) == (True, False)
    assert files.part(large, 101, 10) == b""


def test_bounds_of_one_owner_and_of_all() -> None:
    files = table(most=4, most_per_owner=3)
    handles = [opened(files, 1) for _ in range(2)]
    directory = files.open(1, Opened(), "sys", is_directory=True)
    with pytest.raises(OSError) as caught:
        opened(files, 1)
    assert caught.value.errno == errno.ENFILE
    opened(files, 2)
    with pytest.raises(OSError):
        opened(files, 3)
    files.close(directory)
    files.close(handles[0])
    assert files.open_count == 2
    opened(files, 3)


def test_a_place_is_used_again_but_never_a_handle() -> None:
    files = table()
    handles = []
    for _ in range(1000):
        handles.append(opened(files))
        files.close(handles[-1])
    assert len(set(handles)) == 1000
    current = opened(files)
    assert all(files.view(handle) is None and not files.close(handle) for handle in handles)
    assert files.view(current) is not None


def test_views_are_let_go_with_their_file_and_with_the_table() -> None:
    files = table()
    views = [Opened(), Opened()]
    gone = [weakref.ref(view) for view in views]
    handles = [files.open(1, cast("View", view)) for view in views]
    del views
    assert cast("object", files.view(handles[0])) is gone[0]()
    files.close(handles[0])
    assert [reference() is None for reference in gone] == [True, False]
    del files
    gc.collect()
    assert gone[1]() is None


def test_many_files_of_many_owners() -> None:
    files = table(most=5000, budget_bytes=1 << 20)
    view = cast("View", Opened())
    before = sys.getrefcount(view)
    handles = [files.open(number % 1500, view) for number in range(5000)]
    for handle in handles:
        files.keep(handle, b"text", delivered=True)
    assert (files.open_count, files.text_bytes) == (5000, 20000)
    for handle in handles[::-1]:
        assert files.close(handle)
    assert (files.open_count, files.text_bytes, sys.getrefcount(view)) == (0, 0, before)


def test_nonsense_is_refused() -> None:
    files = table()
    for handle in (0, 1, (1 << 64) - 1, 1 << 24, os.getpid()):
        assert files.view(handle) is None
        assert files.part(handle, 0, 1) is None
        assert not files.close(handle)
    with pytest.raises(OverflowError):
        files.close(-1)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["open", "keep", "read", "close"]),
            st.integers(0, 7),
            st.integers(0, 60),
            st.integers(0, 60),
            st.booleans(),
        )
    )
)
def test_never_wrong_and_never_over_budget(steps: list[tuple[str, int, int, int, bool]]) -> None:
    files = table(budget_bytes=100)
    newest: OrderedDict[int, bytes | None] = OrderedDict()
    for number, (what, which, offset, size, delivered) in enumerate(steps):
        if what == "open":
            newest[opened(files, which % 3)] = None
            continue
        if not newest:
            continue
        handle = list(newest)[which % len(newest)]
        if what == "keep":
            newest[handle] = bytes([number % 256]) * size
            files.keep(handle, bytes([number % 256]) * size, delivered=delivered)
        elif what == "close":
            assert files.close(handle)
            del newest[handle]
            assert files.part(handle, offset, size) is None
        else:
            text = newest[handle]
            assert files.part(handle, offset, size) in (None, None if text is None else text[offset : offset + size])
        assert 0 <= files.text_bytes <= 100
        assert files.open_count == len(newest)
    for handle in newest:
        files.close(handle)
    assert (files.text_bytes, files.open_count) == (0, 0)
