"""The completion files, in the shells that are installed here; and what they ask the program for."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import procview
from procview.cli import main
from tests.manual import completions, pages
from tests.session import temporary_directory

BASH = """
source "$1"
COMP_WORDS=(procview "${@:2}"); COMP_CWORD=$(($# - 1))
complete -p procview >/dev/null || exit 9
_procview_completion procview
printf '%s\\n' "${COMPREPLY[@]}"
"""
# compadd and _describe work in zsh's line editor only. What they are called with is what would be offered.
ZSH = """
fpath=(${1:h} $fpath)
compadd() { while [[ $1 != -a ]]; do shift; done; print -rl -- ${(P)2} }
_describe() { print -rl -- ${${(P)3}%%:*} }
words=(procview "${@:2}"); CURRENT=$#
autoload -Uz _procview
_procview
"""
FISH = "source $argv[1]; complete -C (string join -- ' ' procview $argv[2..])"
SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}


@pytest.fixture(scope="module")
def path() -> Iterator[str]:
    """A PATH in which ``procview`` is this one."""
    with temporary_directory() as folder:
        program = folder / "procview"
        here = str(Path(procview.__file__).parent.parent)
        path_first = f"import sys; sys.path.insert(0, {here!r})"
        lines = [f"#!{sys.executable}", path_first, "from procview.cli import main; main()"]
        program.write_text("\n".join(lines) + "\n", encoding="utf-8")
        program.chmod(0o755)
        yield f"{folder}:{os.environ['PATH']}"


def offered(shell: str, path: str, *words: str) -> list[str]:
    """What a shell offers behind ``procview``, where the last of the words is not finished."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    file = completions.FOLDER / completions.FILES[shell]
    plain = {"bash": ["--norc", "-c", SCRIPTS[shell], "bash"], "zsh": ["-f", "-c", SCRIPTS[shell], "zsh"],
             "fish": ["--no-config", "-c", SCRIPTS[shell]]}[shell]  # fmt: skip
    environment = {**os.environ, "PATH": path, "HOME": str(Path(path.partition(":")[0]))}
    done = subprocess.run(
        [shell, *plain, str(file), *words], capture_output=True, text=True, timeout=60, check=False, env=environment
    )
    assert (done.returncode, done.stderr) == (0, "")
    return [line.partition("\t")[0] for line in done.stdout.splitlines()]


@pytest.mark.parametrize("shell", completions.FILES)
def test_a_shell_completes_a_command(shell: str, path: str) -> None:
    assert offered(shell, path, "ser") == ["serve"]


@pytest.mark.parametrize("shell", completions.FILES)
def test_a_shell_completes_an_option(shell: str, path: str) -> None:
    assert offered(shell, path, "withdraw", "--un") == ["--unless-served"]


def words(command: list[str], incomplete: str) -> set[str]:
    """What the program offers when a shell asks it, as the completion files do."""
    line = [completions.PROGRAM, *command, incomplete]
    environment = {
        **os.environ,
        "COMP_WORDS": "\n".join(line),
        "COMP_CWORD": str(len(line) - 1),
        completions.VARIABLE: "bash_complete",
    }
    code = f"from procview.cli import main; main(prog_name={completions.PROGRAM!r})"
    asked = [sys.executable, "-c", code]
    done = subprocess.run(asked, capture_output=True, text=True, env=environment, check=True)
    return {one.partition(",")[2] for one in done.stdout.splitlines()}


def test_the_program_offers_every_command() -> None:
    assert words([], "") == {name.split()[0] for name, _ in pages.commands(main)}


@pytest.mark.parametrize(("name", "command"), pages.commands(main))
def test_the_program_offers_every_option_of_a_command(name: str, command: click.Command) -> None:
    every = {one for option in pages.options(command, main) for one in (*option.opts, *option.secondary_opts)}
    assert words(name.split(), "-") == every
