"""Seeds that are kept: what once did harm, as files that do not change when the fuzzers do.

kept/messages/*.txt: the steps of an exchange, one in a line, after a line with its options. kept/texts/*.tree: spoilt
files of a host, as in tests/hosts/recorded.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.fuzz.exchange import OPTIONS
from tests.fuzz.texts import Case
from tests.hosts.trees import TreeText

PLACE = Path(__file__).parent / "kept"
MESSAGES = sorted((PLACE / "messages").glob("*.txt"))
TEXTS = sorted((PLACE / "texts").glob("*.tree"))
_MOST_TRIES = 400


def write_messages(path: Path, options: Mapping[str, int], steps: Sequence[str]) -> None:
    words = " ".join(f"{name}={value}" for name, value in options.items())
    path.write_text("\n".join([f"options {words}", *steps]) + "\n", encoding="ascii")


def read_messages(path: Path) -> tuple[dict[str, int], list[str]]:
    lines = [line for line in path.read_text(encoding="ascii").splitlines() if not line.startswith("#")]
    words = (word.split("=") for word in lines[0].split()[1:])
    return OPTIONS | {name: int(value) for name, value in words}, lines[1:]


def write_case(path: Path, case: Case) -> None:
    tree = TreeText(notes={"host": case.host})
    tree.notes["removed"] = " ".join(name for name, text in case.files.items() if text is None)
    for name, text in case.files.items():
        if text is not None:
            tree.files[name] = text.decode("utf-8", "surrogateescape")
    path.write_bytes(tree.dump().encode("utf-8", "surrogateescape"))


def read_case(path: Path) -> Case:
    tree = TreeText.parse(path.read_bytes().decode("utf-8", "surrogateescape"))
    files: dict[str, bytes | None] = {
        name: text.encode("utf-8", "surrogateescape") for name, text in tree.files.items()
    }
    return Case(tree.notes["host"], files | dict.fromkeys(tree.notes.get("removed", "").split()))


def shrunk(steps: Sequence[str], fails: Callable[[Sequence[str]], bool]) -> list[str]:
    """Fewer steps that still fail: parts are left out, each time smaller ones."""
    left = list(steps)
    tries = 0
    size = len(left) // 2
    while size >= 1:
        at = 0
        while at < len(left) and tries < _MOST_TRIES:
            tries += 1
            fewer = left[:at] + left[at + size :]
            failed = False
            with contextlib.suppress(Exception):  # a step without its handle is nothing to report
                failed = fails(fewer)
            left = fewer if failed else left
            at += 0 if failed else size
        size //= 2
    return left
