"""A daemon in waiting: started and imported, it waits for a word of its supervisor, and then goes on as any other.

Python, trio and pyfuse3 take a third of a second to start, for which readers of a dead daemon would wait. The socket is
the descriptor that PROCVIEW_STANDBY names: SOCK_SEQPACKET, on which this side says that it is warm, and the other sends
one message, the names of the descriptors that come with it. When the supervisor ends, so does this process.
"""

import json
import os
import signal
import socket
from contextlib import suppress

from procview.notify import Notifier
from procview.store import MOST_DESCRIPTORS, Store, name_is_valid

VARIABLE = "PROCVIEW_STANDBY"
WARM = b"warm"
MESSAGE_BYTES = 1 << 16


def store_when_it_is_time() -> Store:
    """The store of this process: at once, or, if it is a standby, when it is told to serve.

    To be called with all imports done, before anything else opens files. Raises OSError; SystemExit, with the status 0,
    when there is nobody any more who could tell it.
    """
    number = os.environ.pop(VARIABLE, None)
    if number is None:
        return Store.from_environment()
    try:
        os.set_inheritable(int(number), False)
        channel = socket.socket(fileno=int(number))
    except (ValueError, OverflowError, OSError) as error:
        raise OSError(f"{VARIABLE}={number[:40]} is not the number of a socket") from error
    with channel:
        return Store(Notifier.from_environment(), _handed_over(channel))


def _handed_over(channel: socket.socket) -> list[tuple[str, int]]:
    """Wait. Raises OSError, SystemExit."""
    interrupt = signal.signal(signal.SIGINT, signal.SIG_DFL)  # there is nothing to clear up yet
    try:
        # Whoever has closed it may have told us to go before that, and it is still to be read.
        with suppress(BrokenPipeError):
            channel.send(WARM)
        message, descriptors, flags, _ = socket.recv_fds(channel, MESSAGE_BYTES, MOST_DESCRIPTORS)
    except ConnectionResetError:
        raise SystemExit(0) from None
    finally:
        signal.signal(signal.SIGINT, interrupt)
    if not message:
        raise SystemExit(0)
    for fd in descriptors:
        os.set_inheritable(fd, False)
    try:
        names = json.loads(message)["names"]
        if flags & (socket.MSG_CTRUNC | socket.MSG_TRUNC) or len(names) != len(descriptors):
            raise ValueError("descriptors are missing")
        if not all(isinstance(name, str) and name_is_valid(name) for name in names):
            raise ValueError("a name is not one")
    except (ValueError, KeyError, TypeError) as error:
        for fd in descriptors:
            os.close(fd)
        raise OSError(f"the supervisor's message is not understood: {error}") from error
    return list(zip(names, descriptors, strict=True))
