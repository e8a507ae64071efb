"""Broken inputs beside good ones: no view may crash, wrap or print what was never a number.

Whatever one file holds, each view answers with the container's numbers, with the host's file, or (where the host's own
file is the broken one) with an OSError; and once the file is whole again, so is the answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.hosts.build import VMSTAT_NAMES, Tree, build
from tests.hosts.known import SYSTEM_DISK, WEB
from tests.hosts.model import Container, CpuTimes, Host, HugePages, Layout, Level
from tests.hosts.trees import fresh

pytest.importorskip("procview._fast.engine", reason="the engine is not built")
from procview._fast.engine import Engine

HOST = Host(disks=(SYSTEM_DISK,), swap_total_kb=1_000_000, swap_free_kb=900_000)
KEYS = {"rss": 5 << 20, "cache": 9 << 20, "active_file": 6 << 20, "inactive_file": 3 << 20, "mapped_file": 1 << 20}
LEVEL = Level(
    "web",
    memory_max_bytes=512 << 20,
    memory_current_bytes=50 << 20,
    swap_max_bytes=64 << 20,
    swap_current_bytes=3 << 20,
    memsw_max_bytes=600 << 20,
    memsw_current_bytes=60 << 20,
    cpu_quota_usec=150_000,
    cpus=(0, 1),
    huge_pages=HugePages(max_bytes=8 << 20, current_bytes=2 << 20),
)
CONTAINERS = {
    layout: replace(
        WEB,
        levels=(Level("pod", memory_max_bytes=1 << 30, memory_current_bytes=1 << 28), LEVEL),
        memory_stat=WEB.memory_stat
        if layout.is_v2
        else {**KEYS, **{f"total_{key}": value for key, value in KEYS.items()}},
        kmem_bytes=4 << 20,
        cpu=CpuTimes(70_123_456, 123_456, 5_000_999, 250_000, ((10**10, 10**9), (10**9, 10**8))),
    )
    for layout in (Layout.V2, Layout.V1)
}
VIEWS = ("meminfo", "swaps", "stat", "uptime", "cpuinfo", "diskstats", "partitions", "loadavg", "vmstat")

DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "truncated": lambda text: text[: len(text) // 2],
    "cut-in-last-line": lambda text: text[:-2],
    "no-number": lambda text: re.sub(rb"\d+", b"x", text),
    "garbage": lambda _: bytes(range(256)) * 8,
    "nul-bytes": lambda text: b"\0" * len(text),
    "u64-max": lambda text: re.sub(rb"\b\d+\b", b"18446744073709551615", text),
    "above-u64": lambda text: re.sub(rb"\b\d+\b", b"99999999999999999999999999", text),
    "negative": lambda text: re.sub(rb"\b\d+\b", b"-7", text),
    "one-long-line": lambda _: b"7" * 70_000,
    "twice": lambda text: text + text,
    "no-newlines": lambda text: text.replace(b"\n", b" "),
}


def cgroup_files(layout: Layout) -> list[str]:
    """Every cgroup file of R that a view may read, as a path below the tree."""
    container = CONTAINERS[layout]
    tree = Tree(Path("/nowhere"), layout, HOST, [container])
    names = {
        Layout.V2: {
            "memory": (
                "memory.max",
                "memory.current",
                "memory.stat",
                "memory.events",
                "memory.swap.max",
                "memory.swap.current",
            ),
            "cpu": ("cpu.max", "cpu.stat"),
            "cpuset": ("cpuset.cpus.effective",),
            "io": ("io.stat",),
            "pids": ("pids.current",),
            "hugetlb": (
                "hugetlb.2MB.max",
                "hugetlb.2MB.current",
                "hugetlb.2MB.rsvd.max",
                "hugetlb.2MB.rsvd.current",
            ),
        },
        Layout.V1: {
            "memory": (
                "memory.limit_in_bytes",
                "memory.usage_in_bytes",
                "memory.stat",
                "memory.oom_control",
                "memory.memsw.limit_in_bytes",
                "memory.memsw.usage_in_bytes",
                "memory.swappiness",
                "memory.kmem.usage_in_bytes",
            ),
            "cpu": (
                "cpu.cfs_quota_us",
                "cpu.cfs_period_us",
                "cpu.stat",
                "cpuacct.usage_all",
                "cpuacct.usage_percpu",
                "cpuacct.stat",
            ),
            "cpuset": ("cpuset.effective_cpus", "cpuset.cpus"),
            "io": ("blkio.throttle.io_serviced_recursive", "blkio.throttle.io_service_bytes_recursive"),
            "pids": ("pids.current",),
        },
    }
    return [
        tree.cgroup_file(container, controller, name) for controller, files in names[layout].items() for name in files
    ]


PROCESS_FILES = [
    f"proc/{pid}/{name}"
    for pid in (WEB.init_pid, WEB.pid)
    for name in ("stat", "status", "cgroup", "mountinfo", "timens_offsets")
]
HOST_FILES = [f"proc/{name}" for name in (*VIEWS, "sys/vm/overcommit_ratio")] + [
    f"sys/devices/system/cpu/{name}" for name in ("online", "possible", "kernel_max")
]


def check(view: str, text: str) -> None:
    """What holds for a view whatever it was made from."""
    assert not re.search(r"(?<![\w.:-])-\d", text.replace("-2\n", "")), f"negative number in {view}:\n{text}"
    assert all(int(number) < 2**64 for number in re.findall(r"\b\d+\b", text)), f"more than 64 bits in {view}"
    match view:
        case "meminfo":
            lines = {line.split(":")[0]: int(line.split()[1]) for line in text.splitlines()}
            assert lines["MemFree"] <= lines["MemTotal"]
            assert lines["MemAvailable"] <= lines["MemTotal"]
            assert lines["SwapFree"] <= lines["SwapTotal"]
            assert lines["HugePages_Free"] <= lines["HugePages_Total"]
            assert max(lines.values()) <= 3 * 2**54  # kB, Committed_AS adds three: no difference has wrapped
        case "swaps":
            header, *rest = text.splitlines()
            assert header.split() == ["Filename", "Type", "Size", "Used", "Priority"]
            assert all(int(line.split()[3]) <= int(line.split()[2]) for line in rest)
        case "stat":
            lines_of_cpus = [line.split() for line in text.splitlines() if line.startswith("cpu")]
            total, *each = [[int(word) for word in words[1:]] for words in lines_of_cpus]
            assert [words[0] for words in lines_of_cpus] == ["cpu", *(f"cpu{number}" for number in range(len(each)))]
            assert (
                total == [sum(column) for column in zip(*each, strict=True)] or "ctxt 263557" in text
            )  # the host's file
        case "uptime":
            assert re.fullmatch(r"\d+\.\d\d \d+\.\d\d\n", text)
        case "cpuinfo":
            numbers = re.findall(r"^processor\s*: (\d+)$", text, re.MULTILINE)
            assert numbers == [str(number) for number in range(len(numbers))]
        case "diskstats":
            assert all(len(line.split()) == 3 + HOST.diskstats_columns for line in text.splitlines())
        case "partitions":
            assert text.startswith("major minor  #blocks  name\n\n")
        case "loadavg":
            assert re.fullmatch(r"\d+\.\d\d \d+\.\d\d \d+\.\d\d \d+/\d+ \d+\n", text)
        case "vmstat":
            assert [line.split()[0] for line in text.splitlines()] == VMSTAT_NAMES


def render_all(tree: Tree, container: Container, broken: str) -> dict[str, str]:
    """Each view by a new engine, checked; where a file of the host is broken, a view may fail, and is left out."""
    shown = {}
    engine = Engine(**tree.roots)
    for view in VIEWS:
        hosts_own = broken.startswith(("proc/", "sys/")) and not re.match(r"proc/\d", broken)
        try:
            text = engine.open(container.pid, f"proc/{view}").render()
        except OSError:
            assert hosts_own, f"{view} failed because of {broken}"
            continue
        if not hosts_own:
            check(view, text.decode())
            shown[view] = text.decode()
    engine.close()
    return shown


@pytest.mark.parametrize("broken", [*cgroup_files(Layout.V2), *cgroup_files(Layout.V1), *PROCESS_FILES, *HOST_FILES])
def test_one_broken_file(scratch: Path, broken: str) -> None:
    layout = Layout.V1 if broken in cgroup_files(Layout.V1) else Layout.V2
    container = CONTAINERS[layout]
    with fresh(scratch) as folder:
        tree = build(folder, layout, HOST, container)
        whole = render_all(tree, container, "")
        assert set(whole) == set(VIEWS)
        good = (folder / broken).read_bytes()
        for name, damage in DAMAGE.items():
            tree.write(broken, damage(good))
            try:
                render_all(tree, container, broken)
            except AssertionError as error:
                raise AssertionError(f"{broken} {name}: {error}") from error
        tree.remove(broken)
        render_all(tree, container, broken)
        tree.write(broken, good)
        assert render_all(tree, container, "") == whole


@pytest.mark.parametrize("layout", [Layout.V2, Layout.V1])
def test_a_lasting_engine_recovers(scratch: Path, layout: Layout) -> None:
    """Descriptors stay open over damage in place and over files taken away and made anew."""
    container = CONTAINERS[layout]
    with fresh(scratch) as folder:
        tree = build(folder, layout, HOST, container)
        engine = Engine(**tree.roots)
        counting = ("stat", "uptime", "vmstat")  # do not go back to what was true before a number that was none
        views = {view: engine.open(container.pid, f"proc/{view}") for view in VIEWS if view not in counting}
        whole = {view: opened.render() for view, opened in views.items()}
        for broken in cgroup_files(layout):
            good = (folder / broken).read_bytes()
            for damage in DAMAGE.values():
                tree.write(broken, damage(good))
                for view, opened in views.items():
                    check(view, opened.render().decode())
            tree.write(broken, good)
            assert {view: opened.render() for view, opened in views.items()} == whole, broken
        engine.close()


@given(layout=st.sampled_from([Layout.V2, Layout.V1]), data=st.data())
def test_spliced_files(scratch: Path, layout: Layout, data: st.DataObject) -> None:
    """Several files at once, with bytes cut out of them and others put in."""
    container = CONTAINERS[layout]
    with fresh(scratch) as folder:
        tree = build(folder, layout, HOST, container)
        for broken in data.draw(
            st.sets(st.sampled_from([*cgroup_files(layout), *PROCESS_FILES]), min_size=1, max_size=4)
        ):
            text = (folder / broken).read_bytes()
            start = data.draw(st.integers(0, len(text)))
            end = data.draw(st.integers(start, len(text)))
            junk = data.draw(
                st.one_of(st.binary(max_size=40), st.from_regex(rb"[0-9 :/=a-z\n()-]{0,60}", fullmatch=True))
            )
            tree.write(broken, text[:start] + junk + text[end:])
        render_all(tree, container, "several")


@pytest.mark.parametrize("layout", [Layout.V2, Layout.V1])
@pytest.mark.parametrize("controller", ["memory", "cpu", "cpuset", "io", "pids", "hugetlb"])
def test_no_cgroup_files_at_all_of_one_controller(scratch: Path, layout: Layout, controller: str) -> None:
    """Absent, not zero and not unlimited: the container is answered, and what stands in for usage is the host's."""
    container = CONTAINERS[layout].with_levels(last={"absent": frozenset([controller])})
    container = replace(
        container, levels=(replace(container.levels[0], absent=frozenset([controller])), container.levels[1])
    )
    with fresh(scratch) as folder:
        tree = build(folder, layout, HOST, container)
        shown = render_all(tree, container, "")
    lines = {line.split(":")[0]: int(line.split()[1]) for line in shown["meminfo"].splitlines()}
    assert lines["MemTotal"] == (16_384_000 if controller == "memory" else 512 << 10)
    assert (lines["SwapTotal"] == 0) == (controller == "memory")
    assert len(re.findall("^processor", shown["cpuinfo"], re.MULTILINE)) == 2


@pytest.mark.parametrize("length", [255, 3000, 4000, 4095, 4096])
@pytest.mark.parametrize("layout", [Layout.V2, Layout.V1])
def test_cgroup_path_as_long_as_it_gets(scratch: Path, layout: Layout, length: int) -> None:
    """The container's limit, or the host's file; never another's number. The kernel's own limit is PATH_MAX."""
    names: list[str] = []
    while (left := length - sum(len(name) + 1 for name in names)) > 0:
        names.append("n" * min(254, left - 1) if left != 256 else "n" * 200)
    container = replace(
        CONTAINERS[layout], levels=(*(Level(name or "n") for name in names[:-1]), replace(LEVEL, name=names[-1] or "n"))
    )
    with fresh(scratch) as folder:
        tree = build(folder, layout, HOST, container)
        shown = render_all(tree, container, "")
        total = int(shown["meminfo"].split()[1])
        assert total == 512 << 10 if length < 3500 else total in (512 << 10, 16_384_000)


@pytest.mark.parametrize(
    "comm", ["my init", "a) S 1 (b", "((((", "))))", "x\ny", ") 0 0 0 0 0", "\\ \t", "", "é\udc80", "1) R 1 1 1 1"]
)
def test_name_of_init(scratch: Path, comm: str) -> None:
    """Parsed from the last bracket: the same uptime whatever the name."""
    container = replace(CONTAINERS[Layout.V2], comm=comm)
    with fresh(scratch) as folder:
        tree = build(folder, Layout.V2, HOST, container)
        assert render_all(tree, container, "")["uptime"].startswith("10000.00 ")


def test_no_tree_at_all(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        Engine(proc=str(tmp_path / "proc"), sys=str(tmp_path / "sys"), cgroup=str(tmp_path / "cgroup"))


def test_closed_engine(scratch: Path) -> None:
    """Using it afterwards is an error, not a crash; also for what was opened before."""
    with fresh(scratch) as folder:
        engine = Engine(**build(folder, Layout.V2, HOST, CONTAINERS[Layout.V2]).roots)
        view = engine.open(WEB.pid, "proc/meminfo")
        engine.close()
        engine.close()
        with pytest.raises(ValueError):
            engine.open(WEB.pid, "proc/meminfo")
        with pytest.raises((ValueError, OSError)):
            view.render()
