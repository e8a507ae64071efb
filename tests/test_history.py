"""What is counted beyond one daemon's life is right, and costs nobody anything when the file is no good."""

import time
from pathlib import Path

import pytest

from procview.history import FIELDS, History

NOTHING = dict.fromkeys(FIELDS, 0)


@pytest.fixture
def history(tmp_path: Path) -> History:
    made = History(str(tmp_path))
    made.make()
    return made


def test_a_new_one_knows_nothing(history: History) -> None:
    assert history.read() == NOTHING


def test_starts_and_takeovers_are_counted_by_all_daemons(history: History, tmp_path: Path) -> None:
    history.started(took_over=False)
    again = History(str(tmp_path))
    again.make()
    again.started(took_over=True)
    assert history.read() == NOTHING | {"starts": 2, "takeovers": 1}


def test_how_long_views_were_away(history: History) -> None:
    assert history.published() is None  # for the first time
    history.withdrawn()
    time.sleep(0.05)
    history.withdrawn()  # by another, who finds the rest
    seconds = history.published()
    assert seconds is not None
    assert seconds >= 0.05
    assert history.published() is None
    read = history.read()
    assert read == NOTHING | {"withdrawals": 1, "withdrawn_ns": read["withdrawn_ns"]}
    assert read["withdrawn_ns"] == pytest.approx(seconds * 1e9)


def test_the_file_keeps_its_size(history: History, tmp_path: Path) -> None:
    """So that a full /run has room for it."""
    size = (tmp_path / "history").stat().st_size
    for _ in range(11):
        history.started(took_over=True)
        history.withdrawn()
    assert (tmp_path / "history").stat().st_size == size
    assert history.read()["starts"] == 11


@pytest.mark.parametrize("content", [b"", b"\0" * 500, b"nonsense\n" * 50, b"starts 1\n", b"\xff" * 40])
def test_nonsense_counts_from_zero(history: History, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "history").write_bytes(content)
    assert history.read() == NOTHING
    history.started(took_over=True)
    history.withdrawn()
    assert history.published() is not None
    read = history.read()
    assert (read["starts"], read["takeovers"], read["withdrawals"]) == (1, 1, 1)


def test_without_a_file_nothing_is_counted_and_it_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    history = History(str(tmp_path / "missing"))
    history.withdrawn()
    assert history.published() is None
    assert not caplog.records
    history.make()
    history.started(took_over=False)
    assert {record.event for record in caplog.records} == {"history-lost"}  # type: ignore[attr-defined]
    assert "missing/history: No such file or directory" in caplog.text


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("")
    (tmp_path / "history").symlink_to(target)
    history = History(str(tmp_path))
    history.make()
    history.started(took_over=False)
    assert target.read_text() == ""


def test_it_is_removed(history: History, tmp_path: Path) -> None:
    history.remove()
    history.remove()
    assert list(tmp_path.iterdir()) == []
