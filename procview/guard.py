"""The guard: a second, small process that takes the views away when the daemon dies or hangs.

The daemon cannot do that itself: SIGKILL leaves it no time, SIGSTOP no way. Its guard holds the other end of a socket
that closes when the daemon is gone. Somebody may hold the connection then, for a new daemon to take over; whether one
does in time is told by a question of the guard's own. While views are published it also looks, four times a second,
whether requests wait for an answer; if some do, it asks that question as well. Unanswered in time, it withdraws the
views from all containers and ends the connection, so that those who wait get an error instead of waiting for ever. A
daemon that hangs it kills then, which is of no use without its connection: whoever started it starts it anew.

Run by the daemon as ``python -m procview.guard RUN_DIRECTORY HANG_SECONDS TAKEOVER_SECONDS``, with the socket as its
standard input; for good where views are mounted (``mount_namespace``). On the socket come lines: ``watch DEVICE MOUNT``
before views are published, and when that mount has moved; ``end`` when the daemon has withdrawn them itself.
"""

import contextlib
import os
import select
import signal
import socket
import struct
import sys
import threading
import time
from typing import NamedTuple

from procview import logs, mount_namespace
from procview.logs import Log
from procview.mounts import clone_tree, waiting_requests
from procview.slots.publish import cut_off, withdraw
from procview.slots.skeleton import Skeleton
from procview.starvation import Starvation, threads_of

log = Log(__name__)

LOOK_SECONDS = 0.25
"""With what hang_seconds is by default, a hang is over in less than a second."""
LET_GO_STATUS = 3
"""The exit status of a guard that has taken the views away: there is nothing left to watch."""


MOST_PATIENCE = 10
"""How many times hang_seconds a daemon may take that gets no processor."""


class _Question(NamedTuple):
    """One that was asked, and what came of it, if anything has."""

    thread: threading.Thread
    answers: list[bool]


class Guard:
    """Watches one daemon. ``channel`` is the socket to it.

    It hangs when it answers nothing for ``hang_seconds``. When it has died, another one has ``takeover_seconds`` to
    answer on its connection.
    """

    def __init__(
        self, skeleton: Skeleton, channel: socket.socket, *, hang_seconds: float, takeover_seconds: float
    ) -> None:
        self._hang_seconds = hang_seconds
        self._takeover_seconds = takeover_seconds
        self._skeleton = skeleton
        self._channel = channel
        self._device = ""
        self._mount = ""
        self._root = -1

    def run(self) -> int:
        """Until the daemon is gone, hangs, or has told that it ends; the exit status."""
        poll = select.poll()
        poll.register(self._channel, select.POLLIN)
        unread = b""
        while True:
            if self._device and not poll.poll(LOOK_SECONDS * 1000):
                # An error is an answer as well: the connection has ended, and the daemon will see that itself.
                # A daemon that has died meanwhile does not hang, and has a successor's time.
                if self._requests_wait() and self._hangs() and not poll.poll(0):
                    status = self._let_go(f"the daemon has not answered for {self._hang_seconds:g} s")
                    self._kill()
                    return status
                continue
            received = self._receive()
            if not received:
                return self._after_the_end()
            *lines, unread = (unread + received).split(b"\n")
            for line in lines:
                command, *words = os.fsdecode(line).split(" ", 2)
                if command == "end":
                    return 0
                self._watch(*words)

    def _kill(self) -> None:
        """End the daemon. With rings, requests that it has not begun with wait until it is dead, connection or not."""
        try:
            pid = self._daemon()
            daemon = os.pidfd_open(pid)
        except OSError as error:
            log.error("kill-failed", "the daemon cannot be killed: %s", error)
            return
        # Nobody else has its number: were it dead, the socket would be closed.
        try:
            if not select.select([self._channel], [], [], 0)[0]:
                signal.pidfd_send_signal(daemon, signal.SIGKILL)
                log.error("daemon-killed", "pid %d, the daemon, is killed", pid)
        finally:
            os.close(daemon)

    def _daemon(self) -> int:
        """Its pid. Raises OSError."""
        pid: int
        pid, _, _ = struct.unpack("iII", self._channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        return pid

    def _receive(self) -> bytes:
        with contextlib.suppress(ConnectionResetError):
            return self._channel.recv(65536)
        return b""

    def _watch(self, device: str, mount: str) -> None:
        self._device, self._mount = device, mount
        if self._root >= 0:
            os.close(self._root)
            self._root = -1
        # Pins the file system, so that its device number cannot become that of another one while we go by it. When
        # it is unmounted already, the daemon is at its end, and its successor has cleared up.
        with contextlib.suppress(OSError):
            self._root = clone_tree(mount)  # a copy, mounted nowhere: the mount itself does not become busy

    def _requests_wait(self) -> bool:
        """Whether the kernel has requests without an answer; where it does not tell, perhaps."""
        try:
            return waiting_requests(self._device) != 0
        except OSError:
            return True

    def _after_the_end(self) -> int:
        """The daemon is gone. Whether its views go as well depends on who answers in its place; the exit status."""
        if self._root < 0:
            return 0
        answer = self._asked(self._takeover_seconds)
        if answer is None:
            return self._let_go(f"the daemon has died, and no other has answered for {self._takeover_seconds:g} s")
        if not answer:
            return self._let_go("the daemon has died")
        # Also where this guard was slow to start, and has pinned the mount of the next daemon, under the same number.
        log.info("daemon-replaced", "the daemon has died, and another one answers in its place: its views stay")
        return 0

    def _hangs(self) -> bool:
        """Whether a question stays without an answer for as long as makes a hang. Time in which the daemon waits for a
        processor is none of its silence, up to a point: past that it is of no use, whatever the reason.
        """
        question = self._ask()
        assert question.thread.native_id is not None  # it runs
        asker = Starvation(os.getpid(), question.thread.native_id)
        daemon = self._daemon()
        # From the asker the question goes to any thread of the lane, and from that to the event loop, the first thread.
        loop = Starvation(daemon)
        others = [Starvation(daemon, thread) for thread in threads_of(daemon) if thread != daemon]
        begun = then = time.monotonic()
        silent = 0.0
        while silent < self._hang_seconds and then - begun < self._hang_seconds * MOST_PATIENCE:
            question.thread.join(LOOK_SECONDS / 5)
            if question.answers:
                return False
            now = time.monotonic()
            other = max((thread.seconds_since() for thread in others), default=0.0)
            silent += max(0.0, now - then - asker.seconds_since() - loop.seconds_since() - other)
            then = now
        return True

    def _asked(self, seconds: float) -> bool | None:
        """What a question brings: True for an answer, False for an error (the connection has ended), None if nothing
        comes within ``seconds``.
        """
        question = self._ask()
        question.thread.join(seconds)
        return question.answers[0] if question.answers else None

    def _ask(self) -> "_Question":
        """Begin with statfs(2), which the kernel never answers from a cache."""
        answers: list[bool] = []

        def ask() -> None:
            try:
                os.statvfs(f"/proc/self/fd/{self._root}")
            except OSError:
                answers.append(False)
            else:
                answers.append(True)

        # A thread, because nothing but the end of the connection gets a question back; it then ends too.
        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        return _Question(thread, answers)

    def _let_go(self, why: str) -> int:
        """Take this daemon's views out of all containers, then its mount away, and end its connection."""
        try:
            count = withdraw(self._skeleton, self._device)
            log.error("views-withdrawn", "%s: %d views are withdrawn, containers read the host's files", why, count)
            cut_off(self._mount, self._device)
        except OSError as error:
            log.error("withdraw-failed", "%s, and taking its views away failed: %s", why, error)
            return 1
        return LET_GO_STATUS


def main() -> None:
    """The guard's process."""
    # The service manager signals all processes of the service: what counts for the guard is the end of the daemon.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    logs.set_up("info")
    mount_namespace.choose()
    mount_namespace.enter()
    base, hang_seconds, takeover_seconds = sys.argv[1:]
    guard = Guard(
        Skeleton(base),
        socket.socket(fileno=0),
        hang_seconds=float(hang_seconds),
        takeover_seconds=float(takeover_seconds),
    )
    sys.exit(guard.run())


if __name__ == "__main__":
    main()
