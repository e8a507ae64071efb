"""Section 10: pressure/{cpu,memory,io} are R's own files on v2, also where a hybrid host has them; None: not there."""

from __future__ import annotations

from tests.hosts.model import Container, Layout


def pressure(container: Container, layout: Layout, resource: str) -> str | None:
    return container.pressure.get(resource) if layout is not Layout.V1 else None
