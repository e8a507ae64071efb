"""The daemon as a process of its own, under a mount point of the test's own, and all of it gone afterwards."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from procview.mounts import detach, mount_table, top_mount
from tests import lane
from tests.session import environment_with_modules, new_directory, remove_directory
from tests.timing import paced_settings, patient

DEADLINE_SECONDS = patient(20)

needs_mount = [
    pytest.mark.skipif(os.geteuid() != 0, reason="mounting with allow_other needs root"),
    pytest.mark.skipif(not os.path.exists("/dev/fuse"), reason="this machine has no /dev/fuse"),
]


def descriptors(pid: int) -> Iterator[tuple[Path, str]]:
    """The open files of a process, below /proc, and what each is; one that is closed meanwhile is left out."""
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            yield entry, os.readlink(entry)


def eventually(condition: Callable[[], object], what: str) -> None:
    """Wait until ``condition()`` holds; fail naming ``what`` when it never does."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"never came: {what}")
        time.sleep(0.01)


@dataclass
class Place:
    """A folder with a mount point ``fs`` and a configuration, and the daemons started there."""

    directory: Path
    started: list["Daemon"] = field(default_factory=list)

    @property
    def run_directory(self) -> Path:
        return self.directory / "run"

    @property
    def mount(self) -> Path:
        return self.run_directory / "fs"

    @property
    def config(self) -> Path:
        return self.directory / "procview.toml"

    def start(self, *, ready: bool = True, options: Sequence[str] = (), **environment: str) -> "Daemon":
        """Start a daemon; with ``ready`` wait until it serves. ``environment`` is added to ours."""
        log = self.directory / f"log{len(self.started)}"
        if not self.config.exists():
            self.config.write_text(paced_settings(), encoding="utf-8")
        argv = [sys.executable, "-m", "procview", "serve", "--run-directory", str(self.run_directory)]
        argv += ["--config", str(self.config), *lane.options(), *options]
        with log.open("wb") as output:
            process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                                       env=environment_with_modules() | environment)  # fmt: skip
        daemon = Daemon(process, log)
        self.started.append(daemon)
        if ready:
            daemon.says("serving ")
        return daemon

    def owner(self) -> int:
        """Wait for the pid in the lock: a successor takes it a moment after its predecessor has gone."""
        lock = self.run_directory / "lock"
        eventually(lambda: lock.exists() and lock.read_text().strip(), "the lock's owner")
        return int(lock.read_text())

    def crash(self) -> "Daemon":
        """Start a daemon, and kill it together with its guard, so that its views stay."""
        daemon = self.start()
        guard = daemon.guard()
        assert guard is not None
        guard.suspend()
        daemon.process.kill()
        daemon.process.wait()
        guard.kill()
        guard.wait(DEADLINE_SECONDS)
        assert self.ours()
        return daemon

    def clean_up(self) -> None:
        """End every daemon and its guard, and take away every mount below the folder."""
        for daemon in self.started:
            guard = daemon.guard()
            if daemon.process.poll() is None:
                daemon.process.kill()
            daemon.process.wait()
            if guard is not None:
                with contextlib.suppress(psutil.TimeoutExpired):
                    guard.wait(DEADLINE_SECONDS)
        for entry in reversed(mount_table()):
            if Path(entry.path).is_relative_to(self.directory):
                with contextlib.suppress(OSError):
                    detach(entry.path)

    def ours(self) -> list[str]:
        """Where file systems of procview are mounted below the folder."""
        return [entry.path for entry in mount_table() if entry.ours and Path(entry.path).is_relative_to(self.directory)]


@dataclass
class Daemon:
    process: subprocess.Popen[bytes]
    log: Path

    def guard(self) -> psutil.Process | None:
        """The process that takes the views away if the daemon does not."""
        try:
            children = psutil.Process(self.process.pid).children()
            return next((child for child in children if "procview.guard" in child.cmdline()), None)
        except psutil.Error:
            return None

    @property
    def said(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def says(self, words: str) -> None:
        """Wait until its log has ``words``."""
        eventually(lambda: words in self.said or self.process.poll() is not None, words)
        assert words in self.said, f"ended with {self.process.returncode}: {self.said}"

    def ends(self) -> int:
        """Wait for its end; its exit code."""
        return self.process.wait(DEADLINE_SECONDS)

    def stop(self) -> None:
        """SIGTERM, and a good end."""
        self.process.send_signal(signal.SIGTERM)
        assert self.ends() == 0, self.said


@pytest.fixture
def place() -> Iterator[Place]:
    here = Place(new_directory())
    try:
        yield here
    finally:
        here.clean_up()
        remove_directory(here.directory)


def is_mounted(path: Path) -> bool:
    return top_mount(str(path)) is not None
