"""The configuration file: TOML in, a frozen :class:`Settings` out.

Touches one file, /etc/procview/procview.toml unless told otherwise. docs/settings.md says what each key means.
Anything that is not exactly right is a :class:`SettingsError` naming file, line and key, so that a typing mistake never
silently means "the default".
"""

import json
import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

DEFAULT_CONFIG = "/etc/procview/procview.toml"
DEFAULT_RUN_DIRECTORY = "/run/procview"
DEFAULT_COMPAT_DIRECTORY = "/var/lib/lxcfs"
_MAX_BYTES = 1 << 20
"""A configuration larger than this is somebody's mistake (a device, a log), not a configuration."""


class SettingsError(Exception):
    """The configuration cannot be used; the text says where and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerTable:
    """One ``[[container]]``: globs of which containers it is for, and what it sets for them.

    All globs that it has must match. ``settings`` has keys of PER_CONTAINER, and perhaps ``annotations``.
    """

    id: str | None = None
    cgroup: str | None = None
    image: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that can be configured. The defaults are the ones of docs/settings.md."""

    cpus: Literal["quota", "cpuset"] = "quota"
    topology: Literal["container", "host"] = "container"
    swap: bool = True
    devices: Literal["container", "host"] = "container"
    uptime: Literal["container", "host"] = "container"
    loadavg: bool = True
    annotations: bool = False
    slots: bool = True
    run_directory: str = DEFAULT_RUN_DIRECTORY
    mount: str | None = None
    compat: Literal["none", "lxcfs"] = "none"
    compat_directory: str = DEFAULT_COMPAT_DIRECTORY
    lane: bool = True
    lane_threads: int = 2
    transport: Literal["auto", "dev", "uring"] = "auto"
    hang_seconds: float = 0.5
    takeover_seconds: float = 1.0
    control: bool = True
    control_policy: str | None = None
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    container: tuple[ContainerTable, ...] = ()

    @property
    def mount_point(self) -> str:
        """Where the file system is mounted."""
        return f"{self.run_directory}/fs" if self.mount is None else self.mount


def _one_of(*words: str) -> tuple[str, Callable[[object], bool]]:
    return "one of " + ", ".join(f'"{word}"' for word in words), lambda value: value in words


def _is_path(value: object) -> bool:
    if not isinstance(value, str) or not value.startswith("/") or "\0" in value:
        return False
    return os.path.normpath(value).strip("/") != ""


PER_CONTAINER = ("cpus", "topology", "swap", "devices", "uptime", "loadavg")
"""What can differ from one container to the next."""
_GLOBS = ("id", "cgroup", "image")
MOST_TABLES = 500
"""All of them may be tried for each container, while its first reader waits."""
MOST_LANE_THREADS = 64
MOST_SECONDS = 3600.0


def _is_thread_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MOST_LANE_THREADS


def _is_glob(value: object) -> bool:
    return isinstance(value, str) and value != "" and "\0" not in value


def _is_glob_of_a_path(value: object) -> bool:
    return isinstance(value, str) and _is_glob(value) and value.startswith(("/", "*"))


def _is_list_of_tables(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(table, dict) for table in value)


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= MOST_SECONDS


_BOOL: tuple[str, Callable[[object], bool]] = ("true or false", lambda value: isinstance(value, bool))
_SECONDS = (f"a number above 0, at most {MOST_SECONDS:g}", _is_time)
_ALLOWED: dict[str, tuple[str, Callable[[object], bool]]] = {
    "cpus": _one_of("quota", "cpuset"),
    "topology": _one_of("container", "host"),
    "swap": _BOOL,
    "devices": _one_of("container", "host"),
    "uptime": _one_of("container", "host"),
    "loadavg": _BOOL,
    "annotations": _BOOL,
    "slots": _BOOL,
    "run_directory": ("an absolute path other than /", _is_path),
    "mount": ("an absolute path other than /", _is_path),
    "compat": _one_of("none", "lxcfs"),
    "compat_directory": ("an absolute path other than /", _is_path),
    "lane": _BOOL,
    "lane_threads": (f"a number from 1 to {MOST_LANE_THREADS}", _is_thread_count),
    "transport": _one_of("auto", "dev", "uring"),
    "hang_seconds": _SECONDS,
    "takeover_seconds": _SECONDS,
    "control": _BOOL,
    "control_policy": ("an absolute path other than /", _is_path),
    "log_level": _one_of("debug", "info", "warning", "error"),
    "container": ("tables, each of which begins with [[container]]", _is_list_of_tables),
}
_ALLOWED_IN_TABLE: dict[str, tuple[str, Callable[[object], bool]]] = {
    "id": ("a glob that is not empty", _is_glob),
    "cgroup": ('a glob of a path, which begins with "/" or "*"', _is_glob_of_a_path),
    "image": ("a glob that is not empty", _is_glob),
    **{key: _ALLOWED[key] for key in (*PER_CONTAINER, "annotations")},
}
assert _ALLOWED.keys() == {field.name for field in fields(Settings)}


@dataclass(frozen=True, slots=True)
class Lines:
    """Where keys stand in a configuration file: 1-based numbers of lines."""

    top: Mapping[str, int] = field(default_factory=dict)
    """Of top-level keys; of ``container`` the first table."""
    tables: tuple[Mapping[str, int], ...] = ()
    """Of the keys in each ``[[container]]``; "" is the table itself."""

    def in_table(self, number: int, key: str = "") -> int:
        """Of ``key`` in a table, counted from 0; of a table that is written as a value, the line of all of them."""
        if number < len(self.tables):
            return self.tables[number].get(key, self.tables[number][""])
        return self.top.get("container", 1)


def load(path: str | None) -> Settings:
    """The settings in the file ``path``; None means the default file, which may be absent. Raises SettingsError."""
    text, name = _read(path)
    return parse(text, name)


def load_with_lines(path: str | None) -> tuple[Settings, str, Lines]:
    """As :func:`load`; besides, which file it is and where in it the keys stand."""
    text, name = _read(path)
    return parse(text, name), name, lines_of(text)


def _read(path: str | None) -> tuple[str, str]:
    """The file's text and name; of a default file that is absent, an empty text."""
    named = path is not None
    path = DEFAULT_CONFIG if path is None else path
    try:
        with open(path, "rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        if named:
            raise SettingsError(f"{path}: no such file") from None
        return "", path
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from error
    if len(content) > _MAX_BYTES:
        raise SettingsError(f"{path}: larger than {_MAX_BYTES} bytes")
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise SettingsError(f"{path}:{line}: not UTF-8 text") from error
    return text, path


def parse(text: str, name: str) -> Settings:
    """The settings in the TOML ``text``; ``name`` is the file named in errors. Raises SettingsError."""
    try:
        table: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        where = re.search(r"\(at line (\d+), column \d+\)$", message)
        line = int(where[1]) if where else text.count("\n") + 1  # the other form is "(at end of document)"
        raise SettingsError(f"{name}:{line}: not valid TOML: {message}") from error
    except RecursionError as error:
        raise SettingsError(f"{name}: not valid TOML: nested too deeply") from error
    for key, value in table.items():
        if key not in _ALLOWED:
            place = f"{name}:{lines_of(text).top.get(key, 1)}"
            raise SettingsError(f"{place}: unknown key {key!r}; known are {', '.join(_ALLOWED)}")
        mistake = _mistake(key, value, _ALLOWED)
        if mistake is not None:
            raise SettingsError(f"{name}:{lines_of(text).top.get(key, 1)}: {mistake}")
    if "container" in table:
        table["container"] = _tables(table["container"], text, name)
    for key in {"run_directory", "mount", "compat_directory"} & table.keys():
        table[key] = os.path.normpath("/" + table[key].lstrip("/"))
    for key in {"hang_seconds", "takeover_seconds"} & table.keys():
        table[key] = float(table[key])
    settings = Settings(**table)
    if settings.compat != "none":
        place = f"{name}:{lines_of(text).top.get('compat', 1)}: compat = {shown(settings.compat)}"
        if not settings.slots:
            raise SettingsError(f"{place} needs slots = true: its files are slots")
        if settings.mount_point == settings.compat_directory:
            raise SettingsError(f"{place} needs another place for mount than compat_directory: leave out mount")
    return settings


def _mistake(key: str, value: object, among: Mapping[str, tuple[str, Callable[[object], bool]]]) -> str | None:
    allowed, check = among[key]
    return None if check(value) else f"{key} = {shown(value)} is not allowed; it must be {allowed}"


def _tables(tables: list[dict[str, Any]], text: str, name: str) -> tuple[ContainerTable, ...]:
    """Raises SettingsError."""

    def error(number: int, key: str, mistake: str) -> SettingsError:
        return SettingsError(f"{name}:{lines_of(text).in_table(number, key)}: {mistake}")

    if len(tables) > MOST_TABLES:
        raise error(MOST_TABLES, "", f"more than {MOST_TABLES} tables [[container]]")
    found = []
    for number, table in enumerate(tables):
        for key, value in table.items():
            if key in _ALLOWED and key not in _ALLOWED_IN_TABLE:
                raise error(number, key, f"{key} is no setting of single containers: it has to stand before the first "
                                         "[[container]]")  # fmt: skip
            if key not in _ALLOWED_IN_TABLE:
                known = ", ".join(_ALLOWED_IN_TABLE)
                raise error(number, key, f"unknown key {key!r} in [[container]]; known are {known}")
            mistake = _mistake(key, value, _ALLOWED_IN_TABLE)
            if mistake is not None:
                raise error(number, key, mistake)
        if not table.keys() & set(_GLOBS):
            raise error(number, "", "[[container]] does not say which containers it is for: it must have "
                                    f"{', '.join(_GLOBS)}, or several of them")  # fmt: skip
        settings = {key: value for key, value in table.items() if key not in _GLOBS}
        found.append(ContainerTable(**{key: table.get(key) for key in _GLOBS}, settings=settings))
    return tuple(found)


def told(key: str, text: str) -> bool | str:
    """The value that ``text``, as an annotation has it, is of ``key``, one of PER_CONTAINER.

    Raises ValueError, which says what is allowed.
    """
    value: bool | str = {"true": True, "false": False}.get(text, text) if _ALLOWED[key] is _BOOL else text
    mistake = _mistake(key, value, _ALLOWED)
    if mistake is not None:
        raise ValueError(mistake)
    return value


def shown(value: object) -> str:
    """A value as it stands in the file, in short."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return json.dumps(value[:60], ensure_ascii=False)
        case dict():
            return "(a table)"
        case list():
            return "(an array)"
        case _:
            return str(value)[:60]


# tomllib does not say where a key stood, so the lines are found again. The text is known to be valid TOML here, which
# is what lets this scanner be small: it only has to tell keys from values.
_BLANK = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
_KEY = re.compile(r"""(?:[^"'=\]#\n]+|"(?:[^"\\]|\\.)*"|'[^']*')+""")
_VALUE_PART = re.compile(
    r'''"""(?:[^\\]|\\.)*?"""(?:"{0,2})|\'\'\'.*?\'\'\'(?:'{0,2})|"(?:[^"\\]|\\.)*"|'[^']*'|\#[^\n]*|[\[\]{}\n]|[^"'\#\[\]{}\n]+''',
    re.DOTALL,
)


def lines_of(text: str) -> Lines:
    """Where the keys of the valid TOML ``text`` first appear."""
    top: dict[str, int] = {}
    tables: list[dict[str, int]] = []
    for names, line in _keys(text):
        top.setdefault(names[0], line)
        if names == ["container"]:
            tables.append({"": line})
        elif names[0] == "container" and tables:
            tables[-1].setdefault(names[1], line)
    return Lines(top, tuple(tables))


def _keys(text: str) -> Iterator[tuple[list[str], int]]:
    """Every key of the valid TOML ``text`` as its full path, with its line."""
    table: list[str] = []
    at, counted, line = 0, 0, 1
    while (at := _matched(_BLANK, text, at).end()) < len(text):
        line, counted = line + text.count("\n", counted, at), at
        header = text[at] == "["
        if header:
            at += 2 if text.startswith("[[", at) else 1
        found = _matched(_KEY, text, at)
        at = found.end()
        names = _names(found[0])
        if header:
            table = names
            yield table, line
            at = text.find("\n", at)
            if at < 0:
                return
        else:
            yield table + names, line
            at = _after_value(text, at + 1)


def _matched(pattern: re.Pattern[str], text: str, at: int) -> re.Match[str]:
    found = pattern.match(text, at)
    if found is None:
        raise AssertionError(f"valid TOML expected at {at}")
    return found


def _names(key: str) -> list[str]:
    """``a."b c".d`` as ["a", "b c", "d"]."""
    names: list[str] = []
    value: Any = tomllib.loads(f"{key.strip()} = 0")
    while isinstance(value, dict):
        ((name, value),) = value.items()
        names.append(name)
    return names


def _after_value(text: str, at: int) -> int:
    """Where the value that starts at ``at`` ends: the first line end outside of strings and brackets."""
    depth = 0
    while at < len(text):
        part = _matched(_VALUE_PART, text, at)
        at = part.end()
        if part[0] in ("[", "{"):
            depth += 1
        elif part[0] in ("]", "}"):
            depth -= 1
        elif part[0] == "\n" and depth == 0:
            break
    return at
