"""``procview top`` on a terminal: a real daemon, a real container, keys, signals; and the terminal as it was."""

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import session
from tests.cli.terminal import Program, Screen, without_size
from tests.containers.cgroups import Limits
from tests.containers.conftest import usable
from tests.containers.engines import RUNC, Container, Hook
from tests.containers.rootfs import Rootfs
from tests.containers.served import Daemon
from tests.daemon.process import eventually, needs_mount

pytestmark = needs_mount

COMMAND = [sys.executable, "-m", "procview"]
MEMORY_BYTES = 96 << 20


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    with session.temporary_directory() as directory:
        yield directory


@pytest.fixture(scope="module")
def daemon(directory: Path) -> Iterator[Daemon]:
    daemon = Daemon.start(directory).listens()
    yield daemon
    daemon.stop()


@pytest.fixture(scope="module")
def container(directory: Path, daemon: Daemon) -> Iterator[Container]:
    hook = Hook.create(directory, daemon.run_directory)
    rootfs = Rootfs.create(directory / "rootfs")
    with usable(RUNC).start(rootfs, Limits(memory_bytes=MEMORY_BYTES, cpus=0.5), views=hook) as container:
        container.read("/proc/meminfo")
        yield container


def top(daemon: Daemon, *options: str, columns: int = 80, rows: int = 24, **environment: str) -> Program:
    words = ["top", "--seconds", "1", *daemon.options, *options]
    return Program([*COMMAND, *words], columns=columns, rows=rows, **environment)


def line_of(screen: Screen, name: str) -> str:
    """Its row of the table, where its name is cut in narrow ones."""
    return next((line for line in screen.lines if line[2:].startswith(name[:11])), "")


def is_as_before(program: Program) -> None:
    assert not program.screen.is_alternate
    assert program.screen.has_cursor
    assert program.modes_now() == program.modes


def test_it_shows_the_container_and_heeds_keys(daemon: Daemon, container: Container) -> None:
    name = container.name
    with top(daemon, "--filter", name, columns=100) as program:
        program.shows(lambda screen: f" {name} " in screen.text and " 96M " in line_of(screen, name), "the container")
        assert program.screen.is_alternate
        assert not program.screen.has_cursor
        assert program.screen.lines[0].startswith("procview ")
        program.type("n")
        program.shows(lambda screen: "; by name;" in screen.text, "another order")
        program.type("\r")
        program.shows(lambda screen: "memory available" in screen.text, "the container in detail")
        total = next(line for line in program.screen.lines if line.startswith("memory  "))
        assert total.split()[1] == "96M"
        assert total.split()[2] != "96M"
        program.type("\x1b")
        program.shows(lambda screen: "memory available" not in screen.text, "the table again")
        program.type("/no-such-thing\r")
        program.shows(lambda screen: "0 with 'procview-test" in screen.text, "nothing that passes the filter")
        program.type("h")
        program.shows(lambda screen: "by reads of views a second" in screen.text, "the help")
        program.type("q")
        assert program.ends() == 0
        is_as_before(program)


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGINT, 0), (signal.SIGTERM, 128 + signal.SIGTERM), (signal.SIGHUP, 128 + signal.SIGHUP)],
)
def test_a_signal_ends_it_and_gives_the_terminal_back(daemon: Daemon, number: int, status: int) -> None:
    if signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip("these tests were started with this signal ignored (nohup), and so are their programs")
    with top(daemon) as program:
        program.shows(lambda screen: screen.is_alternate and "quit" in screen.text, "the screen")
        program.signal(number)
        assert program.ends() == status
        is_as_before(program)
        assert "Traceback" not in program.screen.said


def test_control_c_is_a_way_to_quit(daemon: Daemon) -> None:
    with top(daemon) as program:
        program.shows(lambda screen: "quit" in screen.text, "the screen")
        program.type("\x03")
        assert program.ends() == 0
        is_as_before(program)


_WRITE = {"x86_64": "1", "aarch64": "64", "ppc64le": "4", "riscv64": "64", "s390x": "4"}


@pytest.mark.skipif(os.uname().machine not in _WRITE, reason="which number write(2) has here is not known to this test")
def test_it_is_ended_while_the_terminal_takes_nothing(daemon: Daemon) -> None:
    """Ctrl-S: the next write waits for as long as nobody presses Ctrl-Q."""
    with top(daemon) as program:
        program.shows(lambda screen: "quit" in screen.text, "the screen")
        program.type("\x13")
        eventually(lambda: _waits_in_write(program.process.pid), "a write that waits")
        program.signal(signal.SIGTERM)
        assert program.ends() == 128 + signal.SIGTERM
        is_as_before(program)


def _waits_in_write(pid: int) -> bool:
    number = Path(f"/proc/{pid}/syscall").read_text(encoding="ascii").split()[0]
    return number == _WRITE[os.uname().machine]


def test_an_error_in_it_gives_the_terminal_back(daemon: Daemon, tmp_path: Path) -> None:
    program_text = """
import procview.screen.live as live
from procview.cli import main
def broken(*arguments): raise ValueError("broken on purpose")
live.rows = broken
main()
"""
    script = tmp_path / "broken.py"
    script.write_text(program_text, encoding="utf-8")
    words = [sys.executable, str(script), "top", *daemon.options]
    with Program(words, PYTHONPATH=str(Path(__file__).parents[2])) as program:
        program.shows(lambda screen: "quit" in screen.text, "the screen")
        program.type("n")
        assert program.ends() == 1
        is_as_before(program)
        assert "ValueError: broken on purpose" in program.screen.said


def test_control_z_gives_the_terminal_back_until_it_goes_on(daemon: Daemon) -> None:
    top_here = shlex.join([*COMMAND, "top", *daemon.options])
    script = f"set -m; {top_here}; echo is stopped; read word; echo goes on; fg >/dev/null; echo has ended: $?"
    with Program(["sh", "-c", script]) as program:
        program.shows(lambda screen: "quit" in screen.text, "the screen")
        program.type("\x1a")
        program.shows(lambda screen: "is stopped" in screen.said, "the shell's own words")
        is_as_before(program)
        program.type("\n")
        program.shows(lambda screen: screen.is_alternate and "quit" in screen.text, "the screen once more")
        program.type("q")
        assert program.ends() == 0
        assert "goes on\r\nhas ended: 0\r\n" in program.screen.said
        is_as_before(program)


def test_it_follows_the_size_of_the_terminal(daemon: Daemon, container: Container) -> None:
    name = container.name
    with top(daemon, "--filter", name, columns=100) as program:
        program.shows(lambda screen: "SWAP" in screen.text and name in screen.text, "all columns")
        program.resize(50, 10)
        program.shows(lambda screen: "CPU%" in screen.text and line_of(screen, name), "the narrow screen")
        assert "SWAP" not in program.screen.text
        assert "MEM%" in program.screen.text
        program.resize(20, 3)
        program.shows(lambda screen: screen.lines[0].startswith("procview"), "the smallest screen")
        program.type("q")
        assert program.ends() == 0


def test_it_goes_on_when_the_daemon_is_started_again(container: Container) -> None:
    """A daemon of its own, for the other tests' is needed."""
    with session.temporary_directory() as own:
        daemon = Daemon.start(own).listens()
        try:
            with top(daemon, "--filter", container.name, columns=120) as program:
                program.shows(lambda screen: line_of(screen, container.name), "the container")
                daemon.terminate()
                program.shows(lambda screen: "asking again: cannot connect to " in screen.text, "that it is gone")
                assert line_of(program.screen, container.name)
                daemon.start_again()
                program.shows(lambda screen: f"pid {daemon.process.pid} " in screen.text, "the next daemon")
                program.shows(lambda screen: "asking again" not in screen.text, "that all is well")
                program.type("q")
                assert program.ends() == 0
                is_as_before(program)
        finally:
            daemon.stop()


def test_without_colour_nothing_is_coloured(daemon: Daemon) -> None:
    with top(daemon, NO_COLOR="1") as program:
        program.shows(lambda screen: "quit" in screen.text, "the screen")

        assert not re.search(rb"\x1b\[[0-9;]*[34][0-9][0-9;]*m", program.screen.raw)
        program.type("q")
        assert program.ends() == 0


def test_on_a_dumb_terminal_and_without_one_it_prints_one_table(daemon: Daemon, container: Container) -> None:
    name = container.name
    with top(daemon, "--filter", name, TERM="dumb") as program:
        assert program.ends() == 0
        assert b"\x1b" not in program.screen.raw
        assert name[:11] in program.screen.said
        is_as_before(program)
    words = [*COMMAND, "top", "--seconds", "1", "--filter", name, *daemon.options]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=without_size())
    assert (done.returncode, done.stderr) == (0, "")
    line = next(line for line in done.stdout.splitlines() if line[2:].startswith(f"{name} "))
    assert " 96M " in line
    assert "\x1b" not in done.stdout


def test_once_ends_on_a_terminal_too(daemon: Daemon, container: Container) -> None:
    with top(daemon, "-b", "--filter", container.name) as program:
        assert program.ends() == 0
        assert not program.screen.is_alternate
        assert container.name[:11] in program.screen.said


def test_rates_are_of_the_interval(daemon: Daemon, container: Container) -> None:
    """A container that reads without a pause has reads a second, and uses what its quota lets it."""
    reader = container.popen(["sh", "-c", "while :; do read line < /proc/meminfo; done"])
    try:
        with top(daemon, "--filter", container.name, columns=100) as program:

            def works(screen: Screen) -> bool:
                words = line_of(screen, container.name).split()
                return bool(words) and words[-1] not in ("-", "0") and words[1] not in ("-", "0")

            program.shows(works, "reads a second and a share of the CPU")
            program.type("q")
            assert program.ends() == 0
    finally:
        reader.kill()
        reader.wait()


def test_no_daemon_is_an_error_at_the_start(tmp_path: Path) -> None:
    done = subprocess.run([*COMMAND, "top", "--run-directory", str(tmp_path / "run")], capture_output=True, text=True,
                          check=False)  # fmt: skip
    assert done.returncode == 1
    assert f"cannot connect to {tmp_path}/run/control.sock: No such file or directory; is the daemon" in done.stderr
