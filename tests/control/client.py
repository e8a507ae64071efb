"""A client of the control socket for tests: one request, or bytes as they are."""

import contextlib
import http.client
import json
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.timing import patient

SECONDS = patient(20)


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("procview", timeout=SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(SECONDS)
        self.sock.connect(str(self._path))


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def ask(path: Path, target: str, method: str = "GET", body: bytes | None = None) -> Reply:
    """One request on a connection of its own."""
    connection = _Connection(path)
    try:
        with contextlib.suppress(BrokenPipeError):  # who is refused unheard has an answer all the same
            connection.request(method, target, body)
        response = connection.getresponse()
        return Reply(response.status, dict(response.getheaders()), response.read())
    finally:
        connection.close()


def say(path: Path, data: bytes, *, then_close: bool = False) -> bytes:
    """Send ``data``; all that comes until the other end closes."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(SECONDS)
        connection.connect(str(path))
        connection.sendall(data)
        if then_close:
            connection.shutdown(socket.SHUT_WR)
        received = b""
        while part := connection.recv(65536):
            received += part
        return received
