"""The picture of ``procview top`` in docs/: a daemon, ten containers that do something, and one screen of it as SVG.

    .venv/bin/python -m tests.containers.picture docs/pictures/top.svg

Takes a minute. Containers of others on this host are left out. Touches: /run/procview-picture, cgroups and processes as
the tests make them; all of it is gone afterwards. Exit status: 0 drawn, 1 it could not be.
"""

import argparse
import contextlib
import dataclasses
import io
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console

from procview.client import Client
from procview.screen.controls import Controls, Sort
from procview.screen.page import State, screenful
from procview.screen.polls import Poll, poll
from procview.slots.skeleton import Skeleton
from tests import session
from tests.containers.cgroups import CONTROLLERS, Cgroup, Limits
from tests.containers.engines.base import in_cgroup
from tests.containers.engines.unshare import UnshareContainer
from tests.containers.served import Daemon

WIDTH, HEIGHT = 88, 16
SECONDS = 30.0
"""Loads are samples of 5 s each."""
BETWEEN_SECONDS = 2.0
_PLACE = Path("/run/procview-picture")
_MIB = 1 << 20

_IDLE = "exec sleep infinity"
_BUSY = "while :; do :; done"
_READS = "while :; do read line < /proc/stat; sleep 0.01; done"
_HOLDS = f"exec {sys.executable} -c 'import time; held = bytearray({{}} << 20); time.sleep(3600)'"


@dataclasses.dataclass(frozen=True)
class Wanted:
    name: str
    script: str
    limits: Limits
    is_degraded: bool = False


CONTAINERS = (
    Wanted("web-1", _READS, Limits(memory_bytes=512 * _MIB, cpus=1.0)),
    Wanted("web-2", _READS, Limits(memory_bytes=512 * _MIB, cpus=1.0)),
    Wanted("api", _BUSY, Limits(memory_bytes=256 * _MIB, cpus=0.25)),
    Wanted("batch", f"(while :; do timeout 0.2 sh -c '{_BUSY}'; sleep 0.3; done)", Limits(memory_bytes=128 * _MIB)),
    Wanted("database", _HOLDS.format(840), Limits(memory_bytes=1024 * _MIB, cpus=2.0)),
    Wanted("cache", _HOLDS.format(235), Limits(memory_bytes=256 * _MIB, cpus=0.5)),
    Wanted("queue", _HOLDS.format(60), Limits(memory_bytes=384 * _MIB, cpus=0.5)),
    Wanted("metrics", _READS.replace("stat", "meminfo"), Limits(memory_bytes=64 * _MIB, cpus=0.1)),
    Wanted("cron", _IDLE, Limits(memory_bytes=64 * _MIB, cpus=0.1)),
    Wanted("legacy", _IDLE, Limits(memory_bytes=2048 * _MIB, cpus=1.5), is_degraded=True),
)


@contextlib.contextmanager
def _cgroup_in(outer: Cgroup, name: str, limits: Limits) -> Iterator[Cgroup]:
    """A cgroup with just this name: it is the container's. The outer one has the name by which it is found again."""
    inner = Cgroup({controller: folder / name for controller, folder in outer.directories.items()}, outer.is_v2)
    for folder in dict.fromkeys(outer.directories.values()):
        if outer.is_v2:
            for controller in CONTROLLERS:
                with contextlib.suppress(OSError):
                    (folder / "cgroup.subtree_control").write_text(f"+{controller}", encoding="ascii")
        (folder / name).mkdir()
        for file in ("cpuset.cpus", "cpuset.mems"):
            if not outer.is_v2 and (folder / file).exists():
                (folder / name / file).write_text((folder / file).read_text(encoding="ascii"), encoding="ascii")
    try:
        inner.apply(limits)
        yield inner
    finally:
        inner.remove()


@contextlib.contextmanager
def _running(wanted: Wanted, outer: Cgroup, daemon: Daemon) -> Iterator[int]:
    """The container, with its views; its init's pid."""
    with _cgroup_in(outer, wanted.name, wanted.limits) as cgroup:
        words = ["unshare", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc"]
        script = f"echo ready; exec >/dev/null; {wanted.script}"
        with (_PLACE / "errors").open("ab") as errors:
            process = subprocess.Popen(
                in_cgroup(cgroup, [*words, "sh", "-c", script]),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        container = UnshareContainer(wanted.name, Path(), process, cgroup)
        try:
            assert process.stdout is not None
            if process.stdout.readline() != b"ready\n":
                raise RuntimeError(f"{wanted.name} does not start: {(_PLACE / 'errors').read_text(encoding='utf-8')}")
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="ascii")
            container.pid = int(children.split()[0])
            daemon.attach(container.pid)
            if wanted.is_degraded:
                container.output(["umount", "/proc/meminfo"])
            yield container.pid
        finally:
            container.kill()


def _polls(daemon: Daemon, pids: Sequence[int]) -> tuple[Poll, Poll]:
    """Two, of these containers alone."""
    client = Client(Skeleton(str(daemon.run_directory)).control_socket)

    def ours() -> Poll:
        now = poll(client)
        return dataclasses.replace(now, containers=[fact for fact in now.containers if fact["init_pid"] in pids])

    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        ours()
        time.sleep(BETWEEN_SECONDS)
    before = ours()
    time.sleep(BETWEEN_SECONDS)
    return before, ours()


def _draw(state: State, path: Path) -> None:
    console = Console(record=True, file=io.StringIO(), width=WIDTH, height=HEIGHT, force_terminal=True,
                      color_system="truecolor", highlight=False)  # fmt: skip
    console.print(screenful(state, Controls(sort=Sort.CPU), WIDTH, HEIGHT), end="", no_wrap=True)
    # Nothing is to be fetched from elsewhere by whoever looks at it.
    form = re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL).replace("Fira Code, ", "")
    path.parent.mkdir(parents=True, exist_ok=True)
    console.save_svg(str(path), title="procview top", code_format=form, unique_id="top")


def main() -> int:
    """Draw it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path, help="where the picture goes")
    path: Path = parser.parse_args().path
    if os.geteuid() != 0:
        print("only root can start containers", file=sys.stderr)
        return 1
    os.environ[session.VARIABLE] = session.SESSION
    with contextlib.ExitStack() as undo:
        _PLACE.mkdir()
        undo.callback(session.remove_directory, _PLACE)
        daemon = Daemon.start(_PLACE)
        undo.callback(daemon.stop)
        daemon.listens()
        outer = Cgroup.create(session.new_name())
        undo.callback(outer.remove)
        pids = [undo.enter_context(_running(wanted, outer, daemon)) for wanted in CONTAINERS]
        before, now = _polls(daemon, pids)
        _draw(State(now, before, None, now.wall_seconds), path)
    print(f"{path}: {path.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
