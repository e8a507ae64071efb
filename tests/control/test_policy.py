"""The policy's file: which lines are understood, which are refused and how, and whom they let in."""

import os
from pathlib import Path

import pytest

from procview.control.policy import ACTIONS, Policy, PolicyError, load, parse

RANGE = '{"name": "web", "users": ["231072-296607"], "actions": ["container.*"]}'


def allowed(policy: Policy, *, uid: int = 1000, container: str | None = None, is_of_host: bool = False) -> set[str]:
    return {action for action in ACTIONS if policy.allows(action, uid=uid, container=container, is_of_host=is_of_host)}


def test_without_a_line_root_may_do_all_and_others_ask_about_themselves() -> None:
    policy = parse(b"", "f")
    assert allowed(policy, uid=0, is_of_host=True) == set(ACTIONS)
    assert allowed(policy, uid=1000, is_of_host=True) == set()
    assert allowed(policy, uid=231072) == {"self"}
    assert allowed(policy, uid=0) == {"self"}, "root of a container without a user namespace"


def test_the_first_line_that_names_a_peer_decides() -> None:
    policy = parse(
        b"""
        {"name": "one", "users": [1000], "actions": ["status"]}
        {"name": "all", "users": [], "actions": [".*"], "readonly": true}
        """,
        "f",
    )
    assert allowed(policy, uid=1000) == {"status"}
    assert allowed(policy, uid=0, is_of_host=True) == set(ACTIONS) - {"reload", "attach", "detach"}


def test_users_are_uids_ranges_and_containers() -> None:
    policy = parse(b'{"name": "n", "users": [998, "231072-296607", "web"], "actions": ["containers?", "self"]}', "f")
    for uid in (998, 231072, 296607):
        assert allowed(policy, uid=uid) == {"container", "containers", "self"}
    assert allowed(policy, uid=5, container="web") == {"container", "containers", "self"}
    assert allowed(policy, uid=5, container="webs") == {"self"}
    for uid in (997, 231071, 296608):
        assert allowed(policy, uid=uid, is_of_host=True) == set()


def test_uid_0_names_root_of_the_host_and_no_root_of_a_container() -> None:
    policy = parse(b'{"name": "n", "users": [0], "actions": ["status"]}', "f")
    assert allowed(policy, uid=0, is_of_host=True) == {"status"}
    assert allowed(policy, uid=0) == {"self"}


def test_an_action_is_matched_as_a_whole() -> None:
    assert allowed(parse(b'{"name": "n", "users": [], "actions": ["container"]}', "f")) == {"container"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "f:2: not valid JSON: Expecting property name enclosed in double quotes at column 2"),
        ("[]", "f:2: not a JSON object"),
        ("[" * 100000, "f:2: not valid JSON: "),
        ('{"name": "n", "users": []}', "f:2: 'actions' is missing"),
        ('{"name": "n", "users": [], "action": []}', "f:2: unknown key 'action'; known are actions, name, readonly"),
        ('{"name": 3, "users": [], "actions": []}', 'f:2: "name" must be a text'),
        ('{"name": "n", "users": 3, "actions": []}', 'f:2: "users" must be an array; an empty one names everyone'),
        ('{"name": "n", "users": [true], "actions": []}', "f:2: true is no user: a uid (998), a range"),
        ('{"name": "n", "users": [-1], "actions": []}', "f:2: -1--1 is no range of uids from 0 to 4294967294"),
        ('{"name": "n", "users": ["9-1"], "actions": []}', "f:2: 9-1 is no range of uids"),
        ('{"name": "n", "users": [""], "actions": []}', 'f:2: "" is no user'),
        ('{"name": "n", "users": [], "actions": "all"}', 'f:2: "actions" must be an array of regular expressions'),
        ('{"name": "n", "users": [], "actions": ["("]}', 'f:2: "(" is no regular expression: missing )'),
        ('{"name": "n", "users": [], "actions": ["stat"]}', 'f:2: "stat" matches no action; there are status, '),
        ('{"name": "n", "users": [], "actions": [], "readonly": 1}', 'f:2: "readonly" must be true or false'),
    ],
)
def test_a_mistake_is_refused_with_file_line_and_reason(line: str, message: str) -> None:
    with pytest.raises(PolicyError) as refused:
        parse(f"{RANGE}\n{line}\n".encode(), "f")
    assert str(refused.value).startswith(message)


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(PolicyError, match=r"^f:1: not UTF-8 text$"):
        parse(b'{"name": "\xff"}', "f")


def test_a_file_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "policy.jsonl"
    path.write_text(RANGE)
    path.chmod(0o664)
    with pytest.raises(PolicyError, match=r"others than its owner may write to it: chmod go-w "):
        load(str(path))
    path.chmod(0o644)
    assert len(load(str(path)).rules) == 1


def test_a_file_that_is_named_has_to_be_there(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="no such file"):
        load(str(tmp_path / "absent"))
    (tmp_path / "folder").mkdir(mode=0o755)
    with pytest.raises(PolicyError, match=os.strerror(21)):
        load(str(tmp_path / "folder"))


def test_who_cannot_read_a_policy_lets_nobody_in_but_root() -> None:
    policy = Policy.of_nobody()
    assert allowed(policy, uid=0, is_of_host=True) == set(ACTIONS)
    assert allowed(policy, uid=0) == allowed(policy, uid=1000, container="web") == set()
