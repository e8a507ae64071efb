"""Settings that differ from one container to the next: whom the engine asks, when, and what the next render shows."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.hosts.build import Tree, build
from tests.hosts.model import Container, Host, Layout, Level
from tests.hosts.trees import fresh

pytest.importorskip("procview._fast.engine", reason="the engine is not built")
from procview._fast.engine import Engine

HOST = Host(online=(0, 1, 2, 3), has_cpu_folders=True)
ONE, OTHER = (
    Container(
        levels=(Level("all"), Level(name, cpus=(0, 1, 2), cpu_quota_usec=100_000)),
        init_pid=10 * number,
        pid=10 * number + 1,
        pidns=4_026_600_000 + number,
        start_ticks=5_000 + number,
    )
    for number, name in ((100, "one"), (101, "other"))
)
EVERYBODYS: dict[str, Any] = {
    "cpus": "quota",
    "topology": "container",
    "swap": True,
    "devices": "container",
    "uptime": "container",
    "loadavg": True,
}


class Asked:
    """What an engine asks for: ``of`` says it by the name of a cgroup; and what it has asked, in order."""

    def __init__(self, **of: Mapping[str, Any]) -> None:
        self.of = of
        self.names: list[str] = []
        self.calls: list[tuple[int, int, bytes]] = []

    def __call__(self, pid_namespace: int, start_ticks: int, cgroups: bytes) -> dict[str, Any]:
        self.calls.append((pid_namespace, start_ticks, cgroups))
        self.names.append(cgroups.split(b"\n")[0].rpartition(b"/")[2].decode())
        return EVERYBODYS | dict(self.of.get(self.names[-1], {}))


@contextmanager
def engine_on(scratch: Path, layout: Layout = Layout.V2) -> Iterator[tuple[Engine, Tree]]:
    with fresh(scratch) as folder:
        tree = build(folder, layout, HOST, ONE, OTHER)
        engine = Engine(**tree.roots)
        yield engine, tree
        engine.close()


def cpus(engine: Engine, of: Container) -> int:
    """As cpuinfo and the tree of CPUs show them, each opened anew."""
    shown = engine.open(of.pid, "proc/cpuinfo").render().decode().count("processor\t:")
    assert engine.open(of.pid, "sys/devices/system/cpu/online").render().decode() == ("0\n" if shown == 1 else "0-2\n")
    assert engine.listdir(of.pid, "sys/devices/system/cpu").count("cpu2") == (shown == 3)
    return shown


@pytest.mark.parametrize("layout", list(Layout))
def test_each_container_has_its_own(scratch: Path, layout: Layout) -> None:
    with engine_on(scratch, layout) as (engine, _):
        asked = Asked(one={"cpus": "cpuset"})
        engine.configure(ask=asked)
        assert asked.names == []
        assert (cpus(engine, ONE), cpus(engine, OTHER)) == (3, 1)
        assert (cpus(engine, OTHER), cpus(engine, ONE)) == (1, 3)
        # Once for each of them.
        assert asked.names == ["one", "other"]
        assert [call[:2] for call in asked.calls] == [(of.pidns, of.start_ticks) for of in (ONE, OTHER)]


def test_who_is_a_container_by_its_own_cgroup_is_asked_for_by_that(scratch: Path) -> None:
    with engine_on(scratch) as (engine, tree):
        tree.write("proc/1/cgroup", "0::/all/other\n")
        asked = Asked(one={"cpus": "cpuset"}, other={"topology": "host"})
        engine.configure(ask=asked)
        tree.write(f"proc/{ONE.pid}/cgroup", "0::/all/other\n")
        assert cpus(engine, ONE) == 1
        assert asked.names == ["other"]
        assert asked.calls[0][0] == ONE.pidns
        engine.open(1, "proc/cpuinfo").render()
        assert asked.names == ["other", "other"]
        assert asked.calls[1][0] != ONE.pidns


def test_what_is_open_follows_new_settings_too(scratch: Path) -> None:
    with engine_on(scratch) as (engine, _):
        online = engine.open(ONE.pid, "sys/devices/system/cpu/online")
        package = engine.open(ONE.pid, "sys/devices/system/cpu/cpu0/topology/core_siblings_list")
        uptime = engine.open(OTHER.pid, "proc/uptime")
        since_init = uptime.render().split()[0]
        engine.configure(ask=(first := Asked(one={"cpus": "cpuset", "topology": "host"})))
        # At once, and not when they are read next.
        assert sorted(first.names) == ["one", "other"]
        assert online.render() == b"0-2\n"
        hosts = package.render()
        engine.configure(uptime="host", ask=Asked(other={"uptime": "host"}))
        assert (online.render(), package.render()) == (b"0\n", b"0\n")
        assert hosts != b"0\n"
        assert uptime.render().split()[0] != since_init
        engine.configure(cpus="cpuset")
        assert (online.render(), uptime.render().split()[0]) == (b"0-2\n", since_init)
        engine.configure(ask=Asked())
        assert online.render() == b"0\n"


def test_an_init_that_moves_is_asked_for_again(scratch: Path) -> None:
    with engine_on(scratch) as (engine, tree):
        asked = Asked(other={"cpus": "cpuset"})
        engine.configure(ask=asked)
        assert cpus(engine, ONE) == 1
        for pid in (ONE.init_pid, ONE.pid):
            tree.write(f"proc/{pid}/cgroup", "0::/all/other\n")
        assert cpus(engine, ONE) == 3
        assert asked.names == ["one", "other"]


def test_an_init_that_moves_while_it_is_asked_for_is_asked_for_at_the_next_read(scratch: Path) -> None:
    with engine_on(scratch) as (engine, tree):
        asked = Asked(other={"cpus": "cpuset"})

        def ask(pid_namespace: int, start_ticks: int, cgroups: bytes) -> dict[str, Any]:
            if not asked.names:
                for pid in (ONE.init_pid, ONE.pid):
                    tree.write(f"proc/{pid}/cgroup", "0::/all/other\n")
                asked.names.append("moving")
                engine.open(ONE.pid, "proc/uptime")
            return asked(pid_namespace, start_ticks, cgroups)

        engine.configure(ask=ask)
        view = engine.open(ONE.pid, "proc/cpuinfo")
        assert view.render().decode().count("processor\t:") == 3
        assert asked.names == ["moving", "other", "one", "other"]


def test_what_goes_wrong_is_the_readers_and_is_tried_again(scratch: Path) -> None:
    def fail(*_: object) -> Mapping[str, Any]:
        raise RuntimeError("no rules today")

    with engine_on(scratch) as (engine, _):
        view = engine.open(ONE.pid, "proc/cpuinfo")
        engine.configure(ask=fail)
        for _ in range(2):
            with pytest.raises(RuntimeError, match="no rules today"):
                view.render()
        with pytest.raises(RuntimeError, match="no rules today"):
            engine.open(OTHER.pid, "proc/cpuinfo")
        engine.configure(ask=Asked(one={"cpus": "all"}))
        with pytest.raises(ValueError, match="cpus: 'all' is neither 'quota' nor 'cpuset'"):
            view.render()
        engine.configure(ask=Asked(one={"cpus": "cpuset"}))
        assert view.render().decode().count("processor\t:") == 3


def test_new_settings_while_many_read(scratch: Path) -> None:
    """Each text is one of the two that there can be, and after the change only the new one."""
    with engine_on(scratch) as (engine, _):
        over, odd = threading.Event(), list[bytes]()
        views = [engine.open(of.pid, "sys/devices/system/cpu/online") for of in (ONE, OTHER)]

        def read() -> None:
            while not over.is_set():
                odd.extend(text for view in views if (text := view.render()) not in (b"0\n", b"0-2\n"))

        threads = [threading.Thread(target=read) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            for turn in range(200):
                one, other = ({"cpus": "cpuset" if turn % 2 == which else "quota"} for which in (0, 1))
                engine.configure(ask=Asked(one=one, other=other))
                texts = [view.render() for view in views]
                assert texts == ([b"0-2\n", b"0\n"] if turn % 2 == 0 else [b"0\n", b"0-2\n"]), turn
        finally:
            over.set()
            for thread in threads:
                thread.join()
        assert not odd
