"""The configuration file: what is allowed counts, and anything else is an error with file, line and key."""

import tomllib
from dataclasses import asdict, fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procview import settings
from procview.control.policy import DEFAULT_POLICY
from procview.settings import ContainerTable, Settings, SettingsError, load, load_with_lines, parse, told

ROOT = Path(__file__).parent.parent


def test_defaults() -> None:
    assert asdict(parse("", "f")) == {
        "cpus": "quota",
        "topology": "container",
        "swap": True,
        "devices": "container",
        "uptime": "container",
        "loadavg": True,
        "annotations": False,
        "slots": True,
        "run_directory": "/run/procview",
        "mount": None,
        "compat": "none",
        "compat_directory": "/var/lib/lxcfs",
        "lane": True,
        "lane_threads": 2,
        "transport": "auto",
        "hang_seconds": 0.5,
        "takeover_seconds": 1.0,
        "control": True,
        "control_policy": None,
        "log_level": "info",
        "container": (),
    }


def test_every_key() -> None:
    text = 'cpus="cpuset"\ntopology="host"\nswap=false\ndevices="host"\nuptime="host"\nloadavg=false\nmount="/x"\n'
    expected = Settings(cpus="cpuset", topology="host", swap=False, devices="host", uptime="host", loadavg=False,
                        mount="/x", log_level="debug")  # fmt: skip
    assert parse(text + 'log_level="debug"\n', "f") == expected


def test_the_example_is_complete_and_says_the_defaults() -> None:
    text = (ROOT / "packaging/procview.toml").read_text(encoding="utf-8")
    assert parse(text, "example") == Settings()
    wanted = (
        line for line in text.splitlines() if line.startswith("#") and (" = " in line or line == "#[[container]]")
    )
    uncommented = "\n".join(line[1:] for line in wanted)
    table = tomllib.loads(uncommented)
    containers = table.pop("container")
    defaults = asdict(Settings()) | {"mount": Settings().mount_point, "control_policy": DEFAULT_POLICY}
    assert table | {"container": ()} == defaults
    assert [{**one.settings, "id": one.id} for one in parse(uncommented, "example").container] == containers


def test_the_documentation_has_every_key() -> None:
    text = (ROOT / "docs/settings.md").read_text(encoding="utf-8")
    manual = (ROOT / "docs/man/procview.1").read_text(encoding="utf-8")
    for field in fields(Settings):
        assert f"`{field.name}`" in text
        assert field.name.replace("_", r"_") in manual


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("annotations = 1", "f:1: annotations = 1 is not allowed; it must be true or false"),
        (
            "container = 3",
            "f:1: container = 3 is not allowed; it must be tables, each of which begins with [[container]]",
        ),
        ("\n[container]\nid = 'a'", "f:2: container = (a table) is not allowed; it must be tables"),
        ("container = [{id = 'a'}, 3]", "f:1: container = (an array) is not allowed"),
        (
            "[[container]]\nid = 'a'\n\n[[container]]\nid = 'a'\ncpu = 1",
            "f:6: unknown key 'cpu' in [[container]]; known are id, cgroup, image, cpus, topology, swap, devices, ",
        ),
        (
            "[[container]]\nid = 'a'\n# cpus\ncpus = 'all'",
            'f:4: cpus = "all" is not allowed; it must be one of "quota",',
        ),
        ("swap = false\n[[container]]\nid = 'a'\n[[container]]\nid = ''", 'f:5: id = "" is not allowed; it must be a'),
        ("[[container]]\nid = 7", "f:2: id = 7 is not allowed; it must be a glob that is not empty"),
        ("[[container]]\nimage = ''", 'f:2: image = "" is not allowed; it must be a glob that is not empty'),
        ("[[container]]\ncgroup = 'a'", 'f:2: cgroup = "a" is not allowed; it must be a glob of a path, which begins'),
        (
            "[[container]]\nid = 'a'\nlog_level = 'debug'",
            "f:3: log_level is no setting of single containers: it has to stand before the first [[container]]",
        ),
        ("[[container]]\nid = 'a'\n[container.cpus]\na = 1", "f:3: cpus = (a table) is not allowed"),
        (
            "[[container]]\nid = 'a'\n[[container]]\nswap = true",
            "f:3: [[container]] does not say which containers it is for: it must have id, cgroup, image, or several",
        ),
        ("container = [{ id = 'a', cpus = 'x' }]", 'f:1: cpus = "x" is not allowed'),
        ("\n" + "[[container]]\nid = 'a'\n" * 501, "f:1002: more than 500 tables [[container]]"),
        (
            "cpu = 1",
            "f:1: unknown key 'cpu'; known are cpus, topology, swap, devices, uptime, loadavg, annotations, slots,",
        ),
        ("\n\n# swap\nswap = 1", "f:4: swap = 1 is not allowed; it must be true or false"),
        ('swap = "true"', 'f:1: swap = "true" is not allowed; it must be true or false'),
        ("swap = 0", "f:1: swap = 0 is not allowed"),
        ("cpus = true", 'f:1: cpus = true is not allowed; it must be one of "quota", "cpuset"'),
        ("cpus = 'Quota'", 'f:1: cpus = "Quota" is not allowed'),
        ("cpus = ['quota']", "f:1: cpus = (an array) is not allowed"),
        ("[cpus]\na=1", "f:1: cpus = (a table) is not allowed"),
        ("swap=true\n[[swap2]]\na=1", "f:2: unknown key 'swap2'"),
        ("mount = 'run'", 'f:1: mount = "run" is not allowed; it must be an absolute path other than /'),
        ("mount = '/'", "f:1: mount"),
        ("\nrun_directory = '../run'", "f:2: run_directory"),
        ("mount = '//..'", "f:1: mount"),
        ('mount = "/a\\u0000b"', "f:1: mount"),
        ("compat = true", 'f:1: compat = true is not allowed; it must be one of "none", "lxcfs"'),
        ("compat_directory = 'lxcfs'", 'f:1: compat_directory = "lxcfs" is not allowed; it must be an absolute path'),
        ("slots = false\ncompat = 'lxcfs'", 'f:2: compat = "lxcfs" needs slots = true'),
        (
            "compat = 'lxcfs'\nmount = '/var/lib/lxcfs/'",
            'f:1: compat = "lxcfs" needs another place for mount than compat_directory',
        ),
        ("log_level = 'trace'", "f:1: log_level"),
        ("hang_seconds = 0", "f:1: hang_seconds = 0 is not allowed; it must be a number above 0, at most 3600"),
        ("takeover_seconds = 0", "f:1: takeover_seconds = 0 is not allowed; it must be a number above 0, at most 3600"),
        ("takeover_seconds = nan", "f:1: takeover_seconds = nan is not allowed"),
        ("takeover_seconds = inf", "f:1: takeover_seconds = inf is not allowed"),
        ("takeover_seconds = true", "f:1: takeover_seconds = true is not allowed"),
        ("takeover_seconds = '1'", 'f:1: takeover_seconds = "1" is not allowed'),
        ("loadavg = 1979-05-27", "f:1: loadavg = 1979-05-27 is not allowed"),
        ("swap = true\nswap = true", "f:2: not valid TOML"),
        ("swap =", "f:1: not valid TOML"),
        ("swap = true\n\n\nloadavg = tru", "f:4: not valid TOML"),
        ("a = " + "[" * 100000, "f: not valid TOML: nested too deeply"),
    ],
)
def test_errors(text: str, error: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse(text, "f")
    assert error in str(caught.value)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('"odd" = 1', 1),
        ('"o\\u0064d" = 1', 1),
        ("'odd' = 1", 1),
        ("swap = true\nodd.key = 1", 2),
        ('cpus = "quota" # odd = 1\nodd = 1', 2),
        ('mount = """\n/odd = 1\nodd = 2"""\nodd = 1', 4),
        ("mount = '''\n/odd = '' 1\nodd = 2'''\nodd = 1", 4),
        ('mount = """\\\n  /a\\"""\nodd = 1"""\nodd = 1', 4),
        ('mount = "/a\\"#[{"\nodd = 1', 2),
        ('mount = """/a""""\nodd = 1', 2),
        ("cpus = 'quota'\r\n\r\nodd = 1", 3),
        ("\todd\t = 1", 1),
        ("odd = [ # ]\n 'swap = 1',\n]\n", 1),
        ("[odd]\nswap = true", 1),
        ("# a\n[ odd . 'x.y' ]\nswap = true", 2),
        ("[[odd]]\n[[odd]]", 1),
    ],
)
def test_lines_of_keys(text: str, line: int) -> None:
    with pytest.raises(SettingsError, match=f"^f:{line}: unknown key 'odd'"):
        parse(text, "f")


VALUES = st.sampled_from(
    ["1", "true", '"a # b"', "'x = y'", '"""\na = 1\n"""', "'''\n[b]\n'''", "[1, [2,\n 3], # c\n]",
     '{ a = "}", b = [1] }', "1979-05-27T07:32:00Z", '"\\"\\\\"', "inf", '""', "''", '""""""', "[]", "{}"]
)  # fmt: skip


@given(st.lists(st.tuples(VALUES, st.sampled_from(["", "\n", "# a = 1\n", "  \n\n"]), st.booleans()), max_size=8))
def test_every_key_is_found_where_it_stands(parts: list[tuple[str, str, bool]]) -> None:
    text, expected = "", {}
    for number, (value, between, as_table) in enumerate(parts):
        text += between
        key = f"k{number}"
        expected[key] = text.count("\n") + 1
        text += f"[{key}]\nk{number} = {value}\n" if as_table else f"{key} = {value} # {key}\n"
        if as_table:
            break
    assert tomllib.loads(text).keys() == expected.keys()
    assert settings.lines_of(text).top == expected


def test_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "procview.toml"
    with pytest.raises(SettingsError, match="no such file"):
        load(str(path))
    monkeypatch.setattr(settings, "DEFAULT_CONFIG", str(path))
    assert load(None) == Settings()
    path.write_text("swap = false")
    assert load(None) == load(str(path)) == Settings(swap=False)
    path.write_bytes(b"swap = true\n# \xff")
    with pytest.raises(SettingsError, match=r"procview\.toml:2: not UTF-8 text"):
        load(str(path))
    path.write_bytes(b"#" * (1 << 21))
    with pytest.raises(SettingsError, match="larger than"):
        load(str(path))
    with pytest.raises(SettingsError, match="Is a directory"):
        load(str(tmp_path))


def test_tables_of_containers() -> None:
    text = "annotations = true\n[[container]]\nid = 'a'\nswap = false\n[[container]]\ncgroup = '/b'\nimage = '*:1'\n"
    assert parse(text, "f") == Settings(
        annotations=True,
        container=(
            ContainerTable(id="a", settings={"swap": False}),
            ContainerTable(cgroup="/b", image="*:1"),
        ),
    )


def test_the_lines_of_tables(tmp_path: Path) -> None:
    path = tmp_path / "procview.toml"
    path.write_text("swap = true\n\n[[container]] # one\nid = 'a'\n\n[['container']]\n\"id\" = 'b'\nimage = 'c'\n")
    read, file, lines = load_with_lines(str(path))
    assert (read, file) == (load(str(path)), str(path))
    assert lines.top == {"swap": 1, "container": 3}
    assert [lines.in_table(0), lines.in_table(0, "id"), lines.in_table(0, "image")] == [3, 4, 3]
    assert [lines.in_table(1), lines.in_table(1, "id"), lines.in_table(1, "image")] == [6, 7, 8]
    path.write_text("\ncontainer = [\n  {id = 'a'},\n  {id = 'b'},\n]\n")
    assert [load_with_lines(str(path))[2].in_table(number, "id") for number in (0, 1)] == [2, 2]


def test_what_an_annotation_tells() -> None:
    assert told("cpus", "cpuset") == "cpuset"
    assert told("swap", "false") is False
    assert told("loadavg", "true") is True
    with pytest.raises(ValueError, match=r'^swap = "no" is not allowed; it must be true or false$'):
        told("swap", "no")
    with pytest.raises(ValueError, match=r'^cpus = "true" is not allowed; it must be one of "quota", "cpuset"$'):
        told("cpus", "true")
