"""What there is to ask for, and who may: each request to the function that answers it.

GET /v1/status, /v1/containers, /v1/containers/ID, /v1/self, /metrics; POST /v1/reload, /v1/containers/ID/attach,
/v1/containers/ID/detach. ID is a container's id or its init's pid. docs/operations.md describes each reply.
"""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Protocol, TypeVar

import trio

from procview.control.census import Census, NotFoundError
from procview.control.metrics import CONTENT_TYPE, Metrics
from procview.control.peers import Peer
from procview.control.policy import Policy
from procview.control.server import Request, Response
from procview.logs import Log
from procview.slots.attach import Result, attach, detach
from procview.slots.containers import Container
from procview.slots.skeleton import Skeleton

log = Log(__name__)

T = TypeVar("T")

_ONE_AT_A_TIME = trio.CapacityLimiter(1)
"""Whatever is asked for, it keeps one processor busy at most."""


class Served(Protocol):
    """The daemon, as far as it is asked and told here."""

    def status(self) -> Mapping[str, Any]:
        """What there is to know of the daemon itself, for JSON."""

    def reload(self) -> Awaitable[str | None]:
        """Read the configuration again. What is wrong with it, if anything."""

    def loads_were_read(self) -> None:
        """A load average was asked for, and is to be sampled from now on."""


class Api:
    """Answers requests about ``census`` and ``served``. ``policy`` may be replaced at any time."""

    def __init__(
        self, served: Served, census: Census, metrics: Metrics, policy: Policy, skeleton: Skeleton | None
    ) -> None:
        self.policy = policy
        self._served = served
        self._census = census
        self._metrics = metrics
        self._skeleton = skeleton

    async def answer(self, request: Request) -> Response:
        """The reply. Never raises for what a client can do."""
        try:
            return await self._answer(request)
        except NotFoundError as error:
            return Response.error(404, str(error))

    async def _answer(self, request: Request) -> Response:
        match [part for part in request.path.split("/") if part]:
            case ["metrics"]:
                return await self._get(request, "metrics", self._measured)
            case ["v1", "status"]:
                return await self._get(request, "status", self._status)
            case ["v1", "self"]:
                return await self._get(request, "self", partial(self._self, request))
            case ["v1", "containers"]:
                return await self._get(request, "containers", partial(self._containers, request))
            case ["v1", "containers", reference]:
                return await self._container(request, reference)
            case ["v1", "reload"]:
                return await self._post(request, "reload", self._reload)
            case ["v1", "containers", reference, ("attach" | "detach") as verb]:
                return await self._post(request, verb, partial(self._mount, verb, reference))
            case _:
                return Response.error(404, f"there is no {request.path[:200]!r}; there are {_PATHS}")

    # --- who may ------------------------------------------------------------------------------------------------

    async def _get(self, request: Request, action: str, answer: Callable[[], Awaitable[Response]]) -> Response:
        if request.method not in ("GET", "HEAD"):
            return Response.error(405, f"{request.method} is not for this: GET is", ("Allow", "GET, HEAD"))
        return await answer() if await self._may(request.peer, action) else self._refused(request.peer, action)

    async def _post(self, request: Request, action: str, answer: Callable[[], Awaitable[Response]]) -> Response:
        if request.method != "POST":
            return Response.error(405, f"{request.method} is not for this: POST is", ("Allow", "POST"))
        if not await self._may(request.peer, action):
            return self._refused(request.peer, action)
        log.info("control-asked", "control socket: %s by %s", request.path, request.peer)
        return await answer()

    async def _may(self, peer: Peer, action: str) -> bool:
        container = None
        if peer.pid_namespace and not peer.is_of_host and self.policy.names_containers:
            container = await _in_thread(self._census.trusted_name, peer.pid_namespace)
        return self.policy.allows(action, uid=peer.uid, container=container, is_of_host=peer.is_of_host)

    def _refused(self, peer: Peer, action: str) -> Response:
        # A container is told nothing of how the host numbers its processes.
        who = f"uid {peer.uid} of the host" if peer.is_of_host else "this container"
        return Response.error(403, f"{action} is not allowed to {who}; the file control_policy says what is")

    # --- what -----------------------------------------------------------------------------------------------------

    async def _status(self) -> Response:
        return Response.of(200, dict(self._served.status()))

    async def _measured(self) -> Response:
        return Response(200, await _in_thread(self._metrics.text), CONTENT_TYPE)

    async def _containers(self, request: Request) -> Response:
        with_load = _wants_load(request)
        when, facts = await _in_thread(partial(self._census.facts, with_load=with_load))
        if with_load:
            self._served.loads_were_read()
        return Response.of(200, {"monotonic_seconds": when, "containers": facts})

    async def _container(self, request: Request, reference: str) -> Response:
        action = "container"
        if await self._is_own(request.peer, reference):
            action = "self" if not await self._may(request.peer, "container") else action
        return await self._get(request, action, partial(self._one, request, reference, action))

    async def _is_own(self, peer: Peer, reference: str) -> bool:
        if not peer.pid_namespace or peer.is_of_host:
            return False
        try:
            own = await _in_thread(self._census.of_namespace, peer.pid_namespace)
        except NotFoundError:
            return False
        return reference in (own.name, str(own.pid))

    async def _one(self, request: Request, reference: str, action: str) -> Response:
        if action == "self":  # whoever else may be called so
            return await self._self(request)
        return await self._fact(request, await _in_thread(self._census.find, reference))

    async def _self(self, request: Request) -> Response:
        peer = request.peer
        if peer.is_of_host or not peer.pid_namespace:
            return Response.error(404, f"{peer} is in no container")
        return await self._fact(request, await _in_thread(self._census.of_namespace, peer.pid_namespace))

    async def _fact(self, request: Request, container: Container) -> Response:
        with_load = _wants_load(request)
        fact = await _in_thread(partial(self._census.fact, container, with_load=with_load))
        if with_load:
            self._served.loads_were_read()
        return Response.of(200, fact)

    async def _reload(self) -> Response:
        wrong = await self._served.reload()
        return Response.of(200, {"reloaded": True}) if wrong is None else Response.error(422, wrong)

    async def _mount(self, verb: str, reference: str) -> Response:
        if self._skeleton is None:
            return Response.error(409, "this daemon makes no slots (setting slots)")
        container = await _in_thread(self._census.find, reference)
        do = attach if verb == "attach" else detach
        (result,) = await _in_thread(do, self._skeleton, [container])
        return _told(result, verb)


def _told(result: Result, verb: str) -> Response:
    value: dict[str, Any] = {"id": result.container.name, "init_pid": result.container.pid, "files": result.files}
    wrong = result.error or result.skipped
    if not result.failed and wrong is None:
        return Response.of(200, value)
    # The hook program is a child of ours and may do what we may: all it needs under the shipped unit, less elsewhere.
    advice = f"if this daemon may not enter containers (a unit of your own?), run procview {verb} on the host"
    return Response.of(409, {"error": wrong or "some files failed", "advice": advice, **value})


async def _in_thread(function: Callable[..., T], *args: object) -> T:
    return await trio.to_thread.run_sync(function, *args, abandon_on_cancel=True, limiter=_ONE_AT_A_TIME)


def _wants_load(request: Request) -> bool:
    return request.query.get("load", "false") == "true"


_PATHS = "/v1/status, /v1/containers, /v1/self, /v1/reload, /metrics"
