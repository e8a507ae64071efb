"""HTTP/1.1 over a Unix socket, for many clients of whom none is trusted.

h11 takes messages apart; what is here is bounds: connections in all and for each container or uid, new ones a second,
the size of a request, and the time for each step. Who is over a bound is answered 503 or closed, and nobody waits for
him. Everything runs on the daemon's event loop, between reads that the lane leaves to it; it takes one step at a time.
"""

import json
import os
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote, urlsplit

import h11
import trio

from procview.control.peers import Peer, identify
from procview.logs import Log

log = Log(__name__)

MOST_CONNECTIONS = 64
MOST_OF_ONE_PEER = 8
"""Of one uid in one pid namespace; root of the host may have them all."""
MOST_FOR_CONTAINERS = 48
"""The rest is for the host, however many containers ask."""
A_SECOND_OF_ONE_PEER = 20
BURST_OF_ONE_PEER = 20
"""Requests; later ones wait. For root of the host there is no such bound."""
NEW_A_SECOND = 400
BURST = 100
REQUEST_SECONDS = 5.0
"""From the connection, or the end of the reply before, until a whole request is there; and to write a reply."""
ANSWER_SECONDS = 30.0
_MOST_HEADER_BYTES = 16 << 10
_MOST_BODY_BYTES = 64 << 10
_CHUNK_BYTES = 16 << 10


@dataclass(frozen=True, slots=True)
class Request:
    """One request, read whole. ``path`` is decoded, without the query."""

    peer: Peer
    method: str
    path: str
    query: dict[str, str]


@dataclass(frozen=True, slots=True)
class Response:
    """What is sent back."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: Sequence[tuple[str, str]] = ()

    @classmethod
    def of(cls, status: int, value: object, *headers: tuple[str, str]) -> "Response":
        """``value`` as JSON."""
        return cls(status, json.dumps(value, indent=1).encode() + b"\n", headers=headers)

    @classmethod
    def error(cls, status: int, text: str, *headers: tuple[str, str]) -> "Response":
        """What went wrong, in one line."""
        return cls.of(status, {"error": text}, *headers)


Answer = Callable[[Request], Awaitable[Response]]


@contextmanager
def bound(path: str) -> Iterator[trio.socket.SocketType]:
    """A socket at ``path`` that anyone may connect to. Raises OSError. One that a dead daemon left there goes."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        # Under another name first: whoever connects in between finds the old one or the new one, never none.
        fresh = f"{path}.{os.getpid()}"
        with suppress(FileNotFoundError):
            os.unlink(fresh)
        listener.bind(fresh)
        try:
            os.chmod(fresh, 0o666)  # noqa: S103 - the policy decides, by what the kernel says of whoever connects
            listener.listen(128)
            os.rename(fresh, path)
        except BaseException:
            os.unlink(fresh)
            raise
        ours = os.stat(path)
        try:
            yield trio.socket.from_stdlib_socket(listener)
        finally:
            with suppress(FileNotFoundError):
                if os.path.samestat(os.stat(path), ours):  # else it is a successor's
                    os.unlink(path)


class Server:
    """Takes connections and has ``answer`` answer them. ``proc`` is where peers' pids can be looked up."""

    def __init__(self, answer: Answer, *, proc: str = "/proc", version: str = "") -> None:
        self._answer = answer
        self._proc = proc
        self._name = f"procview/{version}" if version else "procview"
        self._connections: Counter[tuple[int, int]] = Counter()
        self._of_containers = 0
        self._tokens = float(BURST)
        self._counts: Counter[str] = Counter()
        self._next: dict[tuple[int, int], float] = {}

    def counters(self) -> dict[str, int]:
        """Since the start: connections ``accepted``, ``refused`` (too many), requests by status; ``open``: now."""
        return {**self._counts, "open": self._connections.total()}

    async def serve(self, listener: trio.socket.SocketType) -> None:
        """Until it is cancelled."""
        refilled = trio.current_time()
        async with trio.open_nursery() as nursery:
            while True:
                try:
                    connection, _ = await listener.accept()
                except OSError as error:  # out of descriptors, or the client has gone
                    log.warning("control-accept-failed", "control socket: cannot accept: %s", error)
                    await trio.sleep(0.1)
                    continue
                now = trio.current_time()
                self._tokens = min(BURST, self._tokens + (now - refilled) * NEW_A_SECOND) - 1
                refilled = now
                self._counts["accepted"] += 1
                self._admit(connection, nursery)
                if self._tokens < 1:
                    await trio.sleep((1 - self._tokens) / NEW_A_SECOND)

    def _admit(self, connection: trio.socket.SocketType, nursery: trio.Nursery) -> None:
        peer = None
        with suppress(OSError):
            peer = identify(connection._sock, self._proc)  # type: ignore[attr-defined]
        if peer is None or self._is_too_many(peer):
            self._counts["refused"] += 1
            with suppress(OSError):
                connection._sock.send(_TOO_MANY)  # type: ignore[attr-defined]
            connection.close()
            return
        # Counted from here, not from the task's first step: the next in the queue may be admitted before that.
        self._connections[peer.uid, peer.pid_namespace] += 1
        self._of_containers += not peer.is_of_host
        nursery.start_soon(self._hold, connection, peer)

    def _is_too_many(self, peer: Peer) -> bool:
        if self._connections.total() >= MOST_CONNECTIONS:
            return True
        if peer.is_of_host:
            return peer.uid != 0 and self._connections[peer.uid, peer.pid_namespace] >= MOST_OF_ONE_PEER
        return (
            self._of_containers >= MOST_FOR_CONTAINERS
            or self._connections[peer.uid, peer.pid_namespace] >= MOST_OF_ONE_PEER
        )

    async def _hold(self, connection: trio.socket.SocketType, peer: Peer) -> None:
        key = peer.uid, peer.pid_namespace
        try:
            await self._converse(connection, peer)
        except OSError:
            pass  # it has gone
        except Exception:
            log.exception("control-failed", "control socket: %s", peer)
        finally:
            connection.close()
            self._of_containers -= not peer.is_of_host
            self._connections[key] -= 1
            if not self._connections[key]:
                del self._connections[key]

    async def _converse(self, connection: trio.socket.SocketType, peer: Peer) -> None:
        """Requests and replies, until one of the two has had enough."""
        http = h11.Connection(h11.SERVER, max_incomplete_event_size=_MOST_HEADER_BYTES)
        while True:
            response: Response
            head_only = False
            try:
                with trio.move_on_after(REQUEST_SECONDS) as patience:
                    request = await _request(http, connection, peer)
                if patience.cancelled_caught:
                    return
                if request is None:
                    return
                head_only = request.method == "HEAD"
                await self._pace(peer)
                response = await self._answered(request)
            except h11.RemoteProtocolError as error:
                response = Response.error(error.error_status_hint, f"not understood: {error}")
            self._counts[f"status_{response.status}"] += 1
            with trio.move_on_after(REQUEST_SECONDS) as patience:
                await self._send(http, connection, response, head_only=head_only)
            if patience.cancelled_caught or http.our_state is not h11.DONE or http.their_state is not h11.DONE:
                return
            http.start_next_cycle()

    async def _pace(self, peer: Peer) -> None:
        """Whoever is in a container waits for his turn, so that one that asks on and on costs little."""
        if peer.is_of_host and peer.uid == 0:
            return
        key = peer.uid, peer.pid_namespace
        now = trio.current_time()
        turn = self._next[key] = max(self._next.get(key, 0.0), now - BURST_OF_ONE_PEER / A_SECOND_OF_ONE_PEER)
        self._next[key] = turn + 1 / A_SECOND_OF_ONE_PEER
        await trio.sleep_until(turn)
        if len(self._next) > 4 * MOST_CONNECTIONS:
            self._next = {key: turn for key, turn in self._next.items() if turn > now - 60}

    async def _answered(self, request: Request) -> Response:
        with trio.move_on_after(ANSWER_SECONDS):
            try:
                return await self._answer(request)
            except Exception:
                log.exception("control-failed", "control socket: %s %.200s", request.method, request.path)
                return Response.error(500, "this failed in the daemon, whose log says why")
        return Response.error(504, f"no answer within {ANSWER_SECONDS:g} s")

    async def _send(
        self, http: h11.Connection, connection: trio.socket.SocketType, response: Response, *, head_only: bool
    ) -> None:
        headers = [
            ("Content-Type", response.content_type),
            ("Content-Length", str(len(response.body))),
            ("Server", self._name),
            *response.headers,
        ]
        if http.our_state is h11.ERROR:
            return
        if http.their_state is h11.ERROR or http.their_state is h11.MUST_CLOSE:
            headers.append(("Connection", "close"))
        data = http.send(h11.Response(status_code=response.status, headers=headers))
        if not head_only:
            data += http.send(h11.Data(data=response.body)) or b""
        data += http.send(h11.EndOfMessage()) or b""
        await _send_all(connection, data)


async def _request(http: h11.Connection, connection: trio.socket.SocketType, peer: Peer) -> Request | None:
    """The next one, with its body, which nobody needs, read to the end; None where the peer has no more."""
    head: h11.Request | None = None
    body_bytes = 0
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            if http.they_are_waiting_for_100_continue:
                go_on = http.send(h11.InformationalResponse(status_code=100, headers=[]))
                await _send_all(connection, go_on)
            http.receive_data(await connection.recv(_CHUNK_BYTES))
        elif isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body_bytes += len(event.data)
            if body_bytes > _MOST_BODY_BYTES:
                raise h11.RemoteProtocolError("the body is too large", error_status_hint=413)
        elif isinstance(event, h11.EndOfMessage):
            assert head is not None
            return _taken_apart(head, peer)
        else:  # ConnectionClosed, PAUSED
            return None


def _taken_apart(head: h11.Request, peer: Peer) -> Request:
    try:
        target = urlsplit(head.target.decode("ascii"))
        query = dict(parse_qsl(target.query, keep_blank_values=True, strict_parsing=bool(target.query)))
        path = unquote(target.path, errors="strict")
    except ValueError as error:
        raise h11.RemoteProtocolError(f"{error}: {head.target[:100]!r}") from None
    return Request(peer, head.method.decode("ascii"), path, query)


async def _send_all(connection: trio.socket.SocketType, data: bytes | None) -> None:
    rest = memoryview(data or b"")
    while rest:
        rest = rest[await connection.send(rest) :]


_TOO_MANY_BODY = b'{"error": "too many connections"}\n'
_TOO_MANY = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(_TOO_MANY_BODY), _TOO_MANY_BODY)
)
