"""A daemon in waiting: started and imported, it waits for a word of its supervisor, and then goes on as any other.

Python, trio and pyfuse3 take a third of a second to start, for which readers of a dead daemon would wait. The socket is
the descriptor that PROCVIEW_STANDBY names: SOCK_SEQPACKET, on which this side says that it is warm, with a pidfd of
itself, and the other sends messages in JSON. ``names``: to serve, with the descriptors that come with it. ``another``:
to fork another standby first, whose socket comes last; for that one, imports are done, however much else the processors
have to do. When the supervisor ends, so does this process.
"""

import json
import os
import signal
import socket
from contextlib import suppress

from procview.logs import Log
from procview.notify import Notifier
from procview.store import MOST_DESCRIPTORS, Store, name_is_valid

log = Log(__name__)

VARIABLE = "PROCVIEW_STANDBY"
WARM = b"warm"
MESSAGE_BYTES = 1 << 16


def store_when_it_is_time() -> Store:
    """The store of this process: at once, or, if it is a standby, when it is told to serve.

    To be called with all imports done, before anything else opens files or starts threads: of a standby, there may be
    several processes when this returns, in each of them once. Raises OSError; SystemExit, with the status 0, when there
    is nobody any more who could tell it.
    """
    number = os.environ.pop(VARIABLE, None)
    if number is None:
        return Store.from_environment()
    try:
        os.set_inheritable(int(number), False)
        channel = socket.socket(fileno=int(number))
    except (ValueError, OverflowError, OSError) as error:
        raise OSError(f"{VARIABLE}={number[:40]} is not the number of a socket") from error
    handed_over = _handed_over(channel)
    return Store(Notifier.from_environment(), handed_over)


def _handed_over(channel: socket.socket) -> list[tuple[str, int]]:
    """Wait, and close ``channel``. Raises OSError, SystemExit."""
    interrupt = signal.signal(signal.SIGINT, signal.SIG_DFL)  # there is nothing to clear up yet
    try:
        _say_warm(channel)
        while True:
            names, descriptors, fork = _told(channel)
            if fork:
                fresh = socket.socket(fileno=descriptors.pop())
                if _is_forked():
                    for fd in descriptors:
                        os.close(fd)
                    channel.close()
                    channel = fresh
                    _say_warm(channel)
                    continue
                fresh.close()
            if names is not None:
                return list(zip(names, descriptors, strict=True))
    except ConnectionResetError:
        raise SystemExit(0) from None
    finally:
        channel.close()
        signal.signal(signal.SIGINT, interrupt)


def _say_warm(channel: socket.socket) -> None:
    """Whoever has closed it may have told us to go before that, and it is still to be read."""
    ourselves = os.pidfd_open(os.getpid())
    try:
        with suppress(BrokenPipeError):
            socket.send_fds(channel, [WARM], [ourselves])
    finally:
        os.close(ourselves)


def _told(channel: socket.socket) -> tuple[list[str] | None, list[int], bool]:
    """The next message: names, if it is time, and a descriptor for each; whether to fork, and then a socket as the last
    descriptor. Raises OSError, SystemExit.
    """
    try:
        message, descriptors, flags, _ = socket.recv_fds(channel, MESSAGE_BYTES, MOST_DESCRIPTORS + 1)
    except ConnectionResetError:
        # It was closed before our word was read, and the kernel tells that first: what was sent before is still there.
        message, descriptors, flags, _ = socket.recv_fds(channel, MESSAGE_BYTES, MOST_DESCRIPTORS + 1)
    if not message:
        raise SystemExit(0)
    for fd in descriptors:
        os.set_inheritable(fd, False)
    try:
        values = json.loads(message)
        names, fork = values.get("names"), values.get("another") is True
        if names is None and not fork:
            raise ValueError("it says nothing")
        expected = len(names or ()) + fork
        if flags & (socket.MSG_CTRUNC | socket.MSG_TRUNC) or len(descriptors) != expected:
            raise ValueError("descriptors are missing")
        if names is not None and not all(isinstance(name, str) and name_is_valid(name) for name in names):
            raise ValueError("a name is not one")
    except (ValueError, TypeError, AttributeError) as error:
        for fd in descriptors:
            os.close(fd)
        raise OSError(f"the supervisor's message is not understood: {error}") from error
    return names, descriptors, fork


def _is_forked() -> bool:
    """Fork, and say in which of the two this is: True in the new one, whose parent is the supervisor at once."""
    try:
        between = os.fork()
    except OSError as error:
        log.warning("standby-not-forked", "cannot fork another standby: %s", error)
        return False
    if between == 0:
        _leave_a_child()
        return True
    os.waitpid(between, 0)
    return False


def _leave_a_child() -> None:
    """In a child: fork once more, and end. Returns in the grandchild only.

    An orphan goes to the supervisor, which adopts them (PR_SET_CHILD_SUBREAPER): a child of ours would be left to a
    daemon that knows nothing of it.
    """
    try:
        if os.fork() == 0:
            os.setsid()
            return
    except OSError as error:
        log.warning("standby-not-forked", "cannot fork another standby: %s", error)
    os._exit(0)
