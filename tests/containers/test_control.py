"""Containers and the control socket: each reads about itself through a bound folder, and about nobody else."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from procview.slots.containers import trusted_name
from procview.slots.skeleton import Skeleton
from tests import session
from tests.containers.cgroups import Limits
from tests.containers.conftest import MEMORY_BYTES, default_limits, usable
from tests.containers.engines import RUNC, Container, Hook
from tests.containers.engines.base import SUB_ID
from tests.containers.rootfs import PYTHON, Rootfs
from tests.containers.served import Daemon
from tests.control.client import ask
from tests.daemon.process import eventually
from tests.timing import unhurried_settings

_INSIDE = "/run"

_ASK = """
import socket, sys
connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
connection.settimeout(20)
connection.connect(sys.argv[1])
connection.sendall(f"{sys.argv[2]} HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n".encode())
received = b""
while part := connection.recv(65536):
    received += part
sys.stdout.buffer.write(received)
"""


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    """One with a policy, which tests write."""
    with session.temporary_directory() as directory:
        policy = directory / "policy.jsonl"
        policy.write_text("")
        daemon = Daemon.start(directory, f'{unhurried_settings()}control_policy = "{policy}"\n')
        eventually(lambda: Path(_skeleton(daemon).control_place).exists(), "the control socket")
        yield daemon
        daemon.stop()


@pytest.fixture
def policy(daemon: Daemon) -> Iterator["Policy"]:
    policy = Policy(daemon)
    yield policy
    policy.set()


class Policy:
    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    def set(self, *lines: dict[str, object]) -> None:
        """Have these lines count."""
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (self._daemon.directory / "policy.jsonl").write_text(text)
        before = self._daemon.said().count("configuration reloaded")
        self._daemon.process.send_signal(signal.SIGHUP)
        eventually(lambda: self._daemon.said().count("configuration reloaded") > before, "the reload")


def _skeleton(daemon: Daemon) -> Skeleton:
    return Skeleton(str(daemon.run_directory))


def _socket(daemon: Daemon) -> Path:
    return Path(_skeleton(daemon).control_socket)


def _start(daemon: Daemon, rootfs: Rootfs, hook: Hook, limits: Limits, **options: Any) -> Container:
    more = [(Path(_skeleton(daemon).control_place).parent, _INSIDE)]
    usable(RUNC)
    return RUNC.start(rootfs, limits, views=hook, more=more, **options)


@pytest.fixture(params=[True, False], ids=["mapped", "plain"])
def container(request: pytest.FixtureRequest, daemon: Daemon, rootfs: Rootfs, hook: Hook) -> Iterator[Container]:
    with _start(daemon, rootfs, hook, default_limits(), map_users=request.param) as started:
        yield started


@pytest.fixture
def neighbour(daemon: Daemon, rootfs: Rootfs, hook: Hook) -> Iterator[Container]:
    limits = Limits(memory_bytes=MEMORY_BYTES // 2)
    with _start(daemon, rootfs, hook, limits, map_users=True, first_id=SUB_ID + 1_000_000) as started:
        yield started


def _asked(container: Container, target: str, method: str = "GET", user: int | None = None) -> tuple[int, Any]:
    """Ask from inside: the status and what came."""
    argv = [PYTHON, "-I", "-S", "-c", _ASK, f"{_INSIDE}/control.sock", f"{method} {target}"]
    head, _, body = container.output(argv, user).partition("\n\n")  # in text mode
    return int(head.split()[1]), json.loads(body) if body.startswith("{") else body


def test_a_container_is_told_about_itself_and_about_nobody_else(container: Container, neighbour: Container) -> None:
    for user in (None, 1000):
        status, fact = _asked(container, "/v1/self", user=user)
        assert (status, fact["id"], fact["init_pid"]) == (200, container.name, container.pid)
        assert (fact["memory_total_bytes"], fact["cpus"], fact["state"]) == (MEMORY_BYTES, 1, "attached")
        status, same = _asked(container, f"/v1/containers/{container.name}", user=user)
        assert (status, same["pid_namespace"]) == (200, fact["pid_namespace"])
        for target in ("/v1/status", "/v1/containers", f"/v1/containers/{neighbour.name}", "/metrics"):
            assert _asked(container, target, user=user)[0] == 403, target
        for target in ("/v1/reload", f"/v1/containers/{container.name}/detach"):
            assert _asked(container, target, "POST", user)[0] == 403, target
    # It learns nothing of what others are called either.
    assert (
        _asked(container, f"/v1/containers/{neighbour.name}")[1]["error"]
        == _asked(container, "/v1/containers/no-such-one")[1]["error"]
    )
    assert _asked(neighbour, "/v1/self")[1]["memory_total_bytes"] == MEMORY_BYTES // 2


def test_a_line_of_the_policy_lets_it_see_more_by_its_users_ids(
    policy: Policy, container: Container, neighbour: Container
) -> None:
    assert _asked(neighbour, "/v1/containers")[0] == 403
    first = SUB_ID + 1_000_000
    policy.set({"name": "n", "users": [f"{first}-{first + 65535}"], "actions": ["containers?"], "readonly": True})
    assert _asked(neighbour, "/v1/containers")[0] == 200

    def seen() -> set[str]:
        return {fact["id"] for fact in _asked(neighbour, "/v1/containers")[1]["containers"]}

    # The list may be a second old.
    eventually(lambda: {container.name, neighbour.name} <= seen(), "both in the list")
    assert _asked(neighbour, f"/v1/containers/{container.name}")[1]["memory_total_bytes"] == MEMORY_BYTES
    assert _asked(neighbour, "/v1/status")[0] == 403
    assert _asked(container, "/v1/containers")[0] == 403
    policy.set()
    assert _asked(neighbour, "/v1/containers")[0] == 403


def test_a_line_may_name_a_container(policy: Policy, container: Container, neighbour: Container) -> None:
    policy.set({"name": "n", "users": [container.name], "actions": ["status"]})
    # Where these tests are in a cgroup of their own, so are their containers, and no name in there is certain.
    lines = Path(f"/proc/{container.pid}/cgroup").read_text(encoding="utf-8").splitlines()
    is_certain = trusted_name(lines) == container.name
    ours = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    assert is_certain or any(line.split(":", 2)[2] != "/" for line in ours)
    assert _asked(container, "/v1/status")[0] == (200 if is_certain else 403)
    assert _asked(neighbour, "/v1/status")[0] == 403
    if not is_certain:
        return
    assert _asked(container, "/v1/self")[0] == 403, "the line decides, and says nothing of self"


def test_a_user_of_the_host_gains_nothing_by_the_name_of_a_pid_namespace(daemon: Daemon, policy: Policy) -> None:
    """Nobody but an engine of the host has a container called so: here it is only a process in a pid namespace."""
    policy.set({"name": "n", "users": ["web"], "actions": ["status"]})
    argv = ["unshare", "--pid", "--fork", "--kill-child", sys.executable, "-I", "-c", _ASK, str(_socket(daemon))]
    said = subprocess.run([*argv, "GET /v1/status"], capture_output=True, timeout=60, check=True).stdout
    assert said.startswith(b"HTTP/1.1 403")


def test_the_host_sees_all_numbers_of_a_container(daemon: Daemon, container: Container) -> None:
    container.read("/proc/meminfo")
    fact = ask(_socket(daemon), f"/v1/containers/{container.name}?load=true").json
    assert fact["pid_namespace"] == os.stat(f"/proc/{container.pid}/ns/pid").st_ino
    assert (fact["state"], fact["why"], fact["reads"] > 0) == ("attached", "", True)
    assert (fact["memory_total_bytes"], fact["swap_total_bytes"]) == (MEMORY_BYTES, 0)
    assert 0 < fact["memory_available_bytes"] <= MEMORY_BYTES
    assert (fact["cpus"], fact["cpu_quota"]) == (1, 1.0)
    assert fact["cpu_usage_usec"] > 0
    assert len(fact["load_averages"]) == 3
    assert fact["since"].endswith("Z")
    by_pid = ask(_socket(daemon), f"/v1/containers/{container.pid}").json
    assert by_pid["id"] == container.name
    seen = fact["reads"]
    for _ in range(3):
        container.read("/proc/uptime")
    assert ask(_socket(daemon), f"/v1/containers/{container.name}").json["reads"] == seen + 3, "and its own count not"


def test_views_come_and_go_by_the_socket(daemon: Daemon, container: Container) -> None:
    target = f"/v1/containers/{container.name}"
    assert ask(_socket(daemon), f"{target}/detach", "POST").json["files"]["proc/meminfo"] == "detached"
    fact = ask(_socket(daemon), target).json
    assert (fact["state"], fact["why"].partition(":")[0]) == ("none", "nothing of procview")
    assert ask(_socket(daemon), f"{target}/attach", "POST").json["files"]["proc/meminfo"] == "attached"
    assert ask(_socket(daemon), target).json["state"] == "attached"


def test_who_is_degraded_is_told_and_why(daemon: Daemon, container: Container) -> None:
    inside = ["nsenter", "-t", str(container.pid), "-m", "-p", "--"]
    subprocess.run(
        [*inside, "sh", "-c", "while umount -n /proc/uptime; do :; done"], check=True, stderr=subprocess.DEVNULL
    )
    fact = ask(_socket(daemon), f"/v1/containers/{container.name}").json
    assert (fact["state"], fact["why"]) == ("degraded", "nothing of procview: proc/uptime")

    def counted() -> float:
        text = ask(_socket(daemon), "/metrics").body.decode()
        return float(text.partition('procview_containers{state="degraded"} ')[2].split()[0])

    eventually(lambda: counted() >= 1, "it is counted")
