"""The hook as a process: exits 0 in time whatever it is started with, and says what failed where it was told to."""

import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from procview.shipped import hook_program
from procview.slots.skeleton import Skeleton
from tests.daemon.process import Place, eventually
from tests.hook.conftest import Prepare
from tests.hook.prepared import BOUND, HookProcess, assert_attached, state_of
from tests.timing import patient


def test_the_help_is_complete() -> None:
    done = subprocess.run([hook_program(), "--help"], capture_output=True, text=True, check=True, timeout=patient(20))
    for word in ("--run-directory", "--log", "--deadline", "--attach", "--detach", "--lxc", "without /sys"):
        assert word in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 120


@pytest.mark.parametrize("options", [["--wrong"], ["--deadline", "soon"], ["--deadline"]])
def test_a_wrong_option_does_not_stop_a_container(options: list[str], prepare: Prepare, hook: HookProcess) -> None:
    hook.run(state_of(prepare()), *options)
    (line,) = hook.says()
    assert options[0] in line


@pytest.mark.parametrize("arguments", [["--attach", "x"], ["--detach"], ["--attach", "-1"], ["--detach", "1", "--bad"]])
def test_wrong_use_by_hand_is_told(arguments: list[str]) -> None:
    done = subprocess.run(
        [hook_program(), *arguments], capture_output=True, text=True, check=False, timeout=patient(20)
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("procview-hook: ")


def test_a_state_that_never_ends_is_given_up(hook: HookProcess) -> None:
    began = time.monotonic()
    argv = hook.argv("--deadline", "0.3")
    with subprocess.Popen(argv, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has given up already
            process.stdin.write(b'{"id":"c1",')
        assert process.wait(patient(20)) == 0
        assert 0.2 < time.monotonic() - began < patient(5)
    assert hook.says() == ["gave up after 0.3 s: the container starts with what is mounted until now"]


def child_of(process: "subprocess.Popen[bytes]") -> int:
    """The one that does the work."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    eventually(lambda: children.read_text(encoding="ascii"), "a child")
    return int(children.read_text(encoding="ascii").split()[0])


def test_nobody_waits_for_a_child_that_is_stuck(hook: HookProcess) -> None:
    """An engine waits until the hook's output is closed by everyone; one that was given up may live on for a while."""
    with subprocess.Popen(
        hook.argv("--deadline", "5"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        assert process.stdout is not None
        child = child_of(process)
        try:
            eventually(lambda: os.readlink(f"/proc/{child}/fd/2") == "/dev/null", "another output")
            os.kill(child, signal.SIGSTOP)
            process.kill()
            assert process.stdout.read() == b""
        finally:
            os.kill(child, signal.SIGKILL)


def test_a_child_that_dies_is_told(hook: HookProcess) -> None:
    with subprocess.Popen(hook.argv(), stdin=subprocess.PIPE) as process:
        os.kill(child_of(process), signal.SIGKILL)
        assert process.wait(patient(20)) == 0
    assert hook.says() == ["ended without a word"]


@pytest.mark.parametrize("closed", ["<&-", "<&- >&- 2>&-", ">&- 2>&-", "</dev/null >/dev/full 2>/dev/full"])
def test_closed_standard_files_do_no_harm(
    closed: str, place: Place, prepare: Prepare, hook: HookProcess, skeleton: Skeleton
) -> None:
    container = prepare()
    (place.directory / "state").write_text(json.dumps(state_of(container)), encoding="utf-8")
    script = f'exec "$@" {closed}'
    hook.run((place.directory / "state").read_bytes(), prefix=["sh", "-c", script, "sh"])
    if "<" in closed:
        (line,) = hook.says()
        assert "the state on standard input is not JSON" in line
    else:
        assert hook.says() == []
        assert_attached(container, skeleton)


def test_what_is_in_the_environment_does_no_harm(
    place: Place, prepare: Prepare, hook: HookProcess, skeleton: Skeleton
) -> None:
    container = prepare()
    for name in ("json", "os", "ctypes", "sitecustomize"):
        (place.directory / f"{name}.py").write_text("raise SystemExit(5)", encoding="utf-8")
    environment = {"PYTHONPATH": str(place.directory), "PYTHONHOME": "/no/such", "PYTHONSTARTUP": "/etc/passwd",
                   "LC_ALL": "C", "LANG": "xx_XX", "TZ": "\x01" * 5000, "PYTHONIOENCODING": "nonsense"}  # fmt: skip
    hook.run(state_of(container), env=environment, cwd=place.directory)
    assert hook.says() == []
    assert_attached(container, skeleton)


def test_the_signals_that_an_engine_ignores_do_no_harm(prepare: Prepare, hook: HookProcess, skeleton: Skeleton) -> None:
    container = prepare()
    ignoring = ["sh", "-c", "trap '' CHLD PIPE INT TERM ALRM; exec \"$@\"", "sh"]
    hook.run(state_of(container), prefix=["env", "--ignore-signal=CHLD", *ignoring])
    assert hook.says() == []
    assert_attached(container, skeleton)


@pytest.mark.parametrize("umask", ["000", "777", "022"])
def test_the_log_is_the_owners_alone(umask: str, hook: HookProcess) -> None:
    hook.run(b"", prefix=["sh", "-c", f'umask {umask}; exec "$@"', "sh"])
    assert stat.S_IMODE(hook.log.stat().st_mode) == 0o600
    hook.run(b"")
    assert len(hook.log.read_text(encoding="utf-8").splitlines()) == 2


def test_a_log_that_is_a_link_or_that_nobody_reads_is_not_used(place: Place, hook: HookProcess) -> None:
    victim = place.directory / "victim"
    victim.write_text("", encoding="utf-8")
    hook.log.symlink_to(victim)
    hook.run(b"")
    assert victim.read_text(encoding="utf-8") == ""
    hook.log.unlink()
    os.mkfifo(hook.log)
    hook.run(b"")
    hook.log.unlink()


@pytest.fixture
def system_log(place: Place) -> Iterator[socket.socket]:
    """What is to be /dev/log, in a folder that is to be /dev."""
    folder = place.directory / "dev"
    folder.mkdir()
    os.mknod(folder / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(folder / "log"))
        listener.settimeout(20)
        yield listener


def test_without_a_log_file_it_is_said_to_syslog(place: Place, system_log: socket.socket) -> None:
    script = f'mount --bind {place.directory}/dev /dev && exec "$@"'
    argv = ["unshare", "--mount", "sh", "-c", script, "sh", hook_program(), "--run-directory", str(place.run_directory)]
    done = subprocess.run(argv, input=b'{"pid":1', capture_output=True, check=False, timeout=patient(20))
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    said = system_log.recv(65536).decode()
    priority, _, text = said.partition(">")
    assert priority == "<28"  # daemon.warning
    assert " procview-hook[" in text
    assert "]: container (unknown): the state on standard input is not JSON" in text
    # Nobody reads any more, and there is no room left: nothing waits.
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as filler:
        with contextlib.suppress(BlockingIOError):
            while True:
                filler.sendto(b"x", str(place.directory / "dev/log"))
        done = subprocess.run(argv, input=b"", capture_output=True, check=False, timeout=patient(20))
        assert done.returncode == 0


def test_the_daemon_is_told_of_a_container(place: Place, prepare: Prepare, hook: HookProcess) -> None:
    container = prepare()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as daemon:
        daemon.bind(str(place.run_directory / "hook.sock"))
        daemon.settimeout(20)
        hook.run(state_of(container))
        assert json.loads(daemon.recv(65536)) == {"id": "c1", "pid": container.pid}
        daemon.setblocking(False)
        hook.run(state_of(prepare(BOUND)))
        with pytest.raises(BlockingIOError):
            daemon.recv(65536)
    # One that died, and left the socket, is nobody's trouble.
    hook.says()
    hook.run(state_of(prepare()))
    assert hook.says() == []
    (place.run_directory / "hook.sock").unlink()


def test_it_imports_nothing_of_the_package_and_little_of_python(place: Place, prepare: Prepare) -> None:
    program = Path(hook_program())
    text = program.read_text(encoding="utf-8")
    assert text.startswith("#!/usr/bin/python3 -IS\n")
    assert os.access(program, os.X_OK)
    container = prepare()
    argv = ["/usr/bin/python3", "-IS", "-X", "importtime", hook_program(), "--run-directory", str(place.run_directory)]
    done = subprocess.run(
        argv, input=json.dumps(state_of(container)), capture_output=True, text=True, check=True, timeout=patient(20)
    )
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "json" in imported
    slow = {"argparse", "logging", "dataclasses", "subprocess", "typing", "socket", "contextlib", "pathlib", "signal"}
    assert not imported & slow
    assert not any(name.startswith(("procview", "site")) for name in imported)
