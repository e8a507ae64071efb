"""Which settings a container has: its table's, its annotations' where they count, else everybody's."""

import logging
from collections.abc import Mapping
from pathlib import Path

import pytest

from procview.container_settings import Choice, Rules, Subject
from procview.notes import Note, Notes
from procview.settings import PER_CONTAINER, parse

NOWHERE = Notes("/nonexistent")
CGROUPS = b"12:memory:/web/1\n1:name=systemd:/\n0::/machine.slice/libpod-abc.scope/container\n"


def rules(text: str, notes: Notes = NOWHERE) -> Rules:
    return Rules(parse(text, "f"), notes)


def subject(name: str = "a", *cgroups: str, image: str | None = None, **annotations: str) -> Subject:
    return Subject(name, cgroups or (f"/x/{name}",), Note(1, 2, image, annotations))


def values(text: str, of: Subject) -> dict[str, object]:
    return {key: choice.value for key, choice in rules(text).choose(of).settings.items()}


def test_without_a_table_nobody_differs() -> None:
    assert not rules("swap = false").differ
    assert rules("annotations = true").differ
    assert rules("[[container]]\nid = 'a'").differ
    chosen = rules("swap = false").choose(subject(swap="true"))
    assert chosen.settings["swap"] == Choice(False, "all")
    assert chosen.settings.keys() == set(PER_CONTAINER)
    assert (chosen.table, chosen.mistakes) == (None, ())


def test_the_first_table_that_matches_counts_and_leaves_the_rest_to_everybodys() -> None:
    text = """
        swap = false
        [[container]]
        id = "b*"
        cpus = "cpuset"
        [[container]]
        id = "*"
        swap = true
        cpus = "quota"
        uptime = "host"
    """
    chosen = rules(text).choose(subject("bob"))
    assert chosen.table == 0
    assert chosen.settings["cpus"] == Choice("cpuset", "table")
    assert chosen.settings["swap"] == Choice(False, "all")
    assert chosen.settings["uptime"] == Choice("container", "all")
    chosen = rules(text).choose(subject("alice"))
    assert chosen.table == 1
    assert chosen.settings["swap"] == Choice(True, "table")


@pytest.mark.parametrize(
    ("table", "of", "is_for_it"),
    [
        ("id = 'a'", subject("a"), True),
        ("id = 'a'", subject("ab"), False),
        ("id = 'A'", subject("a"), False),
        ("id = 'a?[bc]*'", subject("axcd\nx"), True),
        ("id = '*'", subject(""), True),
        ("cgroup = '/x/a'", subject("a", "/y", "/x/a"), True),
        ("cgroup = '/x/a'", subject("a", "/x"), False),
        ("cgroup = '/x'", subject("a", "/x/a/b"), True),
        ("cgroup = '/x/'", subject("a", "/x/a"), True),
        ("cgroup = '/x'", subject("a", "/xa"), False),
        ("cgroup = '/x/*'", subject("a", "/x"), False),
        ("cgroup = '*/a'", subject("a", "/x/y/a/init.scope"), True),
        ("cgroup = '/'", subject("a", "/a"), True),
        ("cgroup = '/'", subject("", "/"), True),
        ("image = '*/nginx:*'", subject("a", image="docker.io/nginx:1"), True),
        ("image = '*/nginx:*'", subject("a", image=None), False),
        ("image = '*'", Subject("a", ("/a",), None), False),
        ("id = 'a'\nimage = 'x'", subject("a", image="x"), True),
        ("id = 'a'\nimage = 'x'", subject("a", image="y"), False),
        ("id = 'a'\ncgroup = '/y'", subject("a"), False),
    ],
)
def test_whom_a_table_is_for(table: str, of: Subject, is_for_it: bool) -> None:
    assert rules(f"[[container]]\n{table}").choose(of).table == (0 if is_for_it else None)


@pytest.mark.timeout(20)
def test_no_name_makes_a_glob_slow() -> None:
    assert rules(f"[[container]]\ncgroup = '/{'*a' * 30}b'").choose(subject("a", "/" + "a" * 4000)).table is None


def test_annotations_count_where_the_file_says_so_and_a_table_has_the_last_word() -> None:
    asking = subject("a", swap="false", cpus="cpuset")
    assert values("", asking)["swap"] is True
    assert values("annotations = true", asking)["swap"] is False
    assert values("[[container]]\nid='a'\nannotations = true", asking)["swap"] is False
    assert values("annotations = true\n[[container]]\nid='a'\nannotations = false", asking)["swap"] is True
    chosen = rules("annotations = true\nuptime = 'host'\n[[container]]\nid='a'\nswap = true").choose(asking)
    assert chosen.settings["swap"] == Choice(True, "table")
    assert chosen.settings["cpus"] == Choice("cpuset", "annotation")
    assert chosen.settings["uptime"] == Choice("host", "all")


def test_mistakes_in_annotations_are_told_and_the_others_count() -> None:
    odd = {"swap": "no", "log_level": "debug", "x\n": "", "uptime": "host"}
    chosen = rules("annotations = true").choose(subject("a", **odd))
    assert chosen.settings["swap"] == Choice(True, "all")
    assert chosen.settings["uptime"] == Choice("host", "annotation")
    assert chosen.mistakes == (
        'the annotation org.procview.swap = "no" is not allowed; it must be true or false',
        f"the annotation org.procview.log_level is unknown; known are {', '.join(PER_CONTAINER)}",
        f"the annotation org.procview.x\\n is unknown; known are {', '.join(PER_CONTAINER)}",
    )
    assert rules("").choose(subject("a", **odd)).mistakes == ()


def note(folder: Path, pid_namespace: int, start_ticks: int, image: str, annotations: Mapping[str, str]) -> Notes:
    notes = Notes(str(folder))
    notes.make()
    text = f'{{"pid": 1, "start_ticks": {start_ticks}, "image": "{image}", "annotations": {dict(annotations)}}}'
    (folder / "containers" / f"{pid_namespace}.json").write_text(text.replace("'", '"'), encoding="utf-8")
    return notes


def test_the_engine_is_answered(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    notes = note(tmp_path, 77, 5, "img", {"loadavg": "false", "swap": "maybe"})
    text = "annotations = true\ncpus = 'cpuset'\n[[container]]\nimage = 'img'\nid = 'abc'\nuptime = 'host'"
    with caplog.at_level(logging.WARNING):
        assert rules(text, notes).ask(77, 5, CGROUPS) == {
            "cpus": "cpuset",
            "topology": "container",
            "swap": True,
            "devices": "container",
            "uptime": "host",
            "loadavg": False,
        }
    assert 'container abc: the annotation org.procview.swap = "maybe" is not allowed' in caplog.text
    # A later container that has got the same number.
    assert rules(text, notes).ask(77, 6, CGROUPS)["loadavg"] is True


def test_who_somebody_is(tmp_path: Path) -> None:
    notes = note(tmp_path, 77, 5, "img", {})
    lines = CGROUPS + b"3:pids:/gone (deleted)\n2:cpu:/\xff\n"
    found = rules("[[container]]\nimage = 'x'", notes).subject(77, 5, lines)
    assert found.name == "abc"
    assert found.cgroups == ("/web/1", "/", "/machine.slice/libpod-abc.scope/container", "/gone", "/\udcff")
    assert found.note == Note(1, 5, "img", {})
    assert rules("[[container]]\nid = 'x'", notes).subject(77, 5, b"").note is None
    assert rules("[[container]]\nid = 'x'", notes).subject(77, 5, b"", with_note=True).note is not None
