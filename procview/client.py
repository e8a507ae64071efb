"""Asks the daemon over its control socket, for commands: one request, one connection.

docs/operations.md, "The control socket", has the requests and what comes back. Standard library only.
"""

import http.client
import json
import socket
from dataclasses import dataclass
from typing import Any

ANSWER_SECONDS = 10.0
"""How long a reply may take. With thousands of containers the daemon looks at each."""
_MOST_BYTES = 256 << 20
"""What a reply may be: the daemon is trusted, whoever listens in its place after it is not."""

Answer = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Seen:
    """All containers, and when the daemon looked at them, in seconds of CLOCK_MONOTONIC."""

    monotonic_seconds: float
    containers: list[Answer]


class AskingError(Exception):
    """The daemon cannot be asked, or does not answer as it should; the text says what, where, and what to do."""


class NoDaemonError(AskingError):
    """Nobody listens, or nobody answers."""


class RefusedError(AskingError):
    """The daemon has understood, and will not: 403 the policy forbids it, 503 too many ask."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Client:
    """Asks whoever listens at ``socket_path``. ``has_socket`` is the setting ``control``, for the text of an error."""

    def __init__(self, socket_path: str, *, has_socket: bool = True, seconds: float = ANSWER_SECONDS) -> None:
        self._path = socket_path
        self._has_socket = has_socket
        self._seconds = seconds

    def status(self) -> Answer:
        """Of the daemon itself. Raises AskingError, as all of these do."""
        return self._get("/v1/status", {"version", "pid", "reads"})

    def containers(self, *, with_load: bool = False) -> Seen:
        """All that run, by their inits' pids; ``with_load`` has the daemon sample their loads from now on."""
        answer = self._get("/v1/containers" + ("?load=true" if with_load else ""), {"containers", "monotonic_seconds"})
        when, facts = answer["monotonic_seconds"], answer["containers"]
        if (
            not isinstance(when, int | float)
            or not isinstance(facts, list)
            or not all(isinstance(fact, dict) and "init_pid" in fact for fact in facts)
        ):
            raise AskingError(f"{self._path}: no list of containers came back")
        return Seen(float(when), facts)

    def metrics(self) -> bytes:
        """The daemon's numbers, in Prometheus' text format."""
        status, body = self._exchange("/metrics")
        if status != 200:
            self._understood(status, body, set())  # raises
        return body

    def _get(self, target: str, expected: set[str]) -> Answer:
        status, body = self._exchange(target)
        return self._understood(status, body, expected)

    def _exchange(self, target: str) -> tuple[int, bytes]:
        connection = _Connection(self._path, self._seconds)
        try:
            connection.request("GET", target, headers={"Connection": "close"})
            response = connection.getresponse()
            return response.status, response.read(_MOST_BYTES)
        except TimeoutError:
            raise NoDaemonError(
                f"no answer from {self._path} within {self._seconds:g} s: the daemon hangs, or the host is overloaded; "
                "procview check says more"
            ) from None
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise NoDaemonError(self._why_not(error)) from None
        except OSError as error:
            raise NoDaemonError(f"cannot ask {self._path}: {error.strerror or error}") from None
        except http.client.HTTPException as error:
            raise AskingError(f"{self._path}: no reply of HTTP: {type(error).__name__}: {error!s:.200}") from None
        finally:
            connection.close()

    def _why_not(self, error: OSError) -> str:
        text = f"cannot connect to {self._path}: {error.strerror}; "
        if not self._has_socket:
            return text + "the configuration says control = false, so the daemon has no control socket"
        return text + "is the daemon running? systemctl status procview, or procview check"

    def _understood(self, status: int, body: bytes, expected: set[str]) -> Answer:
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict) or (status == 200 and not expected <= answer.keys()):
            raise AskingError(f"{self._path}: status {status}, and a body that is not procview's: {body[:100]!r}")
        if status != 200:
            raise RefusedError(status, f"the daemon says {status}: {answer.get('error')!s:.1000}")
        return answer


class _Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str, seconds: float) -> None:
        super().__init__("localhost", timeout=seconds)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
