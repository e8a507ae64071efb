"""The hosts whose files are spoilt, and what is rendered of them."""

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from procview._fast.engine import PROC_VIEWS, Engine
from tests.fuzz.form import check
from tests.hosts.build import build
from tests.hosts.known import GIB, KNOWN, MIB, PRESSURE, SYSTEM_DISK, Known
from tests.hosts.model import Container, CpuTimes, DeviceIo, Host, HugePages, Layout, Level, MemoryNode

_CPU = "sys/devices/system/cpu"
_NODE = "sys/devices/system/node"
VIEWS = (*(f"proc/{name}" for name in PROC_VIEWS), *(f"{_CPU}/{name}" for name in ("online", "offline", "possible")))
COUNTING = ("proc/stat", "proc/uptime", "proc/vmstat")
"""These never go back, to what was true before a number that was none either."""
_TOO_LARGE = ("x86-256",)
_OF_CONTAINER = re.compile(r"cgroup/|proc/\d+/")
_OF_HOST_INIT = "proc/1/"


def _rich(layout: Layout) -> Known:
    """A host and a container of which every kind of file is there."""
    host = Host(
        online=(0, 1, 2), present=(0, 1, 2, 3), disks=(SYSTEM_DISK,), swap_total_kb=1_000_000, swap_free_kb=900_000,
        nodes=(MemoryNode(0, (0, 1), 8 << 20), MemoryNode(1, (2,), 8 << 20)), more_huge_pages=((1 << 20, 2),),
        mounts=("60 20 254:1 / /containers rw,relatime shared:9 - ext4 /dev/vda1 rw",),
    )  # fmt: skip
    usage = {"anon": 5 * MIB, "file": 9 * MIB, "active_file": 6 * MIB, "inactive_file": 3 * MIB,
             "slab_reclaimable": MIB, "slab_unreclaimable": MIB, "kernel_stack": 160 << 10,
             "pagetables": 300 << 10, "pgfault": 123, "pswpin": 7, "workingset_refault_anon": 17}  # fmt: skip
    of_v1 = {
        "rss": 5 << 20,
        "cache": 9 << 20,
        "active_file": 6 << 20,
        "inactive_file": 3 << 20,
        "pgpgin": 9,
        "pgfault": 8,
    }
    container = Container(
        levels=(
            Level("pod", memory_max_bytes=GIB, memory_current_bytes=GIB // 4, cpu_quota_usec=260_000),
            Level("web", memory_max_bytes=512 * MIB, memory_current_bytes=50 * MIB, swap_max_bytes=64 * MIB,
                  swap_current_bytes=3 * MIB, memsw_max_bytes=600 * MIB, memsw_current_bytes=60 * MIB,
                  cpu_quota_usec=150_000, cpus=(0, 2), mems=(0, 1), huge_pages=HugePages(8 * MIB, 2 * MIB, 9 * MIB, 0),
                  more_huge_pages={1 << 20: HugePages(GIB, 0, None, 0)}),
        ),
        cgroupns=4_026_532_900,
        start_ticks=99_000_000,
        boottime_offset=(-1000, 5) if layout is Layout.V2 else (0, 0),
        cpu=CpuTimes(70_123_456, 123_456, 5_000_999, 250_000, ((10**10, 10**9), (10**9, 10**8), (10**8, 0), (0, 0))),
        memory_stat=usage if layout.is_v2 else {**of_v1, **{f"total_{key}": value for key, value in of_v1.items()}},
        numa_stat={"anon": {0: 4 * MIB, 1: MIB}, "file": {0: 9 * MIB, 1: 0}, "kernel_stack": {0: 160 << 10, 1: 0}}
        if layout.is_v2
        else {"total": {0: 5, 1: 5}, "hierarchical_total": {0: 1000, 1: 3000}, "hierarchical_anon": {0: 10, 1: 20}},
        oom_kills=3,
        kmem_bytes=4 * MIB,
        io=(DeviceIo(254, 0, 12_345_856, 4096 * 7, 321, 7, 512, 1),),
        pids_current=3,
        pressure=dict.fromkeys(("cpu", "memory", "io"), PRESSURE),
        mounts=("100 99 0:44 / / rw - overlay overlay rw,lowerdir=/l,upperdir=/containers/web/upper,workdir=/w",),
    )  # fmt: skip

    def write(base: Path) -> tuple[dict[str, Any], int]:
        return build(base, layout, host, container).roots, container.pid

    return Known(f"rich-{layout}", write)


HOSTS = {known.name: known for known in (*map(_rich, Layout), *KNOWN) if known.name not in _TOO_LARGE}


def _without_numbers(path: str) -> str:
    return re.sub(r"\d+", "N", path)


@dataclass
class Recording:
    """One host on disk, whole unless somebody is about to find out what happens when it is not."""

    name: str
    base: Path
    roots: Mapping[str, Any]
    pid: int
    texts: dict[str, bytes] = field(default_factory=dict)
    """Every file, by its path below ``base``."""
    kinds: dict[str, list[str]] = field(default_factory=dict)
    """Paths that differ in numbers only; so that one file of a CPU is as likely to be spoilt as /proc/meminfo."""
    views: list[str] = field(default_factory=list)
    whole: dict[str, bytes] = field(default_factory=dict)
    """What each view shows when nothing is broken."""

    def __post_init__(self) -> None:
        for path in sorted(self.base.rglob("*")):
            if path.is_file() and not path.is_symlink():
                name = str(path.relative_to(self.base))
                self.texts[name] = path.read_bytes()
                self.kinds.setdefault(_without_numbers(name), []).append(name)
        engine = Engine(**self.roots)
        self.views = [path for path in (*VIEWS, *self._below(engine)) if self._is_there(engine, path)]
        engine.close()
        self.whole = self.all_texts()
        for view, text in self.whole.items():
            check(view, text, text)

    def _below(self, engine: Engine) -> Iterator[str]:
        """Files of the trees of CPUs and nodes; of the CPUs the first and the last."""
        cpus = [name for name in engine.listdir(self.pid, _CPU) if re.fullmatch(r"cpu\d+", name)]
        tops = [f"{_CPU}/{cpu}" for cpu in dict.fromkeys((*cpus[:1], *cpus[-1:]))]
        tops += [_NODE] if "node" in engine.listdir(self.pid, "sys/devices/system") else []
        while tops:
            top = tops.pop()
            for name in engine.listdir(self.pid, top):
                kind = engine.kind(self.pid, f"{top}/{name}")
                if kind == "dir":
                    tops.append(f"{top}/{name}")
                elif kind == "file":
                    yield f"{top}/{name}"

    def _is_there(self, engine: Engine, path: str) -> bool:
        try:
            engine.open(self.pid, path)
        except FileNotFoundError:
            return False
        return True

    def all_texts(self, engine: Engine | None = None) -> dict[str, bytes]:
        """All views as they are now, of a new engine unless there is one."""
        own = Engine(**self.roots) if engine is None else engine
        try:
            return {path: own.open(self.pid, path).render() for path in self.views}
        finally:
            if engine is None:
                own.close()

    def is_of_container(self, path: str) -> bool:
        """Whether a container, or a race with it, could ever have to do with what this file says."""
        return _OF_CONTAINER.match(path) is not None and not path.startswith(_OF_HOST_INIT)

    def write(self, path: str, text: bytes) -> None:
        """In place, so that descriptors kept open see it."""
        (self.base / path).write_bytes(text)

    def remove(self, path: str) -> None:
        (self.base / path).unlink()

    def heal(self, paths: Sequence[str]) -> None:
        for path in paths:
            self.write(path, self.texts[path])


@contextmanager
def trees_folder() -> Iterator[Path]:
    """For trees, in memory where there is a tmpfs: they are written to all the time."""
    where = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(prefix="procview-trees-", dir=where) as folder:
        yield Path(folder)


def recordings(folder: Path, names: Sequence[str] = tuple(HOSTS)) -> dict[str, Recording]:
    """Each in a folder of its own below ``folder``."""
    found = {}
    for name in names:
        base = folder / name
        base.mkdir()
        roots, pid = HOSTS[name].write(base)
        found[name] = Recording(name, base, roots, pid)
    return found
