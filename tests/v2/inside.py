"""A process inside a container that does what a test tells it, and reads the views for it."""

import json
import os
import shlex
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tests import session
from tests.containers.engines import Container, wait_until_gone
from tests.containers.rootfs import PYTHON, environment
from tests.v2 import agent
from tests.v2.groups import Group

T = TypeVar("T")
U = TypeVar("U")

MIB = 1 << 20
NEW_CONTAINER = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
"""A pid namespace whose init is the agent, with the mounts of the host: no engine is needed to be a container."""
_SECONDS = 60.0


@dataclass
class Inside:
    """The agent, as the host sees it."""

    process: "subprocess.Popen[str]"
    """The agent, or who waits for it."""
    pid: int
    """Of the agent, as the host numbers it."""
    views: Path
    """The daemon's mount, which the agent reads as it is."""

    @classmethod
    def start(
        cls, group: Group, views: Path, prefix: Sequence[str] = NEW_CONTAINER, descriptors: Sequence[int] = ()
    ) -> "Inside":
        """Start it in a cgroup; ``prefix`` makes or enters namespaces, ``descriptors`` are open files that it gets."""
        enter = f'echo $$ > {shlex.quote(str(group.path))}/cgroup.procs && exec "$@"'
        # -I -S: as little memory and time as Python can take.
        argv = ["sh", "-c", enter, "sh", *prefix, PYTHON, "-I", "-S", "-u", str(Path(agent.__file__).resolve())]
        process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            pass_fds=descriptors,
            env=environment({session.VARIABLE: session.SESSION}),
        )
        inside = cls(process, process.pid, views)
        try:
            assert inside._answer() == "ready"
            # Those who waits has one child: the agent. (unshare --fork and nsenter --pid fork once.)
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="ascii").split()
            inside.pid = int(children[0]) if children else process.pid
        except BaseException:
            inside.stop()
            raise
        return inside

    @classmethod
    def join(cls, container: Container, views: Path, descriptors: Sequence[int] = ()) -> "Inside":
        """In the container of an engine: its pid namespace and its cgroup, but the host's files."""
        group = Group(container.cgroup.directories["memory"])
        return cls.start(group, views, ("nsenter", "--target", str(container.pid), "--pid"), descriptors)

    def do(self, code: str) -> Any:
        """Have Python code executed, to its end; what it left in ``result``. Names are kept for the next time."""
        self.begin(code)
        return self._answer()

    def begin(self, code: str) -> None:
        """Have it executed without waiting; ``end`` does."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(code) + "\n")
        self.process.stdin.flush()

    def end(self) -> Any:
        return self._answer()

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the agent is gone, status {self.process.wait(10)}")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f"inside: {answer['error']}")
        return answer["result"]

    def read(self, view: str) -> str:
        """A view, such as proc/meminfo."""
        text = self.do(f"result = read({str(self.views / view)!r})")
        assert isinstance(text, str)
        return text

    def meminfo(self) -> dict[str, int]:
        """In kB (pages, for HugePages_*)."""
        return numbers(self.read("proc/meminfo"))

    def cpus(self) -> dict[str, int]:
        """How many CPUs each view shows."""
        stat = [line.split()[0] for line in self.read("proc/stat").splitlines() if line.startswith("cpu")]
        tree = self.views / "sys/devices/system/cpu"
        folders = self.do(f"import os; result = os.listdir({str(tree)!r})")
        online = self.read("sys/devices/system/cpu/online").strip()
        return {
            "cpuinfo": self.read("proc/cpuinfo").count("processor\t:"),
            "stat": len(stat) - 1,
            "tree": sum(name[:3] == "cpu" and name[3:].isdecimal() for name in folders),
            "online": int(online.rpartition("-")[2]) + 1,
        }

    def stop(self) -> None:
        """End it; once more does nothing."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        if self.process.stdin.closed:
            return
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.kill()  # unshare --kill-child takes the agent along; any other agent ends with its stdin
        self.process.wait(20)
        wait_until_gone(self.pid)


def numbers(meminfo: str) -> dict[str, int]:
    return {name: int(rest.split()[0]) for name, rest in (line.split(":") for line in meminfo.splitlines())}


def settled(truth: Callable[[], T], shown: Callable[[], U]) -> tuple[T, U]:
    """What the kernel says and what a view shows, from a time in which the kernel says the same before and after."""
    deadline = time.monotonic() + _SECONDS
    before = truth()
    while True:
        seen = shown()
        after = truth()
        if before == after:
            return before, seen
        assert time.monotonic() < deadline, f"never stands still: {before}, {after}"
        before = after


def eventually(condition: Callable[[], bool], what: str) -> None:
    """Wait for it."""
    deadline = time.monotonic() + _SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.02)


def age_ticks(pid: int) -> float:
    """How long ago a process started, in the ticks of /proc/stat."""
    per_second = os.sysconf("SC_CLK_TCK")
    started = int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) * per_second - started
