"""Containers that are shown differently by one daemon: tables, annotations, changes while they run, and why."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import lane as lane_modes
from tests import session
from tests.containers.cgroups import Limits
from tests.containers.conftest import MEMORY_BYTES, default_limits, two_cpus, usable
from tests.containers.engines import CRUN, RUNC, Container, Engine, Hook
from tests.containers.rootfs import Rootfs
from tests.containers.served import Daemon
from tests.timing import paced_settings, patient, unhurried_settings

Start = Callable[..., Container]


@dataclass
class Served:
    """A daemon, its hook, and the configuration that it was told."""

    daemon: Daemon
    hook: Hook

    @property
    def config(self) -> Path:
        return self.daemon.directory / "config.toml"

    def write(self, text: str) -> None:
        self.config.write_text(paced_settings() + unhurried_settings() + text, encoding="utf-8")

    def reload(self, text: str) -> None:
        """Have it read ``text``, and wait until that counts."""
        before = self.daemon.said().count("configuration reloaded")
        self.write(text)
        self.daemon.process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + patient(20)
        while self.daemon.said().count("configuration reloaded") == before:
            assert time.monotonic() < deadline, self.daemon.said()
            time.sleep(0.01)

    def explained(self, *words: str) -> list[str]:
        result = self.daemon.command("config", "explain", *words, *self.daemon.options)
        assert (result.returncode, result.stderr) == (0, "")
        return result.stdout.splitlines()

    def line(self, text: str) -> str:
        """Where ``text`` stands in the configuration, as FILE:LINE."""
        lines = self.config.read_text(encoding="utf-8").splitlines()
        return f"{self.config}:{lines.index(text) + 1}"


@pytest.fixture(scope="module", params=[lane_modes.DEV, lane_modes.NONE])
def served(request: pytest.FixtureRequest, _privileges: None) -> Iterator[Served]:
    with session.temporary_directory() as directory, session.temporary_directory() as program:
        daemon = Daemon.start(directory, unhurried_settings(), lane=request.param)
        yield Served(daemon, Hook.create(program, daemon.run_directory))
        complaints = [line for line in daemon.said().splitlines() if "Traceback" in line or "ERROR" in line]
        daemon.stop()
        assert not complaints, complaints


@pytest.fixture(params=[RUNC, CRUN], ids=lambda engine: engine.name)
def start(request: pytest.FixtureRequest, rootfs: Rootfs, served: Served) -> Iterator[Start]:
    engine: Engine = usable(request.param)
    running: list[Container] = []

    def one(limits: Limits | None = None, **options: object) -> Container:
        begin: Callable[..., Container] = engine.start
        running.append(begin(rootfs, limits or default_limits(), views=served.hook, **options))
        assert served.hook.said() == ""
        return running[-1]

    yield one
    for container in running:
        container.stop()
    served.reload("")


def sees_uptime_of(container: Container) -> str:
    def host() -> float:
        return float(Path("/proc/uptime").read_text(encoding="ascii").split()[0])

    before = host()
    seen = float(container.read("/proc/uptime").split()[0])
    return "host" if before <= seen <= host() else "container"


def sees_cpus(container: Container) -> int:
    return container.read("/proc/cpuinfo").count("processor\t:")


def test_two_containers_follow_two_tables_and_changes_show_in_the_next_read(start: Start, served: Served) -> None:
    one, other = start(), start()
    assert [sees_uptime_of(container) for container in (one, other)] == ["container", "container"]
    tables = '[[container]]\nid = "{}"\nuptime = "host"\n[[container]]\nid = "{}*"\nuptime = "{}"\n'
    served.reload(tables.format(one.name, other.name, "container"))
    assert [sees_uptime_of(container) for container in (one, other)] == ["host", "container"]
    # Of both whoever comes later, too.
    served.reload(tables.format(one.name, other.name, "host"))
    assert [sees_uptime_of(container) for container in (one, other, start())] == ["host", "host", "container"]
    served.reload(f'uptime = "host"\n[[container]]\ncgroup = "*/{one.name}"\nuptime = "container"\n')
    assert [sees_uptime_of(container) for container in (one, other)] == ["container", "host"]
    served.reload("")
    assert [sees_uptime_of(container) for container in (one, other)] == ["container", "container"]


def test_a_new_container_follows_its_table_from_its_first_read_on(start: Start, served: Served) -> None:
    cpuset = two_cpus()
    served.reload(f'[[container]]\nid = "{session.SESSION}-*"\ncpus = "cpuset"\n')
    one = start(Limits(memory_bytes=MEMORY_BYTES, cpuset=cpuset, cpus=1.0))
    assert sees_cpus(one) == 2
    assert one.output(["cat", "/sys/devices/system/cpu/online"]) == "0-1\n"
    served.reload('[[container]]\nid = "somebody else"\ncpus = "cpuset"\n')
    assert sees_cpus(one) == 1
    assert one.output(["cat", "/sys/devices/system/cpu/online"]) == "0\n"


def test_annotations_count_where_the_file_says_so_also_for_the_next_daemon(start: Start, served: Served) -> None:
    annotations = {"org.procview.uptime": "host", "io.kubernetes.cri.image-name": "docker.io/library/nginx:1"}
    one = start(annotations=annotations)
    assert sees_uptime_of(one) == "container"
    served.reload("annotations = true\n")
    assert sees_uptime_of(one) == "host"
    served.daemon.start_again()
    assert sees_uptime_of(one) == "host"
    served.reload('annotations = true\n[[container]]\nimage = "*/nginx:*"\nuptime = "container"\n')
    assert sees_uptime_of(one) == "container"
    served.reload('annotations = true\n[[container]]\nimage = "*/nginx:*"\nannotations = false\n')
    assert sees_uptime_of(one) == "container"


def test_annotations_of_a_container_that_started_without_a_daemon_count(start: Start, served: Served) -> None:
    served.write("annotations = true\n")
    served.daemon.terminate()
    one = start(annotations={"org.procview.uptime": "host", "org.procview.swap": "perhaps"})
    served.daemon.start_again()
    assert sees_uptime_of(one) == "host"
    assert (
        f'container {one.name}: the annotation org.procview.swap = "perhaps" is not allowed; it must be true or false'
        in served.daemon.said()
    )


@pytest.mark.parametrize("start", [pytest.param(RUNC, id="runc")], indirect=True)
def test_loads_are_sampled_for_the_containers_that_are_shown_theirs(start: Start, served: Served) -> None:
    one, other = start(), start()
    served.reload(f'loadavg = false\n[[container]]\nid = "{one.name}"\nloadavg = true\n')
    assert int(one.read("/proc/loadavg").split()[3].partition("/")[2]) < 5
    with one.popen(["sh", "-c", "while :; do :; done"], stdin=subprocess.DEVNULL) as entering:
        try:
            deadline = time.monotonic() + patient(60)
            while float(one.read("/proc/loadavg").split()[0]) == 0:
                assert time.monotonic() < deadline
                time.sleep(0.2)
        finally:
            entering.kill()  # what runs inside goes with the container
    threads = int(other.read("/proc/loadavg").split()[3].partition("/")[2])
    assert threads > 20, "the host's"


def test_it_is_explained_which_line_decides(start: Start, served: Served) -> None:
    one = start(annotations={"org.procview.loadavg": "false", "org.procview.topology": "host"})
    table = f'id = "{one.name}"'
    served.write(
        f'swap = false\n[[container]]\nid = "nobody"\n[[container]]\n{table}\n'
        'uptime = "host"\ntopology = "host"\nannotations = true\n'
    )
    lines = served.explained(one.name)
    assert lines == served.explained("--pid", str(one.pid))
    assert lines[0] == f"container {one.name}"
    assert any(line.startswith("  cgroup /") and line.endswith(one.name) for line in lines)
    heading = served.line(table).rpartition(":")
    assert f"{heading[0]}:{int(heading[2]) - 1}: [[container]] with {table} is for it" in lines
    words = [line.split() for line in lines]
    assert ["cpus", "=", '"quota"', "default"] in words
    assert ["topology", "=", '"host"', served.line('topology = "host"')] in words
    assert ["swap", "=", "false", served.line("swap = false")] in words
    assert ["uptime", "=", '"host"', served.line('uptime = "host"')] in words
    assert ["loadavg", "=", "false", "annotation", "org.procview.loadavg"] in words
    served.write('[[container]]\nimage = "x"\n')
    lines = served.explained("--pid", str(one.pid))
    assert "no table [[container]] is for it" in lines
    assert "its annotations do not count: annotations = false (default)" in lines
    lines = served.explained("--pid", str(os.getpid()))
    assert lines[-1].startswith("not known: its image and its annotations")
