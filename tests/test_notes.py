"""Notes of containers: read for the init that they are about, and gone when that is."""

import os
from pathlib import Path

import pytest

from procview.notes import MOST_BYTES, Note, Notes

GOOD = '{"pid": 7, "start_ticks": 5, "image": null, "annotations": {"swap": "false"}}'


def start_ticks(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19])


def write(notes: Notes, name: str, text: str) -> Path:
    path = Path(notes.folder, name)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def notes(tmp_path: Path) -> Notes:
    made = Notes(str(tmp_path))
    made.make()
    return made


def test_the_folder_is_the_owners_alone_and_may_be_there(notes: Notes) -> None:
    assert os.stat(notes.folder).st_mode & 0o777 == 0o700
    notes.make()
    write(notes, "1.json", GOOD)
    notes.remove()
    assert not os.path.exists(notes.folder)
    notes.remove()
    assert notes.of(1, 5) is None
    notes.sweep()


def test_without_room_there_are_none_and_it_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Notes(str(tmp_path / "nothing")).make()
    assert "No such file or directory: images and annotations of containers will not be known" in caplog.text


def test_a_note_is_about_one_init(notes: Notes) -> None:
    write(notes, "1.json", GOOD)
    assert notes.of(1, 5) == Note(7, 5, None, {"swap": "false"})
    assert notes.of(1, 6) is None
    assert notes.of(2, 5) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"pid": 7, "start_ticks": 5, "image": null, "annotations": 3}',
        '{"pid": 7, "start_ticks": "x", "image": null, "annotations": {}}',
        '{"pid": 7, "image": null, "annotations": {}}',
        "[" * 10000,
        GOOD + " " * MOST_BYTES,
    ],
)
def test_what_is_no_note_is_none_and_goes_when_nobody_can_be_writing_it(notes: Notes, text: str) -> None:
    path = write(notes, "1.json", text)
    assert notes.of(1, 5) is None
    notes.sweep()
    assert path.exists()
    os.utime(path, (1, 1))
    notes.sweep()
    assert not path.exists()


def test_a_link_and_a_pipe_are_not_read(notes: Notes, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text(GOOD, encoding="utf-8")
    os.symlink(tmp_path / "elsewhere", f"{notes.folder}/1.json")
    os.mkfifo(f"{notes.folder}/2.json")
    assert notes.of(1, 5) is None
    assert notes.of(2, 5) is None


def test_the_notes_of_those_that_live_stay(notes: Notes) -> None:
    us = os.getpid()
    text = '{{"pid": {}, "start_ticks": {}, "image": "x", "annotations": {{}}}}'
    alive = write(notes, "1.json", text.format(us, start_ticks(us)))
    another = write(notes, "2.json", text.format(us, start_ticks(us) - 1))
    ended = write(notes, "3.json", text.format(2**22 + 1, 5))
    notes.sweep()
    assert alive.exists()
    assert not another.exists()
    assert not ended.exists()
