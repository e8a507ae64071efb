"""Daemons of their own for these tests, with the fast lane and without it."""

import pytest

from tests.daemon.process import place

__all__ = ["place"]


@pytest.fixture(params=[True, False], ids=["lane", "no-lane"])
def has_lane(request: pytest.FixtureRequest) -> bool:
    """Whether the daemon has the lane in front of pyfuse3: both in turn, whatever this run is told of others."""
    wanted: bool = request.param
    return wanted
