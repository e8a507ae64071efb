"""A supervisor as a process, with all that it starts, and none of it left afterwards."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.daemon.process import DEADLINE_SECONDS, eventually

ROOT = Path(__file__).parents[2]
KEEPER = (sys.executable, "-m", "tests.supervise.keeper")


@dataclass
class Supervised:
    """A supervisor and its children, with files in ``directory``."""

    directory: Path
    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    log_directory: Path | None = None
    """Where it is another one."""

    @classmethod
    def keeper(cls, directory: Path, options: dict[str, object], *command: str, **environment: str) -> "Supervised":
        """Of tests.supervise.keeper, or another ``command``; with the options of procview.supervisor.options."""
        words = [sys.executable, "-m", "tests.supervise.runner", json.dumps(options), str(directory / "broken")]
        return cls(directory, [*words, *(command or (*KEEPER, str(directory)))], environment)

    def start(self) -> "Supervised":
        self.log = (self.log_directory or self.directory) / "supervisor.log"
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                                            cwd=ROOT, env=os.environ | self.environment)  # fmt: skip
        self._ours = psutil.Process(self.process.pid)
        return self

    @property
    def pid(self) -> int:
        return self.process.pid

    def lines(self, file: str) -> list[list[str]]:
        """The words of each line that the keepers have written to ``file``."""
        try:
            text = (self.directory / file).read_text()
        except FileNotFoundError:
            return []
        return [line.split() for line in text.splitlines() if text.endswith("\n")]

    def starts(self, count: int) -> list[list[str]]:
        """Wait for so many starts; all of them."""
        eventually(lambda: len(self.lines("starts")) >= count, f"{count} starts: {self.said}")
        return self.lines("starts")

    def known(self) -> set[int]:
        """The pids of those that have served."""
        return {int(line[0]) for line in self.lines("starts")}

    def main(self) -> int:
        """The pid of the last one that started."""
        return int(self.lines("starts")[-1][0])

    def kill_main(self) -> None:
        os.kill(self.main(), signal.SIGKILL)

    def children(self) -> list[psutil.Process]:
        found: list[psutil.Process] = []
        with contextlib.suppress(psutil.NoSuchProcess):
            found = self._ours.children(recursive=True)
        return sorted(found, key=psutil.Process.create_time)  # numbers are used again, and begin anew

    def waiting(self) -> list[psutil.Process]:
        """The children that wait for a word, the one that was executed first, and what it has forked."""
        known, found = self.known(), []
        for child in self.children():
            with contextlib.suppress(psutil.Error):
                if child.pid not in known and child.ppid() == self.pid and waits(child.pid):
                    found.append(child)
        return found

    def warm(self) -> psutil.Process:
        """Wait for a standby that says that it is one."""
        return self.all_warm(1)[0]

    def all_warm(self, count: int = 2) -> list[psutil.Process]:
        """Wait for so many."""
        found: list[psutil.Process] = []

        def there_are() -> bool:
            found[:] = self.waiting()
            return len(found) >= count

        eventually(there_are, f"{count} standbys: {self.said}")
        return found

    @property
    def said(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def says(self, words: str, count: int = 1) -> None:
        eventually(lambda: self.said.count(words) >= count, f"{words!r} in {self.said}")

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def ends(self) -> int:
        return self.process.wait(DEADLINE_SECONDS)

    def clean_up(self) -> None:
        left = self.children()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        left += [one for line in self.lines("starts") if (one := _is_keeper(int(line[0]), self.directory)) is not None]
        end_all(left)


def end_all(processes: list[psutil.Process]) -> None:
    """Kill them. Whoever inherits them may take a while to bury them."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill()
    eventually(lambda: all(map(has_ended, processes)), "the end of all processes")


def has_ended(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _is_keeper(pid: int, directory: Path) -> psutil.Process | None:
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        return process if str(directory) in process.cmdline() else None
    return None


def waits(pid: int) -> bool:
    """Whether it blocks in recvmsg(2), as a standby does."""
    try:
        return "unix_stream_read" in (wchan := Path(f"/proc/{pid}/wchan").read_text()) or "skb_wait" in wchan
    except OSError:
        return False
