"""What clients of the control socket cost a reader of a view: many that ask without a pause, on a CPU of their own.

The reader's meminfo is timed on another CPU, without and with them in turn; the daemon may use all CPUs.

Run as ``python -m bench.control SOCKET CLIENTS`` it is the clients: it says ``ready`` and asks until its input ends.
"""

import contextlib
import http.client
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.container import Container
from bench.servers import Server, run_directory
from bench.stats import Samples

FILE = "meminfo"
CLIENTS = 100
TARGETS = ("/v1/status", "/v1/containers", "/metrics", "/v1/nothing")


@dataclass
class Control:
    alone: Samples = field(default_factory=Samples)
    beside: Samples = field(default_factory=Samples)


def measure(container: Container, ours: Server, *, all_cpus: Sequence[int], rounds: int, seconds: float) -> Control:
    """Needs a container on two CPUs."""
    client_cpu, timed_cpu = container.limits.cpus[0], container.limits.cpus[-1]
    path = container.path(ours.name, FILE)
    asked = run_directory(ours) / "control.sock"
    found = Control()
    ours.unpin(all_cpus)
    for _ in range(rounds):
        found.alone.add(container.storm(path, threads=1, seconds=seconds, cpu=timed_cpu))
        with _asking(asked, client_cpu):
            found.beside.add(container.storm(path, threads=1, seconds=seconds, cpu=timed_cpu))
    return found


@contextlib.contextmanager
def _asking(path: Path, cpu: int) -> Iterator[None]:
    argv = ["taskset", "-c", str(cpu), sys.executable, "-m", "bench.control", str(path), str(CLIENTS)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as clients:
        try:
            assert clients.stdout is not None
            if clients.stdout.readline() != "ready\n":
                raise OSError(f"{path}: nobody answers")
            yield
        finally:
            assert clients.stdin is not None
            clients.stdin.close()
            clients.wait()


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("procview", timeout=30)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _ask(path: str, number: int, answered: threading.Event) -> None:
    while True:
        with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(_Connection(path)) as client:
            while True:
                client.request("GET", TARGETS[number % len(TARGETS)])
                client.getresponse().read()
                answered.set()


def main() -> None:
    path, clients = sys.argv[1:]
    answered = threading.Event()
    for number in range(int(clients)):
        threading.Thread(target=_ask, args=(path, number, answered), daemon=True).start()
    if answered.wait(30):
        print("ready", flush=True)
        sys.stdin.read()
    os._exit(0)  # its threads have nothing to clear up


if __name__ == "__main__":
    main()
