"""Transient services that a test asks questions, and systemctl."""

import contextlib
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tests import session
from tests.timing import patient

_ANSWER_ALL = 'while read -r question; do eval "$question"; echo "-- end --"; done'
_SECONDS = patient(60)


def systemctl(*words: str, check: bool = True) -> str:
    """What it prints; it must succeed, or may fail."""
    done = subprocess.run(
        ["systemctl", *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_SECONDS, check=False
    )
    assert not check or done.returncode == 0, f"systemctl {' '.join(words)}: {done.stdout}{done.stderr}"
    return done.stdout.strip()


def shown(unit: str, name: str) -> str:
    """A property of a unit."""
    return systemctl("show", "--property", name, "--value", unit)


@dataclass
class Service:
    """A service of the host's systemd that runs what it is told: a shell between two pipes."""

    unit: str
    directory: Path
    questions: IO[str]
    answers: IO[str]
    views: Path
    """The daemon's mount, which the service sees as the host does."""

    @classmethod
    def start(cls, views: Path, properties: Sequence[str]) -> "Service":
        """Start it with properties such as ``MemoryMax=100M``."""
        unit = f"{session.new_name()}.service"
        directory = session.new_directory()
        pipes = [directory / name for name in ("questions", "answers")]
        for pipe in pipes:
            os.mkfifo(pipe)
        options = [f"StandardInput=file:{pipes[0]}", f"StandardOutput=file:{pipes[1]}", *properties]
        options.append(f"Environment={session.VARIABLE}={session.SESSION}")
        argv = ["systemd-run", "--quiet", "--collect", f"--unit={unit}"]
        argv += [f"--property={option}" for option in options]
        done = subprocess.run(
            [*argv, "sh", "-c", _ANSWER_ALL],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        # Each end waits for the other: in the order in which systemd opens them.
        return cls(unit, directory, pipes[0].open("w"), pipes[1].open(), views)

    def ask(self, command: str) -> str:
        """What a command of the shell prints."""
        self.questions.write(f"{command}\n")
        self.questions.flush()
        lines = iter(self.answers.readline, "")
        said: list[str] = []
        for line in lines:
            if line == "-- end --\n":
                return "".join(said)
            said.append(line)
        raise RuntimeError(f"{self.unit} has ended: {''.join(said)}")

    def read(self, view: str) -> str:
        """A view, such as proc/meminfo, by a program that the service runs."""
        return self.ask(f"cat {self.views / view}")

    @property
    def cgroup(self) -> Path:
        return Path("/sys/fs/cgroup", shown(self.unit, "ControlGroup").lstrip("/"))

    def stop(self) -> None:
        """End it; its shell ends with its questions. Once more does nothing."""
        if self.questions.closed:
            return
        for pipe in (self.questions, self.answers):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
        systemctl("stop", self.unit, check=False)
        session.remove_directory(self.directory)
