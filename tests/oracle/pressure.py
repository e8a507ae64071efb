"""Section 10: pressure/{cpu,memory,io} are R's own files on v2; None: not there."""

from __future__ import annotations

from tests.hosts.model import Container, Layout


def pressure(container: Container, layout: Layout, resource: str) -> str | None:
    return container.pressure.get(resource) if layout.is_v2 else None
