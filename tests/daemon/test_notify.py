"""sd_notify and the watchdog, on a real socket with a real daemon behind it."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from procview.notify import Notifier, watchdog_seconds
from tests.daemon.process import DEADLINE_SECONDS, Place, eventually, needs_mount


class Manager:
    """The service manager's end of NOTIFY_SOCKET."""

    def __init__(self, name: str) -> None:
        self.address = name
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.settimeout(DEADLINE_SECONDS)
        self.socket.bind("\0" + name[1:] if name.startswith("@") else name)

    def next(self) -> dict[str, str]:
        return dict(line.split("=", 1) for line in self.socket.recv(65536).decode().splitlines())

    def until(self, key: str) -> dict[str, str]:
        """The next message that has ``key``."""
        while key not in (message := self.next()):
            pass
        return message


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    end = Manager(str(tmp_path / "notify") if request.param == "path" else f"@procview-test-{os.getpid()}")
    yield end
    end.socket.close()


def test_messages(manager: Manager) -> None:
    notifier = Notifier(manager.address)
    notifier.send("READY=1", "STATUS=two\nlines")
    assert manager.next() == {"READY": "1", "STATUS": "two lines"}
    notifier.close()
    notifier.send("READY=1")


def test_without_a_manager_nothing_happens(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Notifier(None).send("READY=1")
    Notifier("").send("READY=1")
    assert not caplog.records
    notifier = Notifier(str(tmp_path / "nobody"))
    notifier.send("READY=1")
    notifier.close()
    assert "NOTIFY_SOCKET" in caplog.text


def test_a_manager_that_does_not_read_stops_nobody(manager: Manager) -> None:
    notifier = Notifier(manager.address)
    for _ in range(10_000):
        notifier.send("STATUS=" + "x" * 1000)
    notifier.close()


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "3000000"}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
    ],
)
def test_watchdog_environment(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], seconds: float | None
) -> None:
    for name in ("WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert watchdog_seconds() == seconds


class TestDaemon:
    pytestmark = needs_mount

    def test_ready_reloading_stopping(self, place: Place, manager: Manager) -> None:
        daemon = place.start(ready=False, NOTIFY_SOCKET=manager.address)
        ready = manager.until("READY")  # before that, what it leaves for the next one
        assert str(place.mount) in ready["STATUS"]
        # READY means that reads are served from now on.
        assert (place.mount / "proc/uptime").read_bytes()
        daemon.process.send_signal(signal.SIGHUP)
        reloading = manager.next()
        assert reloading["RELOADING"] == "1"
        assert int(reloading["MONOTONIC_USEC"]) > 0
        assert manager.next()["READY"] == "1"
        daemon.process.send_signal(signal.SIGTERM)
        assert manager.next()["STOPPING"] == "1"
        assert daemon.ends() == 0

    def test_a_successor_is_the_main_process_and_the_service_does_not_stop(
        self, place: Place, manager: Manager
    ) -> None:
        environment = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "10000000"}
        daemon = place.start(ready=False, **environment)
        assert manager.until("READY")["MAINPID"] == str(daemon.process.pid)
        daemon.process.send_signal(signal.SIGUSR2)
        messages = [manager.until("MAINPID")]
        successor = int(messages[0]["MAINPID"])
        try:
            while "READY" not in messages[-1]:
                messages.append(manager.next())
            assert messages[-1]["MAINPID"] == str(successor)
            assert successor != daemon.process.pid
            assert not any("STOPPING" in message for message in messages)
            assert daemon.ends() == 0
            # From now on it is the successor that the watchdog hears.
            assert manager.until("WATCHDOG")
        finally:
            os.kill(successor, signal.SIGTERM)
        manager.until("STOPPING")
        eventually(lambda: not psutil.pid_exists(successor), "the successor's end")

    def test_the_watchdog_is_fed(self, place: Place, manager: Manager) -> None:
        daemon = place.start(ready=False, NOTIFY_SOCKET=manager.address, WATCHDOG_USEC="200000")
        for _ in range(3):
            assert manager.until("WATCHDOG")["WATCHDOG"] == "1"
        daemon.stop()

    def test_without_its_mount_it_ends(self, place: Place, manager: Manager) -> None:
        # What a daemon that lost its mount looks like: it must end by itself then.
        daemon = place.start(ready=False, NOTIFY_SOCKET=manager.address, WATCHDOG_USEC="200000")
        manager.until("WATCHDOG")
        subprocess.run(["umount", "-l", place.mount], check=True)
        assert daemon.ends() == 1

    def test_a_stopped_daemon_does_not_feed_it(self, place: Place, manager: Manager) -> None:
        daemon = place.start(ready=False, NOTIFY_SOCKET=manager.address, WATCHDOG_USEC="200000")
        manager.until("WATCHDOG")
        daemon.process.send_signal(signal.SIGSTOP)
        manager.socket.settimeout(0.5)
        with contextlib.suppress(TimeoutError):
            for _ in range(100):  # what it had sent before
                manager.next()
            pytest.fail("a stopped daemon goes on feeding the watchdog")
        daemon.process.send_signal(signal.SIGCONT)
        manager.socket.settimeout(DEADLINE_SECONDS)
        manager.until("WATCHDOG")
        daemon.stop()


def test_nothing_is_imported_that_a_hook_could_not_have() -> None:
    code = "import sys, procview.notify, procview.logs\n"
    code += "print([name for name in ('trio', 'pyfuse3', 'psutil') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
