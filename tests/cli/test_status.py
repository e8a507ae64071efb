"""``procview status``, the client of the control socket, and what both say when the daemon cannot be asked."""

import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from procview.client import AskingError, Client, NoDaemonError, RefusedError
from tests.cli.facts import answers, fact, served
from tests.containers.served import Daemon
from tests.daemon.process import needs_mount
from tests.session import temporary_directory
from tests.timing import patient

COMMAND = [sys.executable, "-m", "procview"]


def status(run_directory: Path, *more: str) -> "subprocess.CompletedProcess[str]":
    words = [*COMMAND, "status", "--run-directory", str(run_directory), *more]
    return subprocess.run(words, capture_output=True, text=True, check=False)


def test_a_daemon_whose_containers_are_all_well(tmp_path: Path) -> None:
    with served(tmp_path / "control.sock", answers(fact("web"), fact("sandbox", 2, state="none"))):
        done = status(tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        lines = done.stdout.splitlines()
        assert lines[0] == "procview:   1.2.3, pid 77, running since 2026-01-01T00:00:00Z"
        assert "mount:      /run/procview/fs, with the fast lane" in lines
        assert "uses:       30M of memory, 20 files, 5 threads, 1.0 s of CPU" in lines
        assert lines[-1] == "containers: 2: 1 attached, 1 without views"
        whole = json.loads(status(tmp_path, "--json").stdout)
        assert whole["daemon"]["pid"] == 77
        assert whole["containers"] == {"attached": 1, "none": 1}
        assert whole["degraded"] == []


def test_degraded_containers_are_named_and_are_status_1(tmp_path: Path) -> None:
    why = "the host's files, as no view is over the slots: proc/meminfo"
    hostile = fact("\x1b[31mred\n", 2, state="degraded", why=why)
    replies = answers(fact(), hostile, took_over=True, absent_controllers=["cpuset"], lane=False, published_since=None)
    with served(tmp_path / "control.sock", replies):
        done = status(tmp_path)
        assert done.returncode == 1
        assert f"  \\x1b[31mred\\n (pid 1002): {why}\n" in done.stdout
        assert "containers: 2: 1 attached, 1 degraded\n" in done.stdout
        for words in ("by pyfuse3 alone", "went on with another daemon's connection", "not in containers yet",
                      "absent:     cpuset: "):  # fmt: skip
            assert words in done.stdout
        as_json = status(tmp_path, "--json")
        assert as_json.returncode == 1
        assert json.loads(as_json.stdout)["degraded"] == [{"id": "\x1b[31mred\n", "init_pid": 1002, "why": why}]


def test_without_slots_no_container_is_said_to_wait_for_views(tmp_path: Path) -> None:
    config = tmp_path / "procview.toml"
    config.write_text("slots = false\n", encoding="utf-8")
    with served(tmp_path / "control.sock", answers(published_since=None)):
        assert "not in containers: the setting slots is false\n" in status(tmp_path, "--config", str(config)).stdout


def test_more_degraded_ones_than_a_screen_holds_are_counted(tmp_path: Path) -> None:
    facts = [fact(f"c{number}", number, state="degraded") for number in range(50)]
    with served(tmp_path / "control.sock", answers(*facts)):
        assert "  and 30 more: procview status --json, procview top\n" in status(tmp_path).stdout


def test_without_a_daemon_it_is_status_2_and_says_where_and_what_to_do(tmp_path: Path) -> None:
    done = status(tmp_path / "run")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"Error: cannot connect to {tmp_path}/run/control.sock: No such file or directory; "
        "is the daemon running? systemctl status procview, or procview check\n"
    )
    as_json = status(tmp_path / "run", "--json")
    assert as_json.returncode == 2
    assert "is the daemon running?" in json.loads(as_json.stdout)["error"]


def test_a_socket_that_a_dead_daemon_left_is_no_daemon(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "control.sock"))
    done = status(tmp_path)
    assert done.returncode == 2
    assert "control.sock: Connection refused; is the daemon running?" in done.stderr


def test_where_the_socket_is_switched_off_it_says_so(tmp_path: Path) -> None:
    config = tmp_path / "procview.toml"
    config.write_text("control = false\n", encoding="utf-8")
    done = status(tmp_path / "run", "--config", str(config))
    assert done.returncode == 2
    assert "the configuration says control = false, so the daemon has no control socket" in done.stderr


def test_a_bad_configuration_is_not_taken_for_degraded_containers(tmp_path: Path) -> None:
    assert status(tmp_path, "--config", str(tmp_path / "none")).returncode == 2
    assert status(tmp_path, "--nonsense").returncode == 2


def test_a_refusal_is_told_in_the_daemons_words(tmp_path: Path) -> None:
    replies = {"/v1/status": (403, b'{"error": "status is not allowed to uid 1000"}')}
    with served(tmp_path / "control.sock", replies):
        done = status(tmp_path)
        assert done.returncode == 2
        assert done.stderr == "Error: the daemon says 403: status is not allowed to uid 1000\n"
        with pytest.raises(RefusedError) as caught:
            Client(str(tmp_path / "control.sock")).status()
        assert caught.value.status == 403


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b"\xff", b"[" * 100_000])
def test_what_is_not_procviews_is_an_error(tmp_path: Path, body: bytes) -> None:
    path = tmp_path / "control.sock"
    with served(
        path, {"/v1/status": (200, body), "/v1/containers": (200, b'{"monotonic_seconds": 1, "containers": [1]}')}
    ):
        with pytest.raises(AskingError, match="a body that is not procview's"):
            Client(str(path)).status()
        with pytest.raises(AskingError, match="no list of containers"):
            Client(str(path)).containers()


def test_a_daemon_that_says_nothing_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    path = str(tmp_path / "control.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        with pytest.raises(NoDaemonError, match=r"no answer from .* within 0\.05 s"):
            Client(path, seconds=0.05).status()


def test_one_that_speaks_another_language_is_an_error(tmp_path: Path) -> None:
    path = str(tmp_path / "control.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        asked = subprocess.Popen(
            [*COMMAND, "status", "--run-directory", str(tmp_path)], stderr=subprocess.PIPE, text=True
        )
        connection, _ = listener.accept()
        with connection:
            connection.recv(1 << 16)
            connection.sendall(b"220 smtp\r\n\r\n")
        assert "no reply of HTTP" in asked.communicate()[1]
        assert asked.returncode == 2


class TestDaemon:
    pytestmark = needs_mount

    def test_a_real_one_tells_all_that_is_shown(self) -> None:
        with temporary_directory() as directory:
            daemon = Daemon.start(directory)
            try:
                daemon.listens()
                done = daemon.command("status", *daemon.options)
                assert done.returncode in (0, 1), done.stderr  # others' containers may be on this host, in any state
                assert f"pid {daemon.process.pid}," in done.stdout
                assert "None" not in done.stdout
                told = json.loads(daemon.command("status", "--json", *daemon.options).stdout)["daemon"]
                client = Client(f"{daemon.run_directory}/control.sock")
                seen = client.containers()
                assert 0 <= time.monotonic() - seen.monotonic_seconds < patient(60)
                assert client.containers().monotonic_seconds >= seen.monotonic_seconds
                bounds = [bucket["up_to_usec"] for bucket in told["renders"]]
                assert bounds[-1] is None
                assert bounds[:-1] == sorted(bounds[:-1])
                assert all(isinstance(bucket["count"], int) for bucket in told["renders"])
            finally:
                daemon.stop()
