"""A daemon for the supervisor's tests: it keeps a memfd with a number in it, one more for each process that had it.

``python -m tests.supervise.keeper DIRECTORY``. What it did is in the files of the directory: ``starts`` has a line for
each start, ``signals`` for each signal. What it shall do is said by files as well: ``crash`` (end at once), ``mute``
(no READY=1), ``empty`` (keep nothing), ``starve`` (no WATCHDOG=1), ``stubborn`` (SIGTERM does not end it), ``status``
(to end with).
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from procview.notify import watchdog_seconds
from procview.standby import store_when_it_is_time

here = Path(sys.argv[1])


def note(file: str, *words: object) -> None:
    with (here / file).open("a") as opened:
        opened.write(" ".join(map(str, words)) + "\n")


def received(number: int, _frame: object) -> None:
    note("signals", signal.Signals(number).name, os.getpid())
    if number in (signal.SIGTERM, signal.SIGINT) and not (here / "stubborn").exists():
        status = here / "status"
        os._exit(int(status.read_text()) if status.exists() else 0)
    if number == signal.SIGUSR2:
        successor = subprocess.Popen([sys.executable, "-m", "tests.supervise.keeper", str(here)])
        store.notifier.send(f"MAINPID={successor.pid}")


store = store_when_it_is_time()
if (here / "crash").exists():
    note("starts", os.getpid())
    sys.exit(1)
for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
    signal.signal(each, received)
number = 1
memory = store.inherited("state")
if memory is None:
    memory = os.memfd_create("state")
    if not (here / "empty").exists():
        store.keep("state", memory)
else:
    number += int(os.pread(memory, 100, 0))
os.pwrite(memory, b"%d" % number, 0)
if not (here / "mute").exists():
    store.notifier.send("READY=1", f"STATUS=number {number}")
note("starts", os.getpid(), number, os.getppid(), os.environ.get("NOTIFY_SOCKET"))
seconds = watchdog_seconds()
while True:
    if seconds is not None and not (here / "starve").exists():
        store.notifier.send("WATCHDOG=1")
    time.sleep(1000 if seconds is None else seconds / 3)
