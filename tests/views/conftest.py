"""What the tests of views share: the golden option, and trees in short-lived folders."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="rewrite tests/golden from what the engine renders now"
    )


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--update-golden"))


@pytest.fixture(scope="session")
def scratch() -> Iterator[Path]:
    """A folder for trees, in memory where there is a tmpfs: hypothesis writes tens of thousands of files."""
    where = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with TemporaryDirectory(prefix="procview-trees-", dir=where) as folder:
        yield Path(folder)
