"""HTTP as clients get it wrong: slow, huge, malformed, too many. Against the real server, with a plain answer."""

import contextlib
import gc
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from procview.control import server
from procview.control.server import Request, Response, Server, bound
from tests.control.client import ask, say
from tests.daemon.process import eventually
from tests.timing import patient


class _Served:
    """A server in a thread of its own; ``seen`` are the requests that it was given."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "control.sock"
        self.seen: list[Request] = []
        self.server = Server(self._answer, version="9")
        self._ready = threading.Event()
        self._scope = trio.CancelScope()
        self._thread = threading.Thread(target=trio.run, args=(self._run,))

    async def _answer(self, request: Request) -> Response:
        self.seen.append(request)
        if request.path == "/bad":
            raise RuntimeError("on purpose")
        if request.path == "/slow":
            await trio.sleep_forever()
        return Response.of(200, {"path": request.path, "query": request.query})

    async def _run(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        with self._scope, bound(str(self.path)) as listener:
            self._ready.set()
            await self.server.serve(listener)

    def __enter__(self) -> "_Served":
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._token.run_sync_soon(self._scope.cancel)
        self._thread.join()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[_Served]:
    with _Served(tmp_path) as running:
        yield running


def test_a_request_is_taken_apart(served: _Served) -> None:
    reply = ask(served.path, "/v1/a%20b?load=true&x=")
    assert (reply.status, reply.json) == (200, {"path": "/v1/a b", "query": {"load": "true", "x": ""}})
    assert (reply.headers["Content-Type"], reply.headers["Server"]) == ("application/json", "procview/9")
    peer = served.seen[0].peer
    assert (peer.pid, peer.uid, peer.is_of_host) == (os.getpid(), os.geteuid(), True)


def test_a_connection_may_ask_again(served: _Served) -> None:
    twice = b"GET /1 HTTP/1.1\r\nHost: x\r\n\r\nGET /2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    received = say(served.path, twice)
    assert received.count(b"HTTP/1.1 200") == 2
    assert [request.path for request in served.seen] == ["/1", "/2"]


def test_a_head_has_no_body(served: _Served) -> None:
    received = say(served.path, b"HEAD /1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert received.startswith(b"HTTP/1.1 200")
    assert received.endswith(b"\r\n\r\n")


def test_what_fails_inside_is_an_answer_and_the_next_one_works(
    served: _Served, caplog: pytest.LogCaptureFixture
) -> None:
    assert ask(served.path, "/bad").status == 500
    assert "on purpose" in caplog.text
    assert ask(served.path, "/good").status == 200


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"\x00\xff\xfe\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),  # without a host
        (b"GET /%ff HTTP/1.1\r\nHost: x\r\n\r\n", b"400"),
        (b"GET /a?b;c HTTP/1.1\r\nHost: x\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * (32 << 10), b"431"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n" + b"a" * (128 << 10), b"413"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", b"400"),
    ],
)
def test_what_is_not_understood_is_refused(served: _Served, data: bytes, status: bytes) -> None:
    with contextlib.suppress(ConnectionError):  # closed while much is still on its way
        assert say(served.path, data).startswith(b"HTTP/1.1 " + status)
    assert not served.seen
    assert ask(served.path, "/after").status == 200


def test_who_ends_in_the_middle_is_forgotten(served: _Served) -> None:
    assert say(served.path, b"GET / HTTP/1.1\r\nHo", then_close=True).startswith(b"HTTP/1.1 400")
    assert say(served.path, b"", then_close=True) == b""
    eventually(lambda: served.server.counters()["open"] == 0, "none open")


def test_who_is_slow_is_closed(served: _Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "REQUEST_SECONDS", 2.0)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as slow:
        slow.settimeout(patient(10))
        slow.connect(str(served.path))
        slow.sendall(b"GET / HTTP/1.1\r\n")
        assert slow.recv(1) == b""
    assert not served.seen


def test_an_answer_that_does_not_come_is_given_up(served: _Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "ANSWER_SECONDS", 0.2)
    assert ask(served.path, "/slow").status == 504


def test_more_connections_than_there_may_be_are_refused_and_root_gets_in(
    served: _Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MOST_CONNECTIONS", 3)
    monkeypatch.setattr(server, "REQUEST_SECONDS", patient(30))
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            held = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            held.connect(str(served.path))
        eventually(lambda: served.server.counters()["open"] == 3, "three open")
        refused = ask(served.path, "/")
        assert (refused.status, refused.json) == (503, {"error": "too many connections"})
        assert served.server.counters()["refused"] == 1
    eventually(lambda: served.server.counters()["open"] == 0, "none open")
    assert ask(served.path, "/").status == 200


@pytest.mark.slow
def test_ten_thousand_clients_are_answered_or_refused_and_nothing_is_left(served: _Served) -> None:
    gc.collect()
    descriptors = len(os.listdir("/proc/self/fd"))
    outcomes = set()
    for _ in range(1000):
        with contextlib.ExitStack() as stack:
            clients = []
            for _ in range(10):
                client = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
                client.settimeout(patient(20))
                client.connect(str(served.path))
                clients.append(client)
            clients[0].sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            outcomes.add(clients[0].recv(12))
    assert outcomes <= {b"HTTP/1.1 200", b"HTTP/1.1 503"}
    assert b"HTTP/1.1 200" in outcomes
    # Who came last may still be in the listener's queue, of which the server knows nothing yet.
    eventually(lambda: len(os.listdir("/proc/self/fd")) <= descriptors, "no descriptor of a client left")
    eventually(lambda: served.server.counters()["open"] == 0, "none open")
    assert ask(served.path, "/").status == 200


def test_a_socket_that_somebody_left_goes_and_ones_own_goes_in_the_end(tmp_path: Path) -> None:
    with _Served(tmp_path) as first:
        before = first.path.stat().st_ino
        with _Served(tmp_path) as second:
            assert second.path.stat().st_ino != before
            assert ask(second.path, "/").status == 200
            assert second.seen
            assert not first.seen
        assert not second.path.exists()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == []
