"""Man pages, --help and the command tree say the same."""

import re
import shutil
import subprocess
import sys

import click
import pytest

from procview.cli import main
from tests.manual import completions, pages

COMMANDS = dict(pages.commands(main))
LONG = re.compile(r"(?<![\w-])--[a-z][\w-]*")


def of_the_tree(command: click.Command) -> set[str]:
    return {name for option in pages.options(command, main) for name in (*option.opts, *option.secondary_opts)}


def said(*arguments: str) -> str:
    # In a process of its own: click keeps a command's help option as it was first asked for, by any test.
    words = [sys.executable, "-m", "procview", *arguments]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def of_help(name: str) -> set[str]:
    """The options in the list that --help prints, with nothing of their texts."""
    listed = said(*name.split(), "--help").partition("\nOptions:\n")[2].partition("\n\n")[0]
    forms = re.findall(r"^  (\S.*?)(?:  .*)?$", listed, re.MULTILINE)
    return {word for form in forms for word in re.findall(r"(?<![\w-])-{1,2}[a-z][\w-]*", form)}


def of_the_page(text: str, section: str) -> set[str]:
    body = text.partition(f".Sh {section}\n")[2].partition("\n.Sh ")[0]
    starts = ".It" if section == "OPTIONS" else ".Op"
    lines = [line for line in body.replace("\\-", "-").splitlines() if line.startswith(starts)]
    return {f"-{name}" for line in lines for name in re.findall(r"Fl (\S+)", line)}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_page_and_help_have_every_option_of_a_command_and_no_other(name: str) -> None:
    text = (pages.FOLDER / pages.page_name(name)).read_text(encoding="utf-8")
    tree = of_the_tree(COMMANDS[name])
    assert "--help" in tree
    assert of_help(name) == tree
    assert of_the_page(text, "OPTIONS") == tree
    assert of_the_page(text, "SYNOPSIS") == tree


def test_the_overview_and_help_list_every_command() -> None:
    overview = (pages.FOLDER / "procview.1").read_text(encoding="utf-8")
    assert re.findall(r"^\.It Xr procview-(\S+) 1$", overview, re.MULTILINE) == [
        name.replace(" ", "-") for name in COMMANDS
    ]
    shown = said("--help").partition("\nCommands:\n")[2].partition("\n\n")[0]
    assert set(re.findall(r"^  (\S+)", shown, re.MULTILINE)) == {name.split()[0] for name in COMMANDS}


def test_there_is_a_page_for_each_command_and_none_of_another() -> None:
    assert {path.name for path in pages.FOLDER.glob("*.1")} == {"procview.1", *map(pages.page_name, COMMANDS)}
    assert {path.name for path in (pages.FOLDER / "notes").iterdir()} <= set(map(pages.notes_name, COMMANDS))


@pytest.mark.parametrize("name", ["procview.1", *map(pages.page_name, COMMANDS)])
def test_the_pages_are_those_that_the_commands_make(name: str) -> None:
    kept = (pages.FOLDER / name).read_text(encoding="utf-8")
    assert kept == pages.every_page(main)[name], "./dev manual writes it anew"


def test_what_pages_and_notes_name_as_options_exists() -> None:
    every = {name for command in COMMANDS.values() for name in of_the_tree(command)}
    for path in (*pages.FOLDER.glob("*.1"), *(pages.FOLDER / "notes").iterdir()):
        text = path.read_text(encoding="utf-8").replace("\\-", "-")
        named = {f"-{name}" for name in re.findall(r"Fl (-[a-z][\w-]*)", text)} | set(LONG.findall(text))
        assert named <= every, path


def test_pages_can_be_read() -> None:
    if shutil.which("mandoc") is None:
        pytest.skip("mandoc is not installed")
    for path in sorted(pages.FOLDER.glob("*.1")):
        done = subprocess.run(["mandoc", "-W", "error", str(path)], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), path
        assert "procview" in done.stdout


def test_texts_stay_what_they_are_and_are_no_macros() -> None:
    @click.group(context_settings={"help_option_names": ["--help"]})
    def group() -> None:
        """A group."""

    @group.command()
    @click.option("--odd", help=r".Bd \fB and -x: 'quoted'")
    @click.option("--secret", hidden=True)
    def one(odd: str, secret: str) -> None:
        """Do it. Then \\stop.

        .Sh NOT A SECTION
        """

    made = pages.every_page(group)["procview-one.1"]
    assert "\n.Nd do it\n" in made
    assert "\n\\&.Sh NOT A SECTION\n" in made
    assert "Then \\estop.\n" in made
    assert "\n\\&.Bd \\efB and \\-x: 'quoted'\n" in made
    assert "secret" not in made


def test_an_overview_without_its_marks_is_an_error() -> None:
    with pytest.raises(ValueError, match="lacks the line"):
        pages._overview(".Dd today\n", main)


def test_the_completions_are_made_for_every_shell_that_has_a_file() -> None:
    made = completions.every_file(main)
    assert set(made) == set(completions.FILES.values())
    for name, text in made.items():
        kept = (completions.FOLDER / name).read_text(encoding="utf-8")
        # Not byte for byte: click's own template changes with click.
        for word in (completions.PROGRAM, completions.VARIABLE):
            assert word in text, name
            assert word in kept, name
