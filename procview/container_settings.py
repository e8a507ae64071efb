"""Which settings a container has: by the tables of the configuration, by its annotations, and else everybody's.

Reads what procview/notes.py keeps, and nothing of a container's. The engine asks (Engine.configure) when a container is
read in for the first time, so all here is quick and waits for nobody.
"""

import fnmatch
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from procview.logs import Log
from procview.notes import Note, Notes
from procview.printable import printable
from procview.settings import PER_CONTAINER, Settings, told
from procview.slots.containers import name_in

log = Log(__name__)

ANNOTATION_PREFIX = "org.procview."


@dataclass(frozen=True, slots=True)
class Subject:
    """A container as the rules know it."""

    name: str
    """As its cgroup tells it; empty where that is a root."""
    cgroups: tuple[str, ...]
    """The path of its cgroup in each hierarchy."""
    note: Note | None
    """None: its hook has left none, or nobody asks for it."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What one setting is for a container, and who has decided it."""

    value: Any
    by: Literal["table", "annotation", "all"]
    """A table, the container's annotation, or what the configuration says, or leaves, for all containers."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """All that can differ from one container to the next."""

    settings: Mapping[str, Choice]
    table: int | None
    """Which table matched, counted from 0."""
    annotations: Choice
    """Whether annotations count."""
    mistakes: tuple[str, ...]
    """What is wrong with its annotations."""


class Rules:
    """The part of ``settings`` that is about single containers, ready to be applied."""

    def __init__(self, settings: Settings, notes: Notes) -> None:
        self._settings = settings
        self._notes = notes
        self._tables = [
            (
                _matcher(table.id),
                # A cgroup above is meant as well: what a container makes below its own leads it out of no table.
                _matcher(table.cgroup, table.cgroup and f"{table.cgroup.rstrip('/')}/*"),
                _matcher(table.image),
            )
            for table in settings.container
        ]
        self.heeds_annotations = settings.annotations or any(
            table.settings.get("annotations", False) for table in settings.container
        )
        self.heeds_notes = self.heeds_annotations or any(table.image is not None for table in settings.container)

    @property
    def differ(self) -> bool:
        """Whether one container may have other settings than the next."""
        return bool(self._tables) or self.heeds_annotations

    def subject(self, pid_namespace: int, start_ticks: int, cgroups: bytes, *, with_note: bool = False) -> Subject:
        """Who it is; the arguments are those of :meth:`ask`. ``with_note``: also where no rule heeds it."""
        lines = cgroups.decode(errors="surrogateescape").split("\n")
        paths = (fields[2].removesuffix(" (deleted)") for line in lines if len(fields := line.split(":", 2)) == 3)
        note = self._notes.of(pid_namespace, start_ticks) if self.heeds_notes or with_note else None
        return Subject(name_in(lines), tuple(dict.fromkeys(paths)), note)

    def choose(self, subject: Subject) -> Chosen:
        """Every setting of a container."""
        number = next((number for number in range(len(self._tables)) if self._matches(number, subject)), None)
        table: Mapping[str, Any] = {} if number is None else self._settings.container[number].settings
        everybodys = Choice(self._settings.annotations, "all")
        annotations = Choice(table["annotations"], "table") if "annotations" in table else everybodys
        asked, mistakes = _annotated(subject.note) if annotations.value else ({}, ())
        settings = {}
        for key in PER_CONTAINER:
            if key in table:
                settings[key] = Choice(table[key], "table")
            elif key in asked:
                settings[key] = Choice(asked[key], "annotation")
            else:
                settings[key] = Choice(getattr(self._settings, key), "all")
        return Chosen(settings, number, annotations, mistakes)

    def _matches(self, number: int, subject: Subject) -> bool:
        of_id, of_cgroup, of_image = self._tables[number]
        image = None if subject.note is None else subject.note.image
        return (
            (of_id is None or of_id(subject.name))
            and (of_cgroup is None or any(map(of_cgroup, subject.cgroups)))
            and (of_image is None or (image is not None and of_image(image)))
        )

    def ask(self, pid_namespace: int, start_ticks: int, cgroups: bytes) -> dict[str, Any]:
        """The settings of one container, for the engine: see Engine.configure."""
        subject = self.subject(pid_namespace, start_ticks, cgroups)
        chosen = self.choose(subject)
        for mistake in chosen.mistakes:
            log.warning("annotation-refused", "container %s: %s", printable(subject.name), mistake)
        return {key: choice.value for key, choice in chosen.settings.items()}


def _matcher(*globs: str | None) -> Callable[[str], bool] | None:
    """Whether a text is as one of ``globs`` says; None where there are none."""
    patterns = [re.compile(fnmatch.translate(glob)) for glob in globs if glob]
    return (lambda text: any(pattern.match(text) for pattern in patterns)) if patterns else None


def _annotated(note: Note | None) -> tuple[dict[str, bool | str], tuple[str, ...]]:
    """What a container's annotations set, and what is wrong with them."""
    asked: dict[str, bool | str] = {}
    mistakes = []
    for key, text in ({} if note is None else note.annotations).items():
        if key not in PER_CONTAINER:
            known = ", ".join(PER_CONTAINER)
            mistakes.append(f"the annotation {ANNOTATION_PREFIX}{printable(key)} is unknown; known are {known}")
            continue
        try:
            asked[key] = told(key, text)
        except ValueError as error:
            mistakes.append(f"the annotation {ANNOTATION_PREFIX}{printable(str(error))}")
    return asked, tuple(mistakes)
