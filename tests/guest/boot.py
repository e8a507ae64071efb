"""One guest from its start to its end: its disks, its folders, QEMU; and nothing of it afterwards."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from tests import session
from tests.guest import job
from tests.guest.folders import WITH_US, other_root, shared_folder, shared_root
from tests.guest.initramfs import initramfs
from tests.guest.kernels import CACHE, kernel
from tests.guest.machine import STORAGE_MIB, Machine, command_line

_CHECKOUT = Path(__file__).parents[2]
_LAST_LINES = 30
_MONITOR_SECONDS = 15.0
_SIGN_SECONDS = 600.0
"""In which a guest gives a sign of life that it is to give: several times what an emulated one needs on a busy machine.
One in hundreds hangs before, on the emulator, and says nothing.
"""


@dataclass(frozen=True)
class End:
    """How a guest has ended."""

    status: int | None
    """What the command ended with; None if it did not."""
    in_time: bool
    """Whether it ended by itself. One that gives no sign of life counts as one that has died."""
    seconds: float
    output: str
    """Of the command; empty if it had our own standard output."""
    console: str
    """What the kernel and the init said; and of one without a sign of life, where its processors were."""

    @property
    def died(self) -> bool:
        """The guest itself, whatever the command was doing: nothing is known about the command then."""
        return self.status is None and self.in_time

    def last_words(self) -> str:
        """The first line of what the console said, which for a kernel is what it died of."""
        return next((line for line in self.console.splitlines() if line.strip()), "it said nothing")

    def why(self) -> str:
        """For an error message, with what was said last."""
        if self.status is not None:
            what = f"the command in the guest ended with status {self.status}"
        elif self.in_time:
            what = "the guest died"
        else:
            what = f"the guest was stopped after {self.seconds:.0f} seconds"
        said = {"command": self.output, "console": self.console}
        return "\n".join([what, *(f"--- {name}\n{_last(text)}" for name, text in said.items() if text)])


def _make_session_nice(pid: int, niceness: int) -> None:
    """The session of a process as nice as the process is: where the kernel groups tasks by sessions, nice(1) counts
    within one only (sched(7), autogroup).
    """
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/autogroup").write_text(f"{niceness}\n", encoding="ascii")


def boot(
    machine: Machine,
    command: Sequence[str],
    shared: Path,
    *,
    seconds: float,
    environment: Mapping[str, str] | None = None,
    root: Path | None = None,
    ours: bool = False,
    meanwhile: Callable[[], object] = lambda: None,
    niceness: int = 0,
    sign: Path | None = None,
) -> End:
    """Boot a guest, run ``command`` in it as root in our working directory, and wait for the end of both.

    Its root is this machine's own, or the tree below ``root``, which knows nothing of us; the directory is / there.

    ``shared`` is a folder for this guest, or for one after another, which has it at job.INSIDE; what is written
    anywhere else in the guest is gone. With ``ours`` the command prints to our standard output, and has our terminal if
    there is one. ``meanwhile`` is called several times a second, and may end the guest by an exception. ``niceness`` is
    that of nice(1). ``sign`` is a file in ``shared`` that the command writes soon: a guest without it has hung.
    """
    terminal = ours and sys.stdin.isatty()
    chosen = kernel(machine.kernel)
    modules = chosen.modules
    if root is not None:
        modules = Path("/lib/modules", chosen.release)
        (root / modules.relative_to("/")).mkdir(parents=True, exist_ok=True)  # something is bound over it
    for_init = {"layout": machine.layout, "modules": str(modules)}
    for_init |= {"interactive": "1"} if terminal else {}
    for_init |= {"systemd": "1 fstab=no systemd.gpt_auto=no"} if machine.systemd else {}
    needed = [_CHECKOUT, CACHE, Path(sys.prefix), Path(sys.base_prefix), Path(sysconfig.get_path("platlib"))]
    job.write_job(shared, command, environment or {}, os.getcwd() if root is None else "/", terminal=terminal)
    start = time.monotonic()
    with contextlib.ExitStack() as stack:
        stack.enter_context(interrupted_by_signals())
        directory = stack.enter_context(session.temporary_directory())
        output, console, archive, errors = (directory / name for name in ("output", "console", "initramfs", "errors"))
        archive.write_bytes(initramfs(chosen))
        folders = [
            stack.enter_context(
                shared_root(directory, needed)
                if root is None
                else other_root(directory, root, {modules: chosen.modules})
            ),
            stack.enter_context(shared_folder(directory, shared)),
        ]
        channel = "stdio,signal=off" if ours else f"file,path={output}"
        argv = command_line(machine, chosen, archive, folders, _disks(machine, directory), console, channel, for_init)
        monitor = directory / "monitor"
        argv += ["-monitor", f"unix:{monitor},server=on,wait=off"]
        with errors.open("wb") as opened:
            process = subprocess.Popen(
                [*WITH_US, "nice", "-n", str(niceness), *argv],
                stdin=None if terminal else subprocess.DEVNULL,
                stdout=None if ours else opened,
                stderr=opened,
                start_new_session=not terminal,  # or an interrupt from the keyboard would reach it before us
            )
        if niceness and not terminal:
            _make_session_nice(process.pid, niceness)
        where = ""
        try:
            while process.poll() is None and not where and time.monotonic() - start < seconds:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(0.1)
                meanwhile()
                if sign is not None and time.monotonic() - start > _SIGN_SECONDS and not sign.exists():
                    where = f"no sign of life for {_SIGN_SECONDS:.0f} s\n{_processors(monitor)}"
            in_time = process.poll() is not None or bool(where)
        finally:
            process.kill()
            process.wait()
        meanwhile()
        return End(
            job.status(shared),
            in_time,
            time.monotonic() - start,
            _text(output),
            where + _text(console) + _text(errors),
        )


def _processors(monitor: Path) -> str:
    """Where QEMU's processors are, by their registers: the kernel is where its System.map says (nokaslr)."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_MONITOR_SECONDS)
            connection.connect(str(monitor))
            connection.sendall(b"info cpus\ninfo registers -a\ninfo status\n")
            said = b""
            with contextlib.suppress(TimeoutError):
                while piece := connection.recv(65536):
                    said += piece
    except OSError as error:
        return f"QEMU does not say where it is: {error}\n"
    lines = said.decode("utf-8", "replace").replace("\r", "").splitlines()
    return "".join(f"{line}\n" for line in lines if re.match(r"CPU#|RIP=|VM status", line))


def _disks(machine: Machine, directory: Path) -> dict[str, Path]:
    """Images by serial number: what init.c puts to use, and what it leaves to the command."""
    sizes = {"storage": STORAGE_MIB, "swap": machine.swap_mib}
    sizes |= {f"disk{number}": size for number, size in enumerate(machine.disks_mib, 1)}
    made = {}
    for serial, size in sizes.items():
        if size:
            made[serial] = directory / f"{serial}.image"
            with made[serial].open("wb") as image:
                image.truncate(size << 20)
    _quietly("mkfs.ext4", "-q", "-E", "lazy_itable_init=1,lazy_journal_init=1", "-m", "0", str(made["storage"]))
    if "swap" in made:
        _quietly("mkswap", str(made["swap"]))
    return made


def _quietly(*argv: str) -> None:
    result = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise RuntimeError(f"{argv[0]}: status {result.returncode}\n{result.stdout}{result.stderr}")


@contextlib.contextmanager
def interrupted_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end us as an interrupt from the keyboard does, so that everything is taken away."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt(signal.strsignal(number))

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace").replace("\r", "")
    except FileNotFoundError:
        return ""


def _last(text: str) -> str:
    return "\n".join(text.rstrip().splitlines()[-_LAST_LINES:])
