"""How old what is shown of the host may be, and that the container's own is never old."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.hosts.build import build
from tests.hosts.model import Container, Host, Layout, Level
from tests.hosts.trees import fresh

pytest.importorskip("procview._fast.engine", reason="the engine is not built")
from procview._fast.engine import Engine

BOUND_SECONDS = 0.1
HOST = Host(online=(0, 1, 2, 3), has_cpu_folders=False)
OWN = Container(levels=(Level("c", memory_max_bytes=500 << 20, memory_current_bytes=1 << 20),))


@pytest.fixture(params=list(Layout))
def running(request: pytest.FixtureRequest, scratch: Path) -> Iterator[tuple[Path, Engine]]:
    """A made-up host whose clock goes on: only then anything of it is kept."""
    with fresh(scratch) as folder:
        tree = build(folder, request.param, HOST, OWN)
        engine = Engine(**{name: where for name, where in tree.roots.items() if name != "boottime_ns"})
        yield folder, engine
        engine.close()


def rewrite(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def line(text: bytes, name: bytes) -> list[bytes]:
    return next(words for words in map(bytes.split, text.splitlines()) if words[0] == name)


def test_the_hosts_meminfo_is_as_old_as_said(running: tuple[Path, Engine]) -> None:
    folder, engine = running
    view = engine.open(OWN.pid, "proc/meminfo")
    assert line(view.render(), b"MemTotal:")[1] == b"%d" % (500 << 10)
    text = (folder / "proc/meminfo").read_text()
    (folder / "proc/meminfo").write_text(
        "".join(["MemTotal:         204800 kB\n", *text.splitlines(keepends=True)[1:]])
    )
    time.sleep(BOUND_SECONDS + 0.01)
    assert line(view.render(), b"MemTotal:")[1] == b"204800"
    (folder / "proc/meminfo").write_text("")
    time.sleep(BOUND_SECONDS + 0.01)
    assert (view.render(), view.fallback) == (b"", "unscopable")


def test_the_hosts_vmstat_is_as_old_as_said(running: tuple[Path, Engine]) -> None:
    folder, engine = running
    view = engine.open(OWN.pid, "proc/vmstat")
    assert b"\nnr_newcomer" not in view.render()
    with (folder / "proc/vmstat").open("a") as file:
        file.write("nr_newcomer 7\n")
    time.sleep(BOUND_SECONDS + 0.01)
    assert view.render().endswith(b"\nnr_newcomer 0\n")


def test_the_hosts_cpus_are_as_old_as_said(running: tuple[Path, Engine]) -> None:
    folder, engine = running
    view = engine.open(OWN.pid, "sys/devices/system/cpu/online")
    assert view.render() == b"0-3\n"
    (folder / "sys/devices/system/cpu/online").write_text("0-1\n")
    time.sleep(BOUND_SECONDS + 0.01)
    assert view.render() == b"0-1\n"


def test_what_is_the_containers_own_is_never_old(scratch: Path) -> None:
    """Within the time for which the host's is kept, each change shows in the next render."""
    with fresh(scratch) as folder:
        tree = build(folder, Layout.V2, HOST, OWN)
        engine = Engine(**{name: where for name, where in tree.roots.items() if name != "boottime_ns"})
        meminfo, online = (engine.open(OWN.pid, path) for path in ("proc/meminfo", "sys/devices/system/cpu/online"))
        started = time.monotonic()
        for number in range(1, 40):
            level = replace(OWN.level, memory_max_bytes=(100 + number) << 20, cpu_quota_usec=(1 + number % 3) * 100_000)
            tree.update(replace(OWN, levels=(level,)))
            assert line(meminfo.render(), b"MemTotal:")[1] == b"%d" % ((100 + number) << 10)
            assert online.render() == (b"0\n", b"0-1\n", b"0-2\n")[number % 3]
        assert time.monotonic() - started < 10
        engine.close()


def test_a_recording_is_read_anew_each_time(scratch: Path) -> None:
    """Its clock stands still: nothing would ever be too old."""
    with fresh(scratch) as folder:
        engine = Engine(**build(folder, Layout.V2, HOST, OWN).roots)
        online = engine.open(OWN.pid, "sys/devices/system/cpu/online")
        for cpus, shown in (("0-3", b"0-3\n"), ("0-1", b"0-1\n"), ("0", b"0\n")) * 3:
            (folder / "sys/devices/system/cpu/online").write_text(f"{cpus}\n")
            assert online.render() == shown
        engine.close()


@pytest.mark.parametrize("name", ["meminfo", "vmstat"])
def test_many_threads_while_the_hosts_text_is_exchanged(running: tuple[Path, Engine], name: str) -> None:
    """Each is whole: all lines of one host's file, as it is or was a moment ago."""
    folder, engine = running
    file = folder / "proc" / name
    size = file.stat().st_size
    more = "Newcomer:              1 kB\n" if name == "meminfo" else "newcomer 0\n"
    count = len(file.read_text().splitlines())
    view = engine.open(OWN.pid, f"proc/{name}")
    seen: set[tuple[int, bytes]] = set()
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            text = view.render()
            seen.add((len(text.splitlines()), text[-1:]))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(8):
        with file.open("a") as grown:
            grown.write(more)
        time.sleep(BOUND_SECONDS * 1.2)
        os.truncate(file, size)
        time.sleep(BOUND_SECONDS * 1.2)
    stop.set()
    for thread in threads:
        thread.join()
    assert seen == {(count, b"\n"), (count + 1, b"\n")}
