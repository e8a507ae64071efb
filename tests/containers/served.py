"""A daemon of its own for tests: ``python -m procview serve`` on a run directory that only they know."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from procview.mount_namespace import VARIABLE
from tests import session
from tests.lane import options as lane_options
from tests.session import mounts
from tests.timing import paced_settings, patient

_SECONDS = patient(30)


def shut_in() -> list[str]:
    """A tracer: the daemon has a mount namespace of its own, as a service manager gives it, and is to mount in ours."""
    variable = f"{VARIABLE}=/proc/{os.getpid()}/ns/mnt"
    return ["unshare", "--mount", "--propagation", "slave", "--", "env", variable]


@dataclass
class Daemon:
    """One daemon, or one after the other, in ``directory``."""

    directory: Path
    process: subprocess.Popen[bytes]
    lane: str | None
    tracer: Sequence[str] = ()

    @classmethod
    def start(
        cls, directory: Path, configuration: str = "", tracer: Sequence[str] = (), lane: str | None = None
    ) -> "Daemon":
        """Start one and wait until its views are published; ``tracer`` runs it as our child. ``lane`` is one of
        tests.lane.MODES; None: as this run is told to.
        """
        (directory / "config.toml").write_text(paced_settings() + configuration, encoding="utf-8")
        return cls(directory, _serve(directory, tracer, lane), lane, tracer)

    @property
    def run_directory(self) -> Path:
        return self.directory / "run"

    @property
    def mount(self) -> Path:
        return self.run_directory / "fs"

    @property
    def log(self) -> Path:
        return self.directory / "log"

    @property
    def options(self) -> list[str]:
        """For every command of procview that is to find it."""
        return ["--run-directory", str(self.run_directory), "--config", str(self.directory / "config.toml")]

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run ``procview`` with these words, to its end; the options have to be among them."""
        return subprocess.run(
            [sys.executable, "-m", "procview", *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )

    def attach(self, pid: int) -> None:
        """Put the views into the running container of this process."""
        self._to_container("attach", pid)

    def detach(self, pid: int) -> None:
        self._to_container("detach", pid)

    def _to_container(self, verb: str, pid: int) -> None:
        result = self.command(verb, "--pid", str(pid), "--run-directory", str(self.run_directory))
        assert result.returncode == 0, f"{result.stdout}{result.stderr}"

    def is_mounted(self) -> bool:
        return any(mount.point == self.mount for mount in mounts())

    def said(self) -> str:
        """Its log."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def listens(self) -> "Daemon":
        """Wait for its control socket, which comes after the views."""
        deadline = time.monotonic() + _SECONDS
        while not (self.run_directory / "control.sock").exists():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.01)
        return self

    def descriptors(self) -> int:
        """How many files it has open."""
        return sum(1 for _ in Path(f"/proc/{self.process.pid}/fd").iterdir())

    def counters(self) -> dict[str, int]:
        """What it counts now, as it logs that on SIGUSR1."""
        before = self.log.stat().st_size
        self.process.send_signal(signal.SIGUSR1)
        deadline = time.monotonic() + _SECONDS
        while not (line := re.search(rb"rss_bytes=.*\n", _after(self.log, before))):
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.01)
        return {name: int(value) for name, value in re.findall(r"(\S+)=([0-9]+)(?= |\n)", line[0].decode())}

    def terminate(self) -> None:
        """End it as a service manager would. The slots stay."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(patient(20))
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        assert self.process.returncode == 0, f"status {self.process.returncode}:\n{self.said()}"
        assert not self.is_mounted(), f"still mounted:\n{self.said()}"

    def kill(self) -> None:
        """SIGKILL: it has no chance to do anything."""
        self.process.kill()
        self.process.wait(patient(20))

    def hang(self) -> None:
        """SIGSTOP: it is there, and answers nothing any more."""
        self.process.send_signal(signal.SIGSTOP)

    def start_again(self) -> None:
        """Start another one in its place, whatever became of it."""
        if self.process.poll() is None:
            self.kill()
        self.process = _serve(self.directory, self.tracer, self.lane)

    def stop(self) -> None:
        """End it, and see that it goes without a trace."""
        try:
            if self.process.poll() is None:
                self.process.send_signal(signal.SIGCONT)
                self.terminate()
        finally:
            removed = self.command("withdraw", "--remove", *self.options)
        assert removed.returncode == 0, f"{removed.stdout}{removed.stderr}"
        assert not self.run_directory.exists(), f"{list(self.run_directory.rglob('*'))}"


@contextmanager
def serving(configuration: str = "") -> Iterator[Daemon]:
    """One in a directory of its own, which goes without a trace."""
    with session.temporary_directory() as directory:
        daemon = Daemon.start(directory, configuration)
        try:
            yield daemon
        finally:
            daemon.stop()


def _serve(directory: Path, tracer: Sequence[str], lane: str | None) -> subprocess.Popen[bytes]:
    argv = [*tracer, sys.executable, "-m", "procview", "serve", "--run-directory", f"{directory}/run"]
    argv += ["--config", f"{directory}/config.toml", *lane_options(lane)]
    log = directory / "log"
    with log.open("ab") as output:
        before = output.tell()
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    deadline = time.monotonic() + _SECONDS
    while b"serving " not in (said := _after(log, before)):
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            process.wait()
            raise RuntimeError(f"the daemon does not serve, status {process.returncode}:\n{os.fsdecode(said)}")
        time.sleep(0.01)
    return process


def _after(file: Path, position: int) -> bytes:
    with file.open("rb") as opened:
        opened.seek(position)
        return opened.read()
