"""The control socket of a real daemon: what it tells of itself, its policy, and when the socket is there."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

import procview
from procview.slots.skeleton import Skeleton
from tests.control.client import ask
from tests.daemon.process import Daemon, Place, eventually, needs_mount
from tests.programs import required

pytestmark = needs_mount


def _socket(place: Place) -> Path:
    return Path(Skeleton(str(place.run_directory)).control_socket)


def _started(place: Place, configuration: str = "") -> Daemon:
    if configuration:
        place.config.write_text(configuration, encoding="utf-8")
    daemon = place.start()
    daemon.says("control socket: ")
    return daemon


def test_the_daemon_tells_of_itself(place: Place) -> None:
    daemon = _started(place)
    (place.mount / "proc/meminfo").read_bytes()
    reply = ask(_socket(place), "/v1/status")
    assert reply.status == 200
    status = reply.json
    assert status["version"] == procview.__version__
    assert (status["pid"], status["took_over"]) == (daemon.process.pid, False)
    assert (status["mount"], status["run_directory"]) == (str(place.mount), str(place.run_directory))
    assert status["published_since"] >= status["since"]
    assert status["rss_bytes"] > 1 << 20
    assert ask(_socket(place), "/v1/containers").json["containers"] is not None
    reply = ask(_socket(place), "/v1/self")
    assert (reply.status, reply.json["error"].endswith("of the host is in no container")) == (404, True)
    daemon.stop()


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/v1/nothing", 404),
        ("POST", "/v1/status", 405),
        ("GET", "/v1/reload", 405),
        ("DELETE", "/v1/containers", 405),
        ("GET", "/v1/containers/no%20such", 404),
        ("POST", "/v1/containers/no%20such/attach", 404),
    ],
)
def test_what_there_is_not_is_refused(place: Place, method: str, target: str, status: int) -> None:
    _started(place)
    reply = ask(_socket(place), target, method)
    assert reply.status == status
    assert reply.json["error"]


def test_reload_says_what_is_wrong(place: Place) -> None:
    daemon = _started(place, "loadavg = true\n")
    assert ask(_socket(place), "/v1/reload", "POST").json == {"reloaded": True}
    place.config.write_text('cpus = "all"\n')
    reply = ask(_socket(place), "/v1/reload", "POST")
    assert reply.status == 422
    assert f'{place.config}:1: cpus = "all" is not allowed' in reply.json["error"]
    daemon.says("configuration not reloaded")


def test_a_policy_counts_after_sighup_and_a_bad_one_changes_nothing(place: Place) -> None:
    policy = place.directory / "policy.jsonl"
    policy.write_text('{"name": "me", "users": [0], "actions": ["status"]}\n')
    daemon = _started(place, f'control_policy = "{policy}"\n')
    assert (ask(_socket(place), "/v1/status").status, ask(_socket(place), "/v1/containers").status) == (200, 403)
    policy.write_text('{"name": "me", "users": [0], "actions": ["containers"]}\n')
    daemon.process.send_signal(signal.SIGHUP)
    eventually(lambda: ask(_socket(place), "/v1/status").status == 403, "the new policy")
    assert ask(_socket(place), "/v1/containers").status == 200
    policy.write_text('{"name": "me", "users": [0], "actions": ["nonsense"]}\n')
    daemon.process.send_signal(signal.SIGHUP)
    daemon.says(f'the control socket\'s policy stays as it was: {policy}:1: "nonsense" matches no action')
    assert ask(_socket(place), "/v1/containers").status == 200


def test_a_policy_that_is_bad_at_the_start_lets_root_in_to_mend_it(place: Place) -> None:
    daemon = _started(place, f'control_policy = "{place.directory}/absent"\n')
    daemon.says(f"only root of the host is let in: {place.directory}/absent: no such file")
    assert ask(_socket(place), "/v1/status").status == 200


def test_other_users_of_the_host_are_refused(place: Place) -> None:
    _started(place)
    place.directory.chmod(0o755)
    argv = ["setpriv", "--reuid=12345", "--regid=12345", "--clear-groups", "curl", "-sS", "--unix-socket"]
    argv += [str(_socket(place)), "http://localhost/v1/status"]
    said = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=True).stdout
    assert "status is not allowed to uid 12345 of the host; " in json.loads(said)["error"]


def test_metrics_are_as_prometheus_wants_them(place: Place) -> None:
    _started(place)
    reply = ask(_socket(place), "/metrics")
    assert (reply.status, reply.headers["Content-Type"].partition(";")[0]) == (200, "text/plain")
    text = reply.body.decode()
    assert f'procview_build_info{{version="{procview.__version__}"}} 1.0\n' in text
    assert "\nprocview_starts_total 1.0\n" in text
    assert "\nprocview_takeovers_total 0.0\n" in text
    promtool = required("promtool", "prometheus")
    checked = subprocess.run(
        [promtool, "check", "metrics"], input=reply.body, capture_output=True, timeout=60, check=False
    )
    assert checked.returncode == 0, checked.stderr.decode()
    assert not checked.stderr


def test_the_socket_goes_with_the_daemon_and_its_folder_stays_for_containers(place: Place) -> None:
    daemon = _started(place)
    skeleton = Skeleton(str(place.run_directory))
    folder = Path(skeleton.control_place).parent
    inode = folder.stat().st_ino
    daemon.stop()
    assert list(folder.iterdir()) == []
    _started(place)
    assert folder.stat().st_ino == inode
    assert ask(_socket(place), "/v1/status").status == 200


def test_one_that_a_dead_daemon_left_is_replaced(place: Place) -> None:
    place.crash()
    daemon = _started(place)
    assert ask(_socket(place), "/v1/status").json["pid"] == daemon.process.pid
    daemon.stop()


def test_a_successor_has_it_from_then_on(place: Place) -> None:
    first = _started(place)
    first.process.send_signal(signal.SIGUSR2)
    first.says("stopped")
    second = psutil.Process(place.owner())
    try:
        eventually(lambda: _pid(place) == second.pid, "the socket of the successor")
    finally:
        second.terminate()
        eventually(lambda: not second.is_running(), "its end")


def _pid(place: Place) -> int | None:
    try:
        status = ask(_socket(place), "/v1/status")
    except OSError:
        return None
    return int(status.json["pid"])


def test_without_slots_nothing_of_it_stays(place: Place) -> None:
    daemon = _started(place, "slots = false\n")
    assert ask(_socket(place), "/v1/status").json["published_since"] is None
    assert ask(_socket(place), "/v1/containers").status == 200
    daemon.stop()
    assert not place.run_directory.exists()


def test_none_where_it_is_not_wanted(place: Place) -> None:
    place.config.write_text("control = false\n")
    daemon = place.start()
    assert (place.mount / "proc/uptime").read_bytes()
    daemon.stop()
    assert "control" not in daemon.said
    assert not os.path.lexists(_socket(place))


def test_a_place_that_cannot_be_had_costs_the_socket_and_no_view(place: Place) -> None:
    place.run_directory.mkdir()
    (place.run_directory / "control").write_text("")
    daemon = place.start()
    daemon.says("there is no control socket: ")
    assert (place.mount / "proc/uptime").read_bytes()
    daemon.stop()


def test_what_a_container_puts_into_the_folder_keeps_nothing_else_from_being_removed(place: Place) -> None:
    daemon = _started(place)
    folder = Path(Skeleton(str(place.run_directory)).control_place).parent
    (folder / "theirs").write_text("")
    daemon.stop()
    argv = [sys.executable, "-m", "procview", "withdraw", "--remove", "--run-directory", str(place.run_directory)]
    argv += ["--config", str(place.config)]
    said = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True).stdout
    assert f"{place.run_directory}: left as it is, with what is not procview's: control\n" in said
    assert [entry.name for entry in place.run_directory.rglob("*")] == ["control", "theirs"]
