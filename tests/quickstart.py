"""docs/quickstart.md taken apart into commands and what they print. Standard library only: it is run in a guest, too.

A fenced block that is to be run has `<!-- run: NAME -->` right above it. In it `$ ` begins a command, `> ` goes on with
it, and all else is what it prints: words are compared, and `…` at the end of a line is whatever it may be.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    command: str
    prints: tuple[str, ...]


_BLOCK = re.compile(r"(?:^<!-- run: ([\w-]+) -->\n)?^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: str) -> dict[str, list[Step]]:
    """What is to be run, by the names of the blocks. Fails on a block without a name, or two with the same."""
    found: dict[str, list[Step]] = {}
    for name, text in _BLOCK.findall(page):
        assert name, f"a block of commands without <!-- run: NAME -->:\n{text}"
        assert name not in found, name
        found[name] = steps(text)
    return found


def steps(text: str) -> list[Step]:
    found: list[Step] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            found.append(Step(line[2:], ()))
        elif line.startswith("> "):
            found[-1] = Step(f"{found[-1].command}\n{line[2:]}", ())
        else:
            found[-1] = Step(found[-1].command, (*found[-1].prints, line))
    return found


def prints(expected: Sequence[str], output: str) -> bool:
    """Whether the lines of the page are among those of the output, in their order."""
    lines = iter(output.splitlines())
    return all(any(_same(wanted.split(), line.split()) for line in lines) for wanted in expected)


def _same(wanted: list[str], words: list[str]) -> bool:
    if wanted[-1:] == ["…"]:
        return words[: len(wanted) - 1] == wanted[:-1]
    return words == wanted
