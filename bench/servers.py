"""The file systems that are compared: started, found to be serving, pinned, weighed, and stopped again.

Each serves on a mount below the benchmark's working directory. Touches only the processes started here.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench import lxcfs
from bench.compile import CHECKOUT, compiled
from bench.files import FILES
from bench.private import die_with_parent
from procview.fs.transport import SWITCH
from procview.slots.publish import withdraw
from procview.slots.skeleton import Skeleton

KERNEL, FLOOR, LXCFS, OURS, RING, PYFUSE3 = "kernel", "floor", "lxcfs", "ours", "ring", "pyfuse3"
START_TIMEOUT_S = 30
STOP_TIMEOUT_S = 10
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class ServerFailedError(Exception):
    """A server did not start, or went away: with what it said."""


@dataclass(frozen=True)
class Server:
    name: str
    command: str
    mount: Path
    process: psutil.Process
    own_cpus: dict[int, set[int]]
    """By thread: where it ran when it had just started. A ring's thread is bound to a CPU of its own."""

    def source(self, file: str) -> Path | None:
        """Where it serves the file; None when it does not."""
        path = self.mount / FILES[file]
        return path if path.exists() else None

    def pin(self, cpus: Sequence[int]) -> None:
        """Run on these CPUs only, with every thread it has (those it starts later inherit it)."""
        for thread in self._threads():
            with suppress(ProcessLookupError):
                os.sched_setaffinity(thread, cpus)

    def unpin(self, cpus: Sequence[int]) -> None:
        """Run where its threads want to, those without a wish on ``cpus``."""
        for thread in self._threads():
            with suppress(ProcessLookupError):
                os.sched_setaffinity(thread, self.own_cpus.get(thread, cpus))

    def resident_bytes(self) -> int:
        return sum(int(process.memory_info().rss) for process in self._tree())

    def cpu_seconds(self) -> float:
        """User and system time so far (utime + stime of /proc/<pid>/stat)."""
        times = [process.cpu_times() for process in self._tree()]
        return sum((float(t.user + t.system) for t in times), 0.0)

    def _threads(self) -> list[int]:
        return [thread.id for process in self._tree() for thread in process.threads()]

    def _tree(self) -> list[psutil.Process]:
        return [self.process, *self.process.children(recursive=True)]


@contextmanager
def floor(work: Path) -> Iterator[Server]:
    mount = _mount_point(work, FLOOR)
    with _serving(FLOOR, [str(compiled("floor")), str(mount), *FILES.values()], mount) as server:
        yield server


@contextmanager
def lxcfs_server(work: Path) -> Iterator[Server]:
    """lxcfs with load averages on, since ours has them, too. It mounts cgroups in a mount namespace it makes."""
    program = lxcfs.program()
    mount = _mount_point(work, LXCFS)
    command = [str(program), "--foreground", "--enable-loadavg", f"--pidfile={work / 'lxcfs.pid'}", str(mount)]
    environment = {**os.environ, "LD_LIBRARY_PATH": str(lxcfs.library_dir())}
    with _serving(LXCFS, command, mount, environment) as server:
        yield server


@contextmanager
def ours(work: Path, arguments: Sequence[str] = (), *, name: str = OURS, slots: bool = False) -> Iterator[Server]:
    """The daemon as it is by default; without slots, there is no guard."""
    mount = _mount_point(work, name)
    config = work / f"{name}.toml"
    base = work / f"run-{name}"
    config.write_text(f'slots = {str(slots).lower()}\nrun_directory = "{base}"\n', encoding="utf-8")
    command = [sys.executable, "-m", "procview", "serve", "--mount", str(mount), "--config", str(config), *arguments]
    # Nobody's watchdog: it would be fed.
    environment = {key: value for key, value in os.environ.items() if key not in ("NOTIFY_SOCKET", "WATCHDOG_USEC")}
    try:
        with _serving(name, command, mount, environment) as server:
            yield server
    finally:
        if slots:
            skeleton = Skeleton(str(base))
            withdraw(skeleton)
            skeleton.remove()


def run_directory(server: Server) -> Path:
    """Of a daemon that :func:`ours` has started."""
    return server.mount.parent.parent / f"run-{server.name}"


def pyfuse3_alone(work: Path) -> AbstractContextManager[Server]:
    """The same daemon without its fast lane."""
    return ours(work, ["--no-lane"], name=PYFUSE3)


@contextmanager
def ours_by_ring(work: Path) -> Iterator[Server]:
    """The same daemon on rings of io_uring, which the kernel has to offer meanwhile."""
    try:
        before = SWITCH.read_text(encoding="ascii")
        SWITCH.write_text("Y", encoding="ascii")
    except OSError as error:
        raise ServerFailedError(f"{RING}: {SWITCH}: {error.strerror}") from error
    try:
        with ours(work, ["--transport", "uring"], name=RING) as server:
            yield server
    finally:
        SWITCH.write_text(before, encoding="ascii")


def _mount_point(work: Path, name: str) -> Path:
    mount = work / "mount" / name
    mount.mkdir(parents=True)
    return mount


@contextmanager
def _serving(name: str, command: list[str], mount: Path, environment: dict[str, str] | None = None) -> Iterator[Server]:
    log_path = mount.parent.parent / f"{name}.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=CHECKOUT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            preexec_fn=die_with_parent,  # interrupted in here, nobody would know of it
        )
    try:
        _wait_until_served(name, process, mount, log_path)
        started = psutil.Process(process.pid)
        own_cpus = {thread.id: os.sched_getaffinity(thread.id) for thread in started.threads()}
        yield Server(name, " ".join(command), mount, started, own_cpus)
        if process.poll() is not None:
            raise ServerFailedError(
                f"{name} ended with status {process.returncode} during the run: {_last_lines(log_path)}"
            )
    finally:
        _stop(process, mount)


def _wait_until_served(name: str, process: "subprocess.Popen[bytes]", mount: Path, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not os.path.ismount(mount):
        if process.poll() is not None:
            raise ServerFailedError(f"{name} ended with status {process.returncode} at start: {_last_lines(log)}")
        if time.monotonic() > deadline:
            raise ServerFailedError(f"{name} did not mount within {START_TIMEOUT_S} s: {_last_lines(log)}")
        time.sleep(0.02)
    # The first look-ups and the first read are part of the start, not of what is measured.
    (mount / FILES["meminfo"]).read_bytes()


def _stop(process: "subprocess.Popen[bytes]", mount: Path) -> None:
    process.terminate()
    try:
        process.wait(timeout=STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    # A mount whose server was killed stays; it must not be in the way of removing the working directory.
    if os.path.ismount(mount) or not os.access(mount, os.F_OK):
        subprocess.run(["umount", "--lazy", mount], check=False, capture_output=True)


def _last_lines(log: Path) -> str:
    return " | ".join(log.read_text(errors="replace").splitlines()[-5:]) or "(it said nothing)"
