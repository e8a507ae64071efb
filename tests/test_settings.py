"""The configuration file: what is allowed counts, and anything else is an error with file, line and key."""

import tomllib
from dataclasses import asdict, fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procview import settings
from procview.settings import Settings, SettingsError, load, parse

ROOT = Path(__file__).parent.parent


def test_defaults() -> None:
    assert asdict(parse("", "f")) == {
        "cpus": "quota",
        "topology": "container",
        "swap": True,
        "devices": "container",
        "uptime": "container",
        "loadavg": True,
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
        "log_level": "info",
    }


def test_every_key() -> None:
    text = 'cpus="cpuset"\ntopology="host"\nswap=false\ndevices="host"\nuptime="host"\nloadavg=false\nmount="/x"\n'
    expected = Settings(cpus="cpuset", topology="host", swap=False, devices="host", uptime="host", loadavg=False,
                        mount="/x", log_level="debug")  # fmt: skip
    assert parse(text + 'log_level="debug"\n', "f") == expected


def test_the_example_is_complete_and_says_the_defaults() -> None:
    text = (ROOT / "packaging/procview.toml").read_text(encoding="utf-8")
    assert parse(text, "example") == Settings()
    uncommented = "\n".join(line[1:] for line in text.splitlines() if line.startswith("#") and " = " in line)
    assert tomllib.loads(uncommented) == asdict(Settings()) | {"mount": Settings().mount_point}


def test_the_documentation_has_every_key() -> None:
    text = (ROOT / "docs/settings.md").read_text(encoding="utf-8")
    manual = (ROOT / "docs/man/procview.1").read_text(encoding="utf-8")
    for field in fields(Settings):
        assert f"`{field.name}`" in text
        assert field.name.replace("_", r"_") in manual


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (
            "cpu = 1",
            "f:1: unknown key 'cpu'; known are cpus, topology, swap, devices, uptime, loadavg, slots, run_directory,",
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
    assert {key: settings._line_of(text, key) for key in expected} == expected


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
