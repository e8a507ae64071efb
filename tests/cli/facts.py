"""Made-up answers of a daemon, for what asks it."""

import contextlib
import http.server
import json
import socketserver
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from procview.screen.polls import Host, Poll

MIB = 1 << 20


def fact(name: str = "web", number: int = 1, **changes: Any) -> dict[str, Any]:
    """One container, as GET /v1/containers has it: 512 MiB, half a CPU, and little to do."""
    return {
        "id": name,
        "init_pid": 1000 + number,
        "pid_namespace": 4026530000 + number,
        "command": "sleep",
        "cgroup": f"/{name}",
        "since": "2026-01-01T00:00:00Z",
        "state": "attached",
        "why": "",
        "reads": 100,
        "cpus": 1,
        "cpu_quota": 0.5,
        "cpu_usage_usec": 1_000_000,
        "cpu_periods": 100,
        "cpu_throttled_periods": 10,
        "cpu_throttled_usec": 500_000,
        "memory_total_bytes": 512 * MIB,
        "memory_available_bytes": 384 * MIB,
        "swap_total_bytes": 64 * MIB,
        "swap_free_bytes": 63 * MIB,
        "pressure_some_avg10_percent": {"cpu": 1.5, "memory": 0.0, "io": None},
        "load_averages": [0.25, 0.5, 0.75],
    } | changes


def status(**changes: Any) -> dict[str, Any]:
    """The daemon, as GET /v1/status has it."""
    return {
        "version": "1.2.3",
        "pid": 77,
        "since": "2026-01-01T00:00:00Z",
        "mount": "/run/procview/fs",
        "run_directory": "/run/procview",
        "lane": True,
        "took_over": False,
        "published_since": "2026-01-01T00:00:01Z",
        "reads": 1000,
        "renders": [
            {"up_to_usec": 10.0, "count": 900},
            {"up_to_usec": 50.0, "count": 90},
            {"up_to_usec": None, "count": 10},
        ],
        "fallbacks": 0,
        "known_containers": 1,
        "absent_controllers": [],
        "rss_bytes": 30 * MIB,
        "fds": 20,
        "threads": 5,
        "cpu_seconds": 1.0,
    } | changes


def made_poll(*facts: Mapping[str, Any], at: float = 100.0, **changes: Any) -> Poll:
    """What came back ``at`` seconds. The host has 16 GiB and 8 CPUs."""
    host = Host(cpus=8, cpu_used=2.0, memory_total_bytes=16 << 30, memory_available_bytes=8 << 30, swap_total_bytes=0,
                swap_used_bytes=0, load_averages=(1.0, 2.0, 3.0), up_seconds=7200.0)  # fmt: skip
    return Poll(at, at, 1767225600.0 + at, status(**changes), [dict(one) for one in facts], host)


Answers = dict[str, tuple[int, bytes]]
"""Paths, queries included, and what comes back: status and body."""


def answers(*facts: Mapping[str, Any], **changes: Any) -> Answers:
    """Of a daemon that is well."""
    containers = json.dumps({"monotonic_seconds": 5.0, "containers": facts}).encode()
    return {
        "/v1/status": (200, json.dumps(status(**changes)).encode()),
        "/v1/containers": (200, containers),
        "/v1/containers?load=true": (200, containers),
    }


@contextlib.contextmanager
def served(path: Path, replies: Answers) -> Iterator[None]:
    """Somebody who answers so at a Unix socket."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            code, body = replies.get(self.path, (404, b'{"error": "there is nothing"}'))
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def address_string(self) -> str:
            return "somebody"

        def log_message(self, *_: object) -> None:
            pass

    path.parent.mkdir(parents=True, exist_ok=True)
    with socketserver.ThreadingUnixStreamServer(str(path), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()
            path.unlink()
