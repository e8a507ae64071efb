"""The daemon's side of a descriptor store: what it takes over from the environment, and what it sends."""

import os
import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from procview.notify import Notifier
from procview.store import Store
from tests.supervise.process import ROOT
from tests.timing import patient

NAMES = ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "LISTEN_PIDFDID", "NOTIFY_SOCKET", "FDSTORE")
TOLD = """
import fcntl, os, subprocess, sys
from procview import logs
from procview.store import Store
logs.set_up("info")
{before}
store = Store.from_environment()
found = []
for name in {asked!r}:
    while (fd := store.inherited(name)) is not None:
        assert fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
        found.append(f"{{name}}:{{os.readlink(f'/proc/self/fd/{{fd}}')}}")
store.close_rest()
print(" ".join(found) or "nothing")
child = "echo ${{LISTEN_FDS-}}${{LISTEN_PID-}}${{LISTEN_FDNAMES-}}; ls /proc/$$/fd"
print(subprocess.check_output(["sh", "-c", child]))
"""


def told(environment: str, asked: tuple[str, ...] = ("a", "b"), before: str = "") -> tuple[list[str], str, str]:
    """What a process takes over that has descriptors 3 and 4, and what it logs. $$ is its pid."""
    code = TOLD.format(asked=asked, before=before)
    script = f'{environment} exec "$@" 3</dev/null 4</dev/zero'
    clean = {name: value for name, value in os.environ.items() if name not in NAMES}
    done = subprocess.run(["sh", "-c", script, "sh", sys.executable, "-c", code], cwd=ROOT, env=clean, check=True,
                          capture_output=True, text=True, stdin=subprocess.DEVNULL)  # fmt: skip
    found, child = done.stdout.splitlines()
    return found.split(), child, done.stderr


def test_descriptors_come_under_their_names_and_go_no_further() -> None:
    found, child, said = told("LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=a:b")
    assert found == ["a:/dev/null", "b:/dev/zero"]
    assert said == ""
    assert child == r"b'\n0\n1\n2\n'", "neither variables nor descriptors"


def test_several_have_one_name() -> None:
    found, _, _ = told("LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=a:a")
    assert found == ["a:/dev/null", "a:/dev/zero"]


def test_without_names_they_are_unknown() -> None:
    found, _, _ = told("LISTEN_PID=$$ LISTEN_FDS=2", asked=("unknown",))
    assert len(found) == 2


def test_what_nobody_asks_for_is_closed() -> None:
    found, child, said = told("LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=c:a")
    assert found == ["a:/dev/zero"]
    assert "a descriptor named 'c' was handed in, which is of no use here: closed" in said
    assert child == r"b'\n0\n1\n2\n'"


@pytest.mark.parametrize(
    ("environment", "why"),
    [
        ("LISTEN_PID=1 LISTEN_FDS=2 LISTEN_FDNAMES=a:b", "LISTEN_PID is '1'"),
        ("LISTEN_FDS=2", "LISTEN_PID is None"),
        ("LISTEN_PID=me LISTEN_FDS=2", "LISTEN_PID is 'me'"),
        ("LISTEN_PID=$$ LISTEN_FDS=", "LISTEN_FDS= refused"),
        ("LISTEN_PID=$$ LISTEN_FDS=0", "LISTEN_FDS=0 refused"),
        ("LISTEN_PID=$$ LISTEN_FDS=-1", "LISTEN_FDS=-1 refused"),
        ("LISTEN_PID=$$ LISTEN_FDS=2x", "LISTEN_FDS=2x refused"),
        ("LISTEN_PID=$$ LISTEN_FDS=٢", "refused: it must be from 1 to 64"),
        ("LISTEN_PID=$$ LISTEN_FDS=1000000000000", "LISTEN_FDS=1000000000000 refused"),
        ("LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=a", "LISTEN_FDNAMES='a' refused"),
        ("LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=a:b:c", "LISTEN_FDNAMES='a:b:c' refused"),
        ("LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=a:", "LISTEN_FDNAMES='a:' refused"),
        ("LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=\"a:b\n\"", r"LISTEN_FDNAMES='a:b\n' refused"),
    ],
)  # fmt: skip
def test_what_is_odd_is_refused(environment: str, why: str) -> None:
    found, child, said = told(environment)
    assert found == ["nothing"]
    assert why in said
    assert said.count("\n") == 1
    assert child.startswith(r"b'\n"), "the variables go all the same"


def test_more_than_there_are_is_said() -> None:
    found, _, said = told("LISTEN_PID=$$ LISTEN_FDS=3 LISTEN_FDNAMES=a:b:b")
    assert found == ["a:/dev/null", "b:/dev/zero"]
    assert "LISTEN_FDS=3, but there is no descriptor 5: left out" in said


def test_what_this_process_has_opened_is_not_taken_for_it() -> None:
    found, _, said = told("LISTEN_PID=$$ LISTEN_FDS=3 LISTEN_FDNAMES=a:b:b", before="its = open('/proc/stat')")
    assert found == ["a:/dev/null", "b:/dev/zero"]
    assert "the descriptor 5 is one of this process's own: left out" in said


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(str(tmp_path / "notify"))
        end.settimeout(patient(5))
        yield end


def received(manager: socket.socket) -> tuple[set[str], list[str]]:
    message, rights, _, _ = socket.recv_fds(manager, 4096, 10)
    names = []
    for fd in rights:
        names.append(os.readlink(f"/proc/self/fd/{fd}"))
        os.close(fd)
    return set(message.decode().split("\n")), names


def test_keeping_and_forgetting(manager: socket.socket) -> None:
    store = Store.from_environment()
    with open("/dev/null", "rb") as file:
        assert store.keep("fuse", file.fileno())
        assert os.fstat(file.fileno()), "it is still ours"
    assert received(manager) == ({"FDSTORE=1", "FDNAME=fuse", "FDPOLL=0"}, ["/dev/null"])
    assert store.forget("fuse")
    assert received(manager) == ({"FDSTOREREMOVE=1", "FDNAME=fuse"}, [])
    for name in ("", "a:b", "a\nREADY=1", "ä", "x" * 256):
        with pytest.raises(ValueError, match="no name for a descriptor"):
            store.keep(name, 0)
    store.notifier.close()


def test_what_nobody_asks_for_is_forgotten_as_well(manager: socket.socket) -> None:
    fds = [os.open("/dev/null", os.O_RDONLY) for _ in range(3)]
    store = Store(Notifier.from_environment(), zip(("fuse", "fuse", "other"), fds, strict=True))
    taken = store.inherited("fuse")
    assert taken == fds[0]
    store.close_rest()
    assert received(manager) == ({"FDSTOREREMOVE=1", "FDNAME=other"}, [])
    poll = select.poll()
    poll.register(manager, select.POLLIN)
    assert not poll.poll(100), "a name that was asked for is still kept, and its descriptors are"
    for fd in fds[1:]:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
    os.close(taken)
    store.notifier.close()


@pytest.mark.usefixtures("manager")
@pytest.mark.parametrize("limit", ["0", "", "x", "-1"])
def test_a_manager_that_says_that_it_keeps_nothing_is_not_sent_anything(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, limit: str
) -> None:
    monkeypatch.setenv("FDSTORE", limit)
    store = Store.from_environment()
    caplog.set_level("INFO")
    assert not store.keep("a", 0)
    assert not store.keep("a", 0)
    assert [record.getMessage() for record in caplog.records] == [
        f"the service manager keeps no descriptors (FDSTORE={limit}): when this daemon dies, the next one starts anew"
    ]
    store.notifier.close()


def test_without_a_manager_nothing_is_kept(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    caplog.set_level("INFO")
    store = Store.from_environment()
    assert not caplog.records
    assert store.inherited("fuse") is None
    assert not store.keep("fuse", 0)
    assert not store.forget("fuse")
    assert "nobody keeps descriptors" in caplog.text
    store.close_rest()


def test_a_manager_that_does_not_read_is_waited_for_a_moment_only(
    manager: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store.from_environment()
    for _ in range(1000):
        if not store.notifier.send("STATUS=full"):
            break
    assert not store.keep("a", 0)
    assert caplog.text.count("NOTIFY_SOCKET does not take messages") == 1
    while received(manager)[0] == {"STATUS=full"}:
        manager.setblocking(False)
        if not select.select([manager], [], [], 0)[0]:
            break
    assert store.keep("a", 0)
    store.notifier.close()
