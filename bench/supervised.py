"""``procview supervise`` for a measurement, and a reader that is timed while something happens to its daemon."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.compile import CHECKOUT
from bench.private import die_with_parent
from bench.servers import ServerFailedError
from procview.lock import holder
from procview.settings import Settings
from procview.slots.publish import published, withdraw
from procview.slots.skeleton import Skeleton
from procview.supervisor.options import Options

START_SECONDS = 60.0


class Supervised:
    """``procview supervise``, and the daemon that serves under it."""

    def __init__(self, process: "subprocess.Popen[bytes]", run_directory: Path, log: Path, slow: float) -> None:
        self.process = process
        self.skeleton = Skeleton(str(run_directory))
        self.mount = run_directory / "fs"
        self.log = log
        self.slow = slow
        """How many times longer than elsewhere things take on this machine."""

    def daemon(self, than: int = 0) -> int:
        """Wait for the pid of a daemon that is another one than ``than``. Raises ServerFailedError."""
        deadline = time.monotonic() + START_SECONDS * self.slow
        while True:
            owner = holder(self.skeleton.lock)
            if owner is not None and owner.pid not in (None, than):
                return int(owner.pid or 0)
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise ServerFailedError(f"there is no daemon: {self.last_words()}")
            time.sleep(0.002)

    def wait_until_served(self) -> None:
        deadline = time.monotonic() + START_SECONDS * self.slow
        while "proc/uptime" not in published(self.skeleton) or b"serving" not in self.log.read_bytes():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise ServerFailedError(f"it does not serve: {self.last_words()}")
            time.sleep(0.02)

    def last_words(self) -> str:
        return " | ".join(self.log.read_text(errors="replace").splitlines()[-5:]) or "(it said nothing)"


@contextmanager
def supervised(
    work: Path,
    takeover_seconds: float | None,
    program: Sequence[str] = (sys.executable, "-m", "procview"),
    *,
    slow: float = 1.0,
) -> Iterator[Supervised]:
    """``program`` is what runs it. It is ended, and its slots are taken down, whatever happens."""
    run_directory, log = work / "run", work / "log"
    config = work / "procview.toml"
    seconds = {"takeover_seconds": takeover_seconds}
    if slow != 1:
        usual = Settings()
        seconds["hang_seconds"] = usual.hang_seconds * slow
        seconds["takeover_seconds"] = takeover_seconds or usual.takeover_seconds * slow
    lines = [f"{name} = {value}\n" for name, value in seconds.items() if value is not None]
    config.write_text("".join(lines), encoding="utf-8")
    command = [*program, "supervise", "--steady-seconds", "0"]
    if slow != 1:
        command += ["--watchdog-seconds", str(Options().watchdog_seconds * slow)]
    command += ["--run-directory", str(run_directory), "--config", str(config)]
    environment = {key: value for key, value in os.environ.items() if key not in ("NOTIFY_SOCKET", "WATCHDOG_USEC")}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=CHECKOUT, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            preexec_fn=die_with_parent,
        )  # fmt: skip
    found = Supervised(process, run_directory, log, slow)
    try:
        found.wait_until_served()
        yield found
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        withdraw(found.skeleton)
        found.skeleton.remove()


class Timed(threading.Thread):
    """Reads one file without a pause, until told to end."""

    def __init__(self, path: Path, slow: float = 1.0) -> None:
        super().__init__(daemon=True)
        self._path = path
        self._patience_seconds = START_SECONDS * slow
        self._over = threading.Event()
        self._begun = time.monotonic()
        self._longest = 0.0
        self.reads = 0
        self.errors: dict[str, int] = {}

    def run(self) -> None:
        while not self._over.is_set():
            self._begun = time.monotonic()
            try:
                self._path.read_bytes()
            except OSError as error:
                name = error.strerror or str(error)
                self.errors[name] = self.errors.get(name, 0) + 1
            self._longest = max(self._longest, time.monotonic() - self._begun)
            self.reads += 1
            time.sleep(0.001)

    def longest_seconds(self) -> float:
        """Of the reads since the last call, that under way included."""
        longest, self._longest = max(self._longest, time.monotonic() - self._begun), 0.0
        return longest

    def wait_for(self, reads: int) -> None:
        """Until it has read so often. Raises ServerFailedError."""
        deadline = time.monotonic() + self._patience_seconds
        while self.reads < reads:
            if time.monotonic() > deadline:
                raise ServerFailedError(f"a reader waits for {self._patience_seconds:.0f} s")
            time.sleep(0.002)

    def end(self) -> None:
        self._over.set()
        self.join(START_SECONDS)
