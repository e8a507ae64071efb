"""The control socket's place in the daemon: when it is there, what it may ask and tell the daemon, its policy.

It comes after the views, and its modules are loaded by a thread then: nobody waits longer for a view because of it, and
a daemon whose socket cannot be made serves on without.
"""

import importlib
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

import trio

import procview
from procview._fast.engine import Engine
from procview.daemon.vitals import Vitals
from procview.logs import Log
from procview.slots.skeleton import Skeleton

if TYPE_CHECKING:
    from procview.control.api import Api

log = Log(__name__)


class Control:
    """The socket of one daemon. ``policy`` is the policy's file as configured (None: the default one).

    ``status`` and ``reload`` are the daemon's, ``loads_were_read`` wakes its sampler.
    """

    def __init__(
        self,
        skeleton: Skeleton,
        engine: Engine,
        vitals: Vitals,
        *,
        proc: str,
        has_slots: bool,
        policy: str | None,
        status: Callable[[], Mapping[str, Any]],
        reload: Callable[[], Awaitable[str | None]],
        loads_were_read: Callable[[], None],
    ) -> None:
        self._skeleton = skeleton
        self._engine = engine
        self._vitals = vitals
        self._proc = proc
        self._has_slots = has_slots
        self._policy = policy
        self._api: Api | None = None
        self.status = status
        self.reload = reload
        self.loads_were_read = loads_were_read

    async def run(self) -> None:
        """Until it is cancelled; for good after an error, which is logged."""
        try:
            await trio.to_thread.run_sync(importlib.import_module, "procview.control.api", abandon_on_cancel=True)
            await self._run()
        except Exception as error:  # whatever it is: the views are served on
            log.error(
                "control-missing",
                "there is no control socket: %s",
                error,
                with_traceback=not isinstance(error, OSError),
            )

    async def _run(self) -> None:
        from procview.control.api import Api
        from procview.control.census import Census
        from procview.control.metrics import Metrics
        from procview.control.policy import Policy, PolicyError, load
        from procview.control.server import Server, bound

        skeleton = self._skeleton if self._has_slots else None
        census = Census(self._engine, skeleton, self._proc)
        metrics = Metrics(self._engine, census, self._vitals, procview.__version__)
        try:
            policy = load(self._policy)
        except PolicyError as error:
            log.error(
                "policy-refused",
                "the control socket's policy cannot be used, so only root of the host is let in: %s",
                error,
            )
            policy = Policy.of_nobody()
        self._api = Api(self, census, metrics, policy, skeleton)
        server = Server(self._api.answer, proc=self._proc, version=procview.__version__)
        self._vitals.more = server.counters
        self._skeleton.make_control()
        try:
            with bound(self._skeleton.control_place) as listener:
                log.info("control-serving", "control socket: %s", self._skeleton.control_socket)
                await server.serve(listener)
        finally:
            if not self._has_slots:
                self._skeleton.remove_control()

    def read_policy(self, path: str | None) -> str | None:
        """Read the policy's file again; a bad one changes nothing, and what is wrong with it is returned."""
        from procview.control.policy import PolicyError, load

        self._policy = path
        if self._api is None:
            return None
        try:
            self._api.policy = load(path)
        except PolicyError as error:
            return f"the control socket's policy stays as it was: {error}"
        return None
