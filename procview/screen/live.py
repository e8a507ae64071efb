"""The loop of ``procview top``: a thread asks, keys are heeded meanwhile, and the page is drawn after either."""

import threading
import time
from dataclasses import dataclass

from procview.client import AskingError, Client
from procview.screen.controls import Controls
from procview.screen.page import State, lines
from procview.screen.polls import Poll, poll
from procview.screen.rows import rows
from procview.screen.terminal import EndedError, Terminal

FIRST_SECONDS = 1.0
"""After the first poll the second one comes soon: before it there are no rates."""


@dataclass
class Latest:
    """What the asking thread has found last."""

    now: Poll
    before: Poll | None = None
    failure: str | None = None

    def followed_by(self, now: Poll) -> "Latest":
        """Where the daemon has not looked at containers anew, as somebody else had just asked, rates stay."""
        return Latest(now, self.before if now.looked_seconds <= self.now.looked_seconds else self.now)

    def state(self) -> State:
        return State(self.now, self.before, self.failure, time.time())


class _Asking(threading.Thread):
    """Asks every ``seconds``, for as long as the process lives; a daemon that is not there is asked again."""

    def __init__(self, client: Client, first: Poll, seconds: float, terminal: Terminal) -> None:
        super().__init__(name="asking", daemon=True)
        self._client = client
        self._latest = Latest(first)
        self._seconds = seconds
        self._terminal = terminal
        self._over = threading.Event()

    def state(self) -> State:
        return self._latest.state()

    def end(self) -> None:
        self._over.set()

    def run(self) -> None:
        patience = min(self._seconds, FIRST_SECONDS)
        while not self._over.wait(patience):
            patience = self._seconds
            now = self._latest.now
            try:
                self._latest = self._latest.followed_by(poll(self._client))
            except AskingError as error:
                self._latest = Latest(now, self._latest.before, str(error))
            except Exception as error:  # whatever it is, the screen says it and goes on
                self._latest = Latest(now, self._latest.before, f"{type(error).__name__}: {error}")
            if not self._over.is_set():
                self._terminal.tell()


def run(client: Client, controls: Controls, seconds: float, terminal: Terminal) -> int | None:
    """Until it is told to end; the number of the signal that ended it, if one did. Raises AskingError at the start."""
    first = poll(client)
    asking = _Asking(client, first, seconds, terminal)
    try:
        with terminal.taken():
            asking.start()
            while not controls.has_ended:
                state = asking.state()
                terminal.draw(lines(state, controls, terminal.size()))
                for key in terminal.pressed():
                    controls.press(key, rows(state.now, state.before))
    except EndedError as end:
        return end.number
    finally:
        asking.end()
    return None
