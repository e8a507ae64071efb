"""A host with slots and perhaps a daemon, containers that are being started there, and the hook."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from procview.slots.skeleton import Skeleton
from tests.daemon.process import Place, needs_mount, place
from tests.hook.prepared import NAMES, HookProcess, Prepared

__all__ = ["place"]

Prepare = Callable[..., Prepared]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(os.path.dirname(__file__)):
            for mark in needs_mount:
                item.add_marker(mark)


@pytest.fixture
def skeleton(place: Place) -> Skeleton:
    """Slots without a daemon; place.start() makes one, with the slots that it serves."""
    made = Skeleton(str(place.run_directory))
    made.make(NAMES)
    return made


@pytest.fixture
def hook(place: Place, skeleton: Skeleton) -> HookProcess:
    return HookProcess(place.directory, Path(skeleton.base))


@pytest.fixture
def prepare(place: Place) -> Iterator[Prepare]:
    """Prepares containers, and ends them."""
    prepared: list[Prepared] = []

    def one(*steps: str, **options: object) -> Prepared:
        bundle = place.directory / f"bundle{len(prepared)}"
        bundle.mkdir(exist_ok=True)
        begin: Callable[..., Prepared] = Prepared
        prepared.append(begin(bundle, steps, **options) if steps else begin(bundle, **options))
        return prepared[-1]

    yield one
    for container in prepared:
        container.end()
