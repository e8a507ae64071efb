"""Daemons of their own for these tests: with the fast lane on each transport, and without it."""

from collections.abc import Iterator

import pytest

from tests import lane
from tests.daemon.process import place

__all__ = ["place"]


@pytest.fixture(params=lane.MODES)
def mode(request: pytest.FixtureRequest) -> Iterator[str]:
    """How the daemon is to answer: all in turn, whatever this run is told of others."""
    wanted: str = request.param
    with lane.offered_to(wanted):
        yield wanted
