"""Batches of spoilt kernel texts: which files of which host, how, and who looks at them. A seed decides all of it."""

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypedDict

from procview._fast.engine import Engine, View
from tests.fuzz.damage import spoilt
from tests.fuzz.form import check
from tests.fuzz.recordings import COUNTING, VIEWS, Recording

CASES = 40
"""Of a batch: so often something is broken, until all is whole again and must show as it did."""
_TREES = ("sys/devices/system/cpu/", "sys/devices/system/node/")
_KEPT = ("proc/diskstats", "proc/partitions", "proc/loadavg")
"""Of these an engine keeps for seconds what it has found, and a recording's clock stands still. So it does with
cpuinfo: a broken one is for new engines only."""
_MORE_VIEWS = 3


class Settings(TypedDict, total=False):
    """Of an engine."""

    cpus: Literal["quota", "cpuset"]
    topology: Literal["container", "host"]
    swap: bool
    devices: Literal["container", "host"]
    uptime: Literal["container", "host"]
    loadavg: bool


SETTINGS: tuple[Settings, ...] = (
    {},
    {},
    {"topology": "host"},
    {"cpus": "cpuset", "topology": "host"},
    {"swap": False, "uptime": "host"},
    {"devices": "host", "loadavg": False},
)
"""Of the trees of CPUs and nodes, which are many, at a time."""


class WrongTextError(AssertionError):
    """A view failed where it must not, or showed what it must not."""


@dataclass(frozen=True)
class Case:
    """Some files of one host, spoilt: None is a file that is not there."""

    host: str
    files: Mapping[str, bytes | None]

    @classmethod
    def of(cls, rng: random.Random, recording: Recording) -> "Case":
        # The container's own or the host's: who is broken decides what a view may answer.
        of_container = rng.random() < 0.6
        kinds = [paths for paths in recording.kinds.values() if recording.is_of_container(paths[0]) == of_container]
        chosen = {rng.choice(rng.choice(kinds)) for _ in range(rng.choice((1, 2, 2, 4, 6)))}
        return cls(
            recording.name,
            {path: None if rng.random() < 0.03 else spoilt(rng, recording.texts[path]) for path in sorted(chosen)},
        )

    def break_it(self, recording: Recording) -> None:
        for path, text in self.files.items():
            if text is None:
                recording.remove(path)
            else:
                recording.write(path, text)


def look(case: Case, recording: Recording, views: Mapping[str, View | None], engine: Engine) -> None:
    """Render while files are broken. ``views``: those opened before, or None for what is to be opened now."""
    hosts_own = any(not recording.is_of_container(path) for path in case.files)
    for path, opened in views.items():
        try:
            text = (engine.open(recording.pid, path) if opened is None else opened).render()
        except OSError as error:
            # Only the host's own file, when it is broken, or one that depends on what is: no other is documented.
            if hosts_own or path not in VIEWS or (isinstance(error, FileNotFoundError) and "pressure" in path):
                continue
            raise WrongTextError(f"{path} cannot be read any more: {error!r}") from error
        except Exception as error:
            raise WrongTextError(f"{path}: {error!r} is no OSError") from error
        # The host's file as it is: what is shown where the container's numbers cannot be told.
        if text not in (case.files.get(path), recording.texts.get(path)):
            check(path, text, recording.whole[path], template=_is_written_into(case, path))


def _is_written_into(case: Case, view: str) -> bool:
    """Whether a file is broken whose text passes through into this view."""
    tree = next((tree for tree in _TREES if view.startswith(tree) and view not in VIEWS), view)
    return any(path.startswith(tree) or (path.endswith(".pressure") and "pressure" in view) for path in case.files)


@dataclass
class Batch:
    """Cases on one host, seen by an engine that stays, and by new ones."""

    rng: random.Random
    recording: Recording
    case: Case | None = None
    """The one in hand."""
    text_count: int = 0
    _opened: dict[str, View] = field(default_factory=dict)

    @classmethod
    def of(cls, found: Mapping[str, Recording], seed: str) -> "Batch":
        rng = random.Random(seed)
        name = rng.choice([*found, *[name for name in found if name.startswith("rich")] * 3])
        return cls(rng, found[name])

    def run(self) -> int:
        """How many texts were spoilt."""
        lasting = self._engine()
        try:
            self._opened = {path: lasting.open(self.recording.pid, path) for path in self.recording.views}
            for _ in range(CASES):
                self._look_at(Case.of(self.rng, self.recording), lasting)
            self.case = None
            self._check_whole(lasting)
        finally:
            lasting.close()
        return self.text_count

    def _engine(self) -> Engine:
        return Engine(**self.recording.roots, max_descriptors=self.rng.choice((None, None, 3)))

    def _look_at(self, case: Case, lasting: Engine) -> None:
        self.case = case
        self.text_count += len(case.files)
        views = self._views(case)
        try:
            case.break_it(self.recording)
            if self.rng.random() < 0.3 or "proc/cpuinfo" in case.files:
                look_anew(case, self.recording, views, self.rng.choice(SETTINGS))
            else:
                kept = self.rng.random() < 0.5
                look(case, self.recording, {path: self._opened[path] if kept else None for path in views}, lasting)
                if self.rng.random() < 0.1:
                    lasting.sample()
        finally:
            self.recording.heal(list(case.files))

    def _views(self, case: Case) -> list[str]:
        more = [path for path in self.recording.views if path not in VIEWS]
        wanted = set(self.rng.sample(more, min(_MORE_VIEWS, len(more)))) | {path for path in more if path in case.files}
        if any("node" in path or "numa" in path for path in case.files):
            wanted |= {path for path in more if "/node" in path}
        return [path for path in self.recording.views if path in VIEWS or path in wanted]

    def _check_whole(self, lasting: Engine) -> None:
        """Nothing of what was broken is remembered."""
        whole = self.recording.whole
        anew = self.recording.all_texts()
        for path, text in anew.items():
            if text != whole[path]:
                raise WrongTextError(f"{path} of a new engine is another one: {text!r} in place of {whole[path]!r}")
        for path, text in self.recording.all_texts(lasting).items():
            if path not in COUNTING and path not in _KEPT and text != whole[path]:
                raise WrongTextError(f"{path} has not recovered: {text!r} in place of {whole[path]!r}")


def look_anew(case: Case, recording: Recording, views: Iterable[str], settings: Settings) -> None:
    """With an engine that never saw it whole."""
    hosts_own = any(not recording.is_of_container(path) for path in case.files)
    try:
        engine = Engine(**recording.roots)
    except OSError as error:
        if not hosts_own:
            raise WrongTextError(f"no engine: {error!r}") from error
        return
    try:
        engine.configure(**settings)
        look(case, recording, dict.fromkeys(views), engine)
    finally:
        engine.close()
