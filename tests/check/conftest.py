"""The host that the tests look at."""

from collections.abc import Iterator

import pytest

from tests.check.host import Host, new_host
from tests.daemon.process import Place, place

__all__ = ["place"]


@pytest.fixture
def host(place: Place) -> Iterator[Host]:
    made = new_host(place)
    try:
        yield made
    finally:
        made.clean_up()
