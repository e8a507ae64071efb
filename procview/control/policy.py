"""Who may do what over the control socket: a file with one JSON object a line.

    {"name": "monitoring", "users": [998, "231072-296607", "web"], "actions": ["status", "containers?"]}

The first line that names whoever asks decides. For whom no line names: root of the host may do all, and anyone else
only what concerns the container that he is in. docs/operations.md, "The control socket", is for those who write one.
"""

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

DEFAULT_POLICY = "/etc/procview/policy.jsonl"

ACTIONS = ("status", "containers", "container", "self", "metrics", "reload", "attach", "detach")
CHANGING = frozenset({"reload", "attach", "detach"})
"""Actions that a line with ``readonly`` does not allow."""

_MAX_BYTES = 1 << 20
_KEYS = {"name", "users", "actions", "readonly"}
_RANGE = re.compile(r"([0-9]{1,10})-([0-9]{1,10})", re.ASCII)
_HIGHEST_UID = (1 << 32) - 2


class PolicyError(Exception):
    """The policy cannot be used; the text says where and why."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One line. Without ``users`` it names everyone."""

    name: str
    uids: tuple[range, ...]
    containers: frozenset[str]
    actions: tuple[re.Pattern[str], ...]
    readonly: bool

    def names(self, uid: int, container: str | None, *, is_of_host: bool) -> bool:
        """Whether it is about this peer; ``container`` is what its engine calls the container that it is in.

        Uid 0 is root of the host alone: a container without a user namespace has it too, and is named by its id.
        """
        if not self.uids and not self.containers:
            return True
        by_uid = (uid != 0 or is_of_host) and any(uid in uids for uids in self.uids)
        return by_uid or container in self.containers

    def allows(self, action: str) -> bool:
        """Whether what it names may do this."""
        if self.readonly and action in CHANGING:
            return False
        return any(pattern.fullmatch(action) for pattern in self.actions)


@dataclass(frozen=True, slots=True)
class Policy:
    """All lines, in their order."""

    rules: tuple[Rule, ...] = ()

    @classmethod
    def of_nobody(cls) -> "Policy":
        """Root of the host may do all, and nobody else anything."""
        everything, nothing = (re.compile(".*"),), (re.compile("(?!)"),)
        root = Rule("root", (range(1),), frozenset(), everything, readonly=False)
        return cls((root, Rule("nobody", (), frozenset(), nothing, readonly=True)))

    @property
    def names_containers(self) -> bool:
        """Whether it matters what a peer's container is called."""
        return any(rule.containers for rule in self.rules)

    def allows(self, action: str, *, uid: int, container: str | None, is_of_host: bool) -> bool:
        """Whether a peer may do this; ``self`` is what concerns its own container, of any kind."""
        for rule in self.rules:
            if rule.names(uid, container, is_of_host=is_of_host):
                return rule.allows(action)
        return uid == 0 if is_of_host else action == "self"


def load(path: str | None) -> Policy:
    """The policy in the file ``path``; None means the default file, which may be absent. Raises PolicyError."""
    named = path is not None
    path = DEFAULT_POLICY if path is None else path
    try:
        with open(path, "rb") as file:
            info = os.fstat(file.fileno())
            content = file.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        if named:
            raise PolicyError(f"{path}: no such file") from None
        return Policy()
    except OSError as error:
        raise PolicyError(f"{path}: {error.strerror}") from error
    if info.st_mode & 0o022:
        raise PolicyError(f"{path}: others than its owner may write to it: chmod go-w {path}")
    if len(content) > _MAX_BYTES:
        raise PolicyError(f"{path}: larger than {_MAX_BYTES} bytes")
    return parse(content, path)


def parse(content: bytes, name: str) -> Policy:
    """The policy in ``content``; ``name`` is the file named in errors. Empty lines count for nothing."""
    rules = []
    for number, line in enumerate(content.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            rules.append(_rule(line))
        except ValueError as error:
            raise PolicyError(f"{name}:{number}: {error}") from None
    return Policy(tuple(rules))


def _rule(line: bytes) -> Rule:
    try:
        table: Any = json.loads(line)
    except UnicodeDecodeError:
        raise ValueError("not UTF-8 text") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not valid JSON: {error.msg} at column {error.colno}") from None
    except RecursionError:
        raise ValueError("not valid JSON: nested too deeply") from None
    if not isinstance(table, dict):
        raise ValueError('not a JSON object ({"name": ..., "users": [...], "actions": [...]})')
    for key in table.keys() - _KEYS:
        raise ValueError(f"unknown key {key!r}; known are {', '.join(sorted(_KEYS))}")
    for key in ("name", "users", "actions"):
        if key not in table:
            raise ValueError(f"{key!r} is missing")
    if not isinstance(table["name"], str):
        raise ValueError('"name" must be a text')
    readonly = table.get("readonly", False)
    if not isinstance(readonly, bool):
        raise ValueError('"readonly" must be true or false')
    uids, containers = _users(table["users"])
    return Rule(table["name"], uids, containers, _actions(table["actions"]), readonly)


def _users(users: object) -> tuple[tuple[range, ...], frozenset[str]]:
    if not isinstance(users, list):
        raise ValueError('"users" must be an array; an empty one names everyone')
    uids, containers = [], set()
    for user in users:
        if isinstance(user, int) and not isinstance(user, bool):
            uids.append(_uids(user, user))
        elif isinstance(user, str) and (found := _RANGE.fullmatch(user)):
            uids.append(_uids(int(found[1]), int(found[2])))
        elif isinstance(user, str) and user:
            containers.add(user)
        else:
            raise ValueError(
                f'{json.dumps(user)[:60]} is no user: a uid (998), a range of uids ("231072-296607") or the id of a '
                "container"
            )
    return tuple(uids), frozenset(containers)


def _uids(first: int, last: int) -> range:
    if not 0 <= first <= last <= _HIGHEST_UID:
        raise ValueError(f"{first}-{last} is no range of uids from 0 to {_HIGHEST_UID}")
    return range(first, last + 1)


def _actions(actions: object) -> tuple[re.Pattern[str], ...]:
    if not isinstance(actions, list) or not all(isinstance(action, str) for action in actions):
        raise ValueError('"actions" must be an array of regular expressions')
    patterns: Sequence[re.Pattern[str]] = []
    for action in actions:
        try:
            pattern = re.compile(action)
        except (re.error, RecursionError, OverflowError) as error:
            raise ValueError(f"{json.dumps(action)[:60]} is no regular expression: {error}") from None
        if not any(pattern.fullmatch(known) for known in ACTIONS):
            raise ValueError(f"{json.dumps(action)[:60]} matches no action; there are {', '.join(ACTIONS)}")
        patterns = [*patterns, pattern]
    return tuple(patterns)
