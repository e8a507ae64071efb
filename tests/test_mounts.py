"""The mount table: what is found in it, whatever the names."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from procview.mounts import bottom_mount, detach, mount, mount_table, mounts_at, parse_mountinfo, top_mount
from tests.session import temporary_directory

NAMES = ["plain", "with space", "tab\tnewline\n", "back\\slash", "\\040", "ä", os.fsdecode(b"\xff\xfe"), "a - b", "#"]


@pytest.fixture
def folder() -> Iterator[Path]:
    with temporary_directory() as directory:
        try:
            yield directory
        finally:
            for entry in reversed(mount_table()):
                if Path(entry.path).is_relative_to(directory):
                    detach(entry.path)


def test_each_mount_is_found_by_its_path() -> None:
    table = mount_table()
    for path in {entry.path for entry in table}:
        assert mounts_at(path) == [entry for entry in table if entry.path == path]
        assert top_mount(path) == top_mount(path, table)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_of_two_mounts_at_an_odd_place_top_and_bottom_are_told_apart(folder: Path, name: str) -> None:
    place = folder / name
    place.mkdir()
    for below in range(2):
        assert len(mounts_at(str(place))) == below
        mount("procview-test", str(place), "tmpfs", 0)
    first, second = mounts_at(str(place))
    assert bottom_mount(str(place)) == first
    assert top_mount(str(place)) == second
    assert second.parent_id == first.mount_id
    assert mounts_at(f"{folder}/{name[:-1]}") == []


def test_words_in_other_fields_are_no_paths() -> None:
    line = "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n"
    (entry,) = parse_mountinfo(line)
    assert (entry.root, entry.path, entry.source, entry.master) == ("/mnt1", "/mnt2", "/dev/root", 1)
    assert mounts_at("rw") == mounts_at("-") == mounts_at("") == []
