"""Man pages in mdoc(7), one for each command, made of click's command tree and of docs/man/notes.

Names, usage, options, their texts and their defaults are those of ``--help``. What a command's own notes say comes in
addition: text before the notes' first ``.Sh`` belongs to DESCRIPTION, the rest stands behind OPTIONS. The overview,
procview.1, is written by hand but for its list of commands, between two comments.

click's own formatter is not used: how it writes types and ranges changes from version to version, and pages are not to.
"""

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import click

FOLDER = Path(__file__).parent.parent.parent / "docs/man"
PROGRAM = "procview"
BEGIN, END = '.\\" begin: ./dev manual writes what follows', '.\\" end'
_MACRO_LIKE = re.compile(r"^([.'])", re.MULTILINE)
_PUNCTUATION = "()[].,:;!?|"


def commands(group: click.Group) -> list[tuple[str, click.Command]]:
    """The commands that ``--help`` lists, by name; of a group those that it has (``config explain``)."""
    found: list[tuple[str, click.Command]] = []
    for name, command in sorted(group.commands.items()):
        if isinstance(command, click.Group):
            found += [(f"{name} {inner}", one) for inner, one in commands(command)]
        elif not command.hidden:
            found.append((name, command))
    return found


def options(command: click.Command, group: click.Group) -> list[click.Option]:
    """The options that ``--help`` lists, in its order."""
    own = [one for one in command.params if isinstance(one, click.Option) and not one.hidden]
    # click makes the last one when it is asked for, and keeps what it made for whoever asked first.
    names = group.context_settings["help_option_names"]
    return [*own, click.Option(names, is_flag=True, help="Show this message and exit.")]


def page_name(command: str) -> str:
    """The file of a command's page."""
    return f"{_page_of(command)}.1"


def notes_name(command: str) -> str:
    """The file of what is to be said of a command besides."""
    return f"{command.replace(' ', '-')}.mdoc"


def _page_of(command: str) -> str:
    return f"{PROGRAM}-{command.replace(' ', '-')}"


def every_page(group: click.Group) -> dict[str, str]:
    """All pages by their file's name. Raises FileNotFoundError and ValueError if the overview cannot be made."""
    overview = (FOLDER / f"{PROGRAM}.1").read_text(encoding="utf-8")
    date = re.search(r"^\.Dd (.+)$", overview, re.MULTILINE)
    if date is None:
        raise ValueError(f"{FOLDER}/{PROGRAM}.1 has no line .Dd: all pages have its date")
    pages = {f"{PROGRAM}.1": _overview(overview, group)}
    for name, command in commands(group):
        notes = FOLDER / "notes" / notes_name(name)
        own = notes.read_text(encoding="utf-8") if notes.exists() else ""
        pages[page_name(name)] = _page(name, command, group, date[1], own)
    return pages


def _overview(text: str, group: click.Group) -> str:
    before, begin, rest = text.partition(f"{BEGIN}\n")
    _, end, after = rest.partition(f"{END}\n")
    if not (begin and end):
        raise ValueError(f"{FOLDER}/{PROGRAM}.1 lacks the line {BEGIN!r} or {END!r} behind it")
    lines = [".Bl -tag -width Ds"]
    for name, command in commands(group):
        lines += [f".It Xr {_page_of(name)} 1", *_sentences(command.get_short_help_str(limit=200))]
    return before + begin + "\n".join([*lines, ".El"]) + "\n" + end + after


def _page(name: str, command: click.Command, group: click.Group, date: str, notes: str) -> str:
    belongs_to_description, heading, sections = notes.partition(".Sh ")
    paragraphs = list(_paragraphs(command.help or ""))
    lines = [
        f'.\\" Made by ./dev manual, of procview/cli and docs/man/notes/{notes_name(name)}: change those.',
        f".Dd {date}",
        f".Dt {_page_of(name).upper()} 1",
        ".Os",
        ".Sh NAME",
        f".Nm {_page_of(name)}",
        f".Nd {_first_words(paragraphs[0])}",
        ".Sh SYNOPSIS",
        f".Nm {PROGRAM} {name}",
        *(f".Op {_form(option)}" for option in options(command, group)),
        *(f".Ar {_escaped(piece)}" for piece in _arguments(command)),
        ".Sh DESCRIPTION",
        *_text(paragraphs),
    ]
    if belongs_to_description:
        lines += [".Pp", belongs_to_description.rstrip("\n")]
    epilog = list(_paragraphs(command.epilog or ""))
    if epilog:
        lines += [".Pp", *_text(epilog)]
    lines += [".Sh OPTIONS", ".Bl -tag -width Ds"]
    for option in options(command, group):
        lines += [f".It {_form(option)}", *_sentences(_help(option))]
    lines.append(".El")
    if heading:
        lines.append((heading + sections).rstrip("\n"))
    lines += [".Sh SEE ALSO", f".Xr {PROGRAM} 1"]
    return "\n".join(lines) + "\n"


def _arguments(command: click.Command) -> Iterator[str]:
    for one in command.params:
        if isinstance(one, click.Argument):
            yield one.metavar or (one.name or "").upper()


def _form(option: click.Option) -> str:
    """An option with what it takes, in words of mdoc: ``Fl -pid Ar INTEGER``."""
    names = " , ".join(_flag(name) for name in option.opts)
    if option.secondary_opts:
        names += " | " + " , ".join(_flag(name) for name in option.secondary_opts)
    return names if option.is_flag else f"{names} Ar {_escaped(value(option))}"


def _flag(name: str) -> str:
    return f"Fl {_escaped(name[1:])}"


def value(option: click.Option) -> str:
    """What an option takes, in a word."""
    if option.metavar:
        return option.metavar
    kind = option.type
    if isinstance(kind, click.Choice):
        return "|".join(map(str, kind.choices))
    if isinstance(kind, click.Path):
        return "FILE" if kind.file_okay else "DIR"
    if isinstance(kind, click.types.IntParamType | click.types.FloatParamType):
        return "NUMBER"
    return "TEXT"


def _help(option: click.Option) -> str:
    text = " ".join((option.help or "").split())
    if option.show_default is True and not option.is_flag:
        text += f"  [default: {option.default}]"
    # As a sentence of its own; --help has it in brackets.
    return re.sub(r"\s*\[default: (.*)\]$", r" Default: \1.", text)


def _first_words(paragraph: str) -> str:
    """A page's one line: the first sentence of its help, as part of a sentence."""
    sentence = re.split(r"(?<=[^.])[.:](?:\s|$)", " ".join(paragraph.split()))[0]
    return _escaped(sentence[0].lower() + sentence[1:])


def _paragraphs(text: str) -> Iterator[str]:
    """What click takes for paragraphs; one that it does not wrap begins with ``\\b``."""
    yield from (part for part in re.split(r"\n\s*\n", textwrap.dedent(_unwrapped_first(text)).strip()) if part)


def _unwrapped_first(text: str) -> str:
    """A docstring with its first line indented as the others are."""
    first, _, rest = text.partition("\n")
    return f"{first.lstrip()}\n{textwrap.dedent(rest)}"


def _text(paragraphs: list[str]) -> list[str]:
    lines: list[str] = []
    for number, paragraph in enumerate(paragraphs):
        if number:
            lines.append(".Pp")
        if paragraph.startswith("\b"):
            lines += [".Bd -literal -compact", *map(_escaped, paragraph[1:].strip("\n").splitlines()), ".Ed"]
        else:
            lines += _sentences(paragraph)
    return lines


def _sentences(text: str) -> list[str]:
    """Each on a line of its own, as mdoc wants it; the abbreviations of our texts have no stop in them."""
    return [_escaped(sentence) for sentence in re.split(r"(?<=[.?!]) (?=[A-Z/])", " ".join(text.split()))]


def _escaped(text: str) -> str:
    """``text`` as roff prints it, character by character."""
    return _MACRO_LIKE.sub(r"\\&\1", text.replace("\\", "\\e")).replace("-", "\\-")
