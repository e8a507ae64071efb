"""``procview config explain``: which settings a container has, and which line of the configuration decides each."""

from typing import TYPE_CHECKING, Any

import click

from procview.cli.options import config_option, place_option

if TYPE_CHECKING:
    from collections.abc import Iterator

    from procview.container_settings import Chosen, Rules, Subject
    from procview.settings import Lines, Settings


@click.group()
def config() -> None:
    """Look at the configuration."""


@config.command()
@click.argument("name", metavar="[ID]", required=False)
@click.option("--pid", type=click.IntRange(min=1), help="The container that this process is in.")
@config_option
@place_option
def explain(name: str | None, pid: int | None, config: str | None, run_directory: str | None) -> None:
    """Say which settings a container has, and which line of the configuration decides each.

    An ID is a container's, or the beginning of one, as its cgroup tells it. With --pid it can also be a process without
    a pid namespace of its own, which is a container by its cgroup.

    No daemon is asked: it is the file that counts, as a daemon would read it now (systemctl reload). Wants root.
    """
    from procview.settings import SettingsError, load_with_lines

    if (name is None) == (pid is None):
        raise click.UsageError("name a container, or give --pid: exactly one of these")
    try:
        settings, file, lines = load_with_lines(config)
    except SettingsError as error:
        raise click.ClickException(str(error)) from None
    from procview.container_settings import Rules
    from procview.mounts import real_place
    from procview.notes import Notes

    notes = Notes(real_place(settings.run_directory if run_directory is None else run_directory))
    rules = Rules(settings, notes)
    try:
        subject = _subject(_init_of(name) if name is not None else _there(pid), rules)
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror}" if error.filename else str(error)) from None
    for line in _explained(rules, rules.choose(subject), subject, settings, file, lines):
        click.echo(line)


def _init_of(name: str) -> int:
    """Raises ClickException, OSError."""
    from procview.cli.naming import named
    from procview.slots.containers import running

    found, errors = named([name], running())
    if errors:
        raise click.ClickException(errors[0])
    return found[0].pid


def _there(pid: int | None) -> int:
    """Raises ClickException."""
    from procview.cli.render import check_process

    assert pid is not None
    check_process(pid, "/proc")
    return pid


def _subject(pid: int, rules: "Rules") -> "Subject":
    """Whom the daemon would take the process for: its engine says so. Raises ClickException, OSError."""
    from procview._fast.engine import Engine
    from procview.cli.render import check_placed

    asked: list[Subject] = []

    def ask(pid_namespace: int, start_ticks: int, cgroups: bytes) -> dict[str, Any]:
        asked.append(rules.subject(pid_namespace, start_ticks, cgroups, with_note=True))
        return {key: choice.value for key, choice in rules.choose(asked[-1]).settings.items()}

    engine = Engine()
    try:
        engine.configure(ask=ask)
        fallback = engine.open(pid, "proc/uptime").fallback
    finally:
        engine.close()
    check_placed(pid, fallback)
    if not asked:
        raise click.ClickException(f"process {pid} cannot be placed: {fallback}")
    return asked[-1]


def _explained(
    rules: "Rules", chosen: "Chosen", subject: "Subject", settings: "Settings", file: str, lines: "Lines"
) -> "Iterator[str]":
    from procview.container_settings import ANNOTATION_PREFIX
    from procview.printable import printable
    from procview.settings import shown

    def place(key: str, by: str) -> str:
        if by == "table":
            assert chosen.table is not None
            return f"{file}:{lines.in_table(chosen.table, key)}"
        if by == "annotation":
            return f"annotation {ANNOTATION_PREFIX}{key}"
        return f"{file}:{lines.top[key]}" if key in lines.top else "default"

    yield f"container {printable(subject.name) or '(in root cgroups only)'}"
    for path in subject.cgroups:
        yield f"  cgroup {printable(path)}"
    if subject.note is not None:
        yield f"  image {'(not told by its engine)' if subject.note.image is None else printable(subject.note.image)}"
        for key, value in subject.note.annotations.items():
            yield f"  annotation {ANNOTATION_PREFIX}{printable(key)} = {printable(value)}"
    if chosen.table is None:
        yield "no table [[container]] is for it" if settings.container else "there is no table [[container]]"
    else:
        globs = [
            f"{key} = {shown(glob)}"
            for key in ("id", "cgroup", "image")
            if (glob := getattr(settings.container[chosen.table], key)) is not None
        ]
        yield f"{file}:{lines.in_table(chosen.table)}: [[container]] with {', '.join(globs)} is for it"
    answers = [(f"{key} = {shown(choice.value)}", place(key, choice.by)) for key, choice in chosen.settings.items()]
    width = max(len(answer) for answer, _ in answers)
    for answer, origin in answers:
        yield f"  {answer:{width}}  {origin}"
    for mistake in chosen.mistakes:
        yield f"does not count: {mistake}"
    if subject.note is not None and subject.note.annotations and not chosen.annotations.value:
        where = place("annotations", chosen.annotations.by)
        yield f"its annotations do not count: annotations = false ({where})"
    if rules.heeds_notes and subject.note is None:
        yield (
            "not known: its image and its annotations. Its hook has noted none: its engine told of none, or it was "
            "started without the hook, without root, or before a daemon had made the folder for notes"
        )
