"""The service manager's watchdog: fed while requests go through the kernel and back in time."""

from collections.abc import Callable

import trio

from procview.fs.mount import Mount, answers
from procview.logs import Log
from procview.notify import Notifier, watchdog_seconds

log = Log(__name__)


async def feed(notifier: Notifier, mount: Mount, stop: trio.Event, path: str, status: Callable[[], str]) -> None:
    """Feed the watchdog of systemd, or of the supervisor, if there is any, until ``stop``. ``path``: where ``mount`` is
    now.

    Raises MountError when the mount is gone: what is there instead would answer for us.
    """
    seconds = watchdog_seconds()
    if seconds is None:
        return
    notifier.send("WATCHDOG=1")
    while not stop.is_set():
        try:
            # Without a lane who asks keeps the time, not this event loop: the loop may be asleep in a read(2) of
            # /dev/fuse whose request was taken back (its reader was killed), and then the question wakes it.
            pause = seconds / 2
            if not mount.may_oversleep:
                await trio.sleep(pause)
                pause = 0
            if await answers(path, pause + seconds * 0.4, after_seconds=pause):
                if not stop.is_set():
                    mount.check()
                if mount.is_stuck():
                    log.error(
                        "watchdog-not-fed",
                        "a thread has the request in hand that it had before; the watchdog is not fed",
                    )
                    continue
                notifier.send("WATCHDOG=1", status())
                continue
            log.error("watchdog-not-fed", "%s does not answer; the watchdog is not fed", path)
        except OSError as error:
            log.error("watchdog-not-fed", "%s fails (%s); the watchdog is not fed", path, error)
            await trio.sleep(seconds / 2)
