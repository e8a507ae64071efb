"""``./dev demo``: a container and its host, side by side; then the daemon dies, and comes back; then it is killed again
and again under ``procview supervise``, and a reader does not notice.

The views get into the container by the hook, as with any engine.
"""

import itertools
import os
import platform
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

from procview.lock import holder
from tests import lane, session
from tests.containers import engines
from tests.containers.cgroups import Limits
from tests.containers.engines import Container
from tests.containers.rootfs import Rootfs, environment
from tests.containers.served import Daemon

MEMORY_BYTES = 512 << 20
SWAP_BYTES = 64 << 20
COMMANDS = (
    "free -m",
    "nproc --all",
    "uptime",
    "top -bn1 | head -5",
    "lscpu | head",
    "cat /proc/partitions",
)
KILLS = 20
READS = """
reads=0 failed=0 over=
trap over=1 USR1
exec 3<&0
(read -r _ <&3; kill -USR1 $$) &
while [ -z "$over" ]; do
    [ "$(cat /proc/meminfo | head -1)" = "MemTotal:         524288 kB" ] || failed=$((failed + 1))
    reads=$((reads + 1))
done
echo "while cat /proc/meminfo: $reads times, failures: $failed"
"""
"""A failure is whatever does not show the container's own memory: an error, or the host's."""
_GAP = " │ "
_NARROWEST_COLUMN = 60
_WIDEST_COLUMN = 86


def _host_has_swap() -> bool:
    return len(Path("/proc/swaps").read_text(encoding="utf-8").splitlines()) > 1


def _limits() -> Limits:
    last = max(os.sched_getaffinity(0))
    return Limits(
        memory_bytes=MEMORY_BYTES,
        swap_bytes=SWAP_BYTES if _host_has_swap() else None,
        cpuset=str(last),
        cpus=1.0,
    )


class Page:
    """Prints two columns where the terminal is wide enough for them, and one below the other where it is not."""

    def __init__(self, width: int, *, colour: bool) -> None:
        self._column = min((width - len(_GAP)) // 2, _WIDEST_COLUMN)
        self._stacked = self._column < _NARROWEST_COLUMN
        self._width = min(width, 100) if self._stacked else 2 * self._column + len(_GAP)
        self._colour = colour

    def _paint(self, code: str, text: str) -> str:
        return f"\033[{code}m{text}\033[0m" if self._colour else text

    def heading(self, text: str) -> str:
        return self._paint("1;36", text)

    def say(self, text: str) -> None:
        print(text, flush=True)

    def title(self, left: str, right: str) -> None:
        if not self._stacked:
            print("\n" + self._paint("1;36", left.ljust(self._column)) + _GAP + self._paint("1;33", right))

    def section(self, command: str, left: str, right: str) -> None:
        """What one command says in the container (left) and on the host (right)."""
        print(
            self._paint("2", "─" * 3)
            + " "
            + self._paint("1", command)
            + " "
            + self._paint("2", "─" * (self._width - len(command) - 5))
        )
        if self._stacked:
            for name, colour, text in (("container", "1;36", left), ("host", "1;33", right)):
                print(self._paint(colour, name))
                print("\n".join(f"  {line[: self._width - 2]}" for line in _lines(text)))
        else:
            for row in itertools.zip_longest(_lines(left), _lines(right), fillvalue=""):
                first, second = (_cut(line, self._column) for line in row)
                print((first.ljust(self._column) + self._paint("2", _GAP) + second).rstrip())
        print(flush=True)

    def alone(self, title: str, command: Sequence[str], result: subprocess.CompletedProcess[str]) -> None:
        """What one command says in the container, and its status."""
        print(self.heading(title))
        print(self._paint("2", "─" * 3) + " " + self._paint("1", shlex.join(command)))
        print(_said(result) + self._paint("2", f"rc {result.returncode}"), end="\n\n", flush=True)


def _lines(text: str) -> list[str]:
    """The lines that are not blank, without gaps that only cost width: empty columns, and the padding after commas."""
    lines = [re.sub(", +", ", ", line.rstrip()) for line in text.splitlines() if line.strip()]
    width = max(map(len, lines), default=0)
    used = {column for line in lines for column, letter in enumerate(line) if letter != " "}
    kept = [column for column in range(width) if used.intersection(range(column - 2, column + 1))]
    return ["".join(line[column] for column in kept if column < len(line)) for line in lines]


def _cut(line: str, width: int) -> str:
    return line if len(line) <= width else line[: width - 1] + "…"


def _show(page: Page, undo: ExitStack) -> None:
    directory = undo.enter_context(session.temporary_directory())
    page.say("procview: starting its daemon on a temporary run directory ...")
    daemon = Daemon.start(directory)
    undo.callback(daemon.stop)
    limits = _limits()
    swap = f", {SWAP_BYTES >> 20} MiB of swap" if limits.swap_bytes else ""
    page.say(f"runc: a container with {MEMORY_BYTES >> 20} MiB of memory{swap}, on CPU {limits.cpuset} only,")
    hook = engines.Hook.create(directory, daemon.run_directory)
    page.say(f"      and with {hook.program.name} as its {hook.stage} hook ...")
    rootfs = Rootfs.create(directory / "rootfs")
    container = undo.enter_context(engines.RUNC.start(rootfs, limits, views=hook))
    page.title("inside the container", "on the host")
    for command in COMMANDS:
        script = ["sh", "-c", command]
        host = subprocess.run(script, capture_output=True, text=True, env=environment({}), timeout=30, check=False)
        page.section(command, _said(container.run(script)), _said(host))
    _show_degradation(page, daemon, container)
    _show_takeover(page, daemon, container)


def _show_degradation(page: Page, daemon: Daemon, container: Container) -> None:
    """The same container while its daemon is dead, and when there is one again."""
    command = ["free", "-m"]
    pid = daemon.process.pid
    daemon.kill()
    deadline = time.monotonic() + 10
    while (result := container.run(command)).returncode != 0 or _total_mib(result.stdout) <= MEMORY_BYTES >> 20:
        if time.monotonic() > deadline:
            raise RuntimeError("the container does not show the host's values, though the daemon is dead")
    page.alone(f"kill -9 {pid}: the daemon is dead; the same container", command, result)
    daemon.start_again()
    page.alone("the daemon is started again; the same container", command, container.run(command))


def _show_takeover(page: Page, daemon: Daemon, container: Container) -> None:
    """The same container, whose daemon has somebody now who keeps its connection for the next one."""
    if not lane.continues():
        page.say(f"(this is Linux {platform.release()}: {lane.WHY_NOT_CONTINUED})")
        return
    daemon.terminate()
    argv = [sys.executable, "-m", "procview", "supervise", "--steady-seconds", "0", *daemon.options]
    with daemon.log.open("ab") as log:
        supervisor = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        pid = _next_daemon(daemon, 0)
        while _total_mib(container.run(["free", "-m"]).stdout) > MEMORY_BYTES >> 20:
            time.sleep(0.05)
        reader = container.popen(["sh", "-c", READS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(KILLS):
            time.sleep(1)  # readers have something to read in between
            os.kill(pid, signal.SIGKILL)
            pid = _next_daemon(daemon, pid)
        said, _ = reader.communicate("stop\n", timeout=30)
        page.say(page.heading(f"{KILLS} times kill -9, under procview supervise; the same container, all the time"))
        page.say(said)
    finally:
        supervisor.terminate()
        supervisor.wait(30)


def _next_daemon(daemon: Daemon, than: int) -> int:
    """Wait for another daemon than ``than``; its pid."""
    deadline = time.monotonic() + 30
    while (owner := holder(f"{daemon.run_directory}/lock")) is None or owner.pid in (None, than):
        if time.monotonic() > deadline:
            raise RuntimeError(f"there is no daemon any more:\n{daemon.said()}")
        time.sleep(0.005)
    return int(owner.pid or 0)


def _total_mib(free: str) -> int:
    return int(free.splitlines()[1].split()[1])


def _said(result: subprocess.CompletedProcess[str]) -> str:
    return result.stdout + result.stderr


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> int:
    """Run it; whatever happens, nothing of it is left."""
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGHUP, _interrupt)
    os.environ[session.VARIABLE] = session.SESSION
    before = session.leftovers()
    page = Page(shutil.get_terminal_size(fallback=(160, 24)).columns, colour=sys.stdout.isatty())
    status = 0
    try:
        with ExitStack() as undo:
            _show(page, undo)
    except KeyboardInterrupt:
        page.say("interrupted")
        status = 130
    except BrokenPipeError:  # as with ./dev demo | head
        sys.stdout = sys.stderr
        status = 1
    left = session.leftovers().since(before)
    for line in left:
        print(f"left behind: {line}", file=sys.stderr)
    page.say("cleaned up: no mount, no container, no process is left." if not left else "")
    return status or bool(left)


if __name__ == "__main__":
    sys.exit(main())
