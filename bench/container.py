"""The measured container: own cgroups with limits, own pid and mount namespaces, and one reader in it for the run.

Every contender's files are bound to paths of the same depth below one tmpfs of the container, so that path walks cost
the same and FUSE is not asked to look up names anew: this is how the files are used over a container's /proc, too.
"""

import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from bench.cgroups import Limits, container_groups, join
from bench.compile import compiled
from bench.stats import Samples

# Arguments: the tmpfs's place, the reader, then pairs of source and target. The shell stays as the container's init.
INIT = """
set -e
root=$1 reader=$2
shift 2
mount -t tmpfs tmpfs "$root"
while [ $# -gt 0 ]; do
    mkdir -p "${2%/*}"
    : >"$2"
    mount --bind "$1" "$2"
    shift 2
done
"$reader"
exit 0
"""


class ReaderFailedError(Exception):
    """A read in the container failed: which, and why."""


@dataclass(frozen=True)
class Bind:
    source: Path
    contender: str
    file: str


class Container:
    """Talks to the reader inside. All times are of open, read to the end, close."""

    def __init__(self, process: "subprocess.Popen[str]", root: Path, groups: list[Path], limits: Limits) -> None:
        self._process = process
        self._root = root
        self.groups = groups
        self.limits = limits

    def path(self, contender: str, file: str) -> Path:
        """Where the reader finds a contender's file."""
        return self._root / contender / file

    def time(self, path: Path, count: int, *, warm: int, cpu: int | None) -> Samples:
        return self._samples(f"time {_word(cpu)} {count} {warm} {path}")

    def fresh(self, path: Path, count: int, *, cpu: int | None) -> Samples:
        """Each read by a process that was just forked."""
        return self._samples(f"fresh {_word(cpu)} {count} {path}")

    def rate(self, path: Path, *, readers: int, seconds: float, cpu: int | None) -> tuple[float, int]:
        """Reads per second of several processes together, and their number."""
        answer = self._ask(f"rate {_word(cpu)} {readers} {seconds} {path}")
        return float(answer["reads"]) / float(answer["seconds"]), int(answer["reads"])

    def drain(self, paths: Sequence[Path], count: int, *, readers: int, cpu: int | None) -> None:
        """So many reads over all these files."""
        self._ask(f"drain {_word(cpu)} {readers} {count} {' '.join(map(str, paths))}")

    def storm(self, path: Path, *, threads: int, seconds: float, cpu: int | None) -> Samples:
        """All reads of so many threads in this time."""
        return self._samples(f"storm {_word(cpu)} {threads} {seconds} {path}")

    @contextmanager
    def flooding(self, path: Path, *, threads: int, cpu: int | None) -> Iterator[None]:
        """Meanwhile so many threads read without a pause."""
        self._ask(f"flood {_word(cpu)} {threads} {path}")
        try:
            yield
        finally:
            self._ask("calm -1")

    def first_line(self, path: Path) -> str:
        """What a process of the container finds in a file: to see that the right thing is measured."""
        enter = ["nsenter", f"--target={self.reader_pid()}", "--mount", "--pid", "--", "head", "-n1", str(path)]
        return subprocess.run(
            enter, check=True, capture_output=True, text=True, preexec_fn=lambda: join(self.groups)
        ).stdout.strip()

    def reader_pid(self) -> int:
        """The reader as the host numbers it: unshare > the container's init > reader."""
        return int(psutil.Process(self._process.pid).children(recursive=True)[-1].pid)

    def _samples(self, command: str) -> Samples:
        answer = self._ask(command)
        return Samples(answer["samples_ns"], answer["bytes"])

    def _ask(self, command: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise ReaderFailedError("the container ended")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise ReaderFailedError(answer["error"])
        return answer


@contextmanager
def running_container(work: Path, limits: Limits, binds: Sequence[Bind], name: str = "") -> Iterator[Container]:
    """``name`` tells several of one run apart."""
    root = work / f"container{name}"
    root.mkdir()
    pairs = [str(part) for bind in binds for part in (bind.source, root / bind.contender / bind.file)]
    namespaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    with container_groups(limits, name) as groups:
        process = subprocess.Popen(
            [*namespaces, "sh", "-c", INIT, "init", str(root), str(compiled("reader")), *pairs],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={"PATH": os.environ["PATH"]},
            preexec_fn=lambda: join(groups),
        )
        try:
            container = Container(process, root, groups, limits)
            # One read of nothing: the container is up when it answers.
            container.time(Path("/dev/null"), 1, warm=0, cpu=None)
            yield container
        finally:
            # The reader ends at the end of its input, and the container with it.
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _word(cpu: int | None) -> int:
    return -1 if cpu is None else cpu
