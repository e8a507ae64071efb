"""What the tests of views share: the golden option, hypothesis profiles, and trees in short-lived folders."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, Phase, settings

EXAMPLES = os.environ.get("PROCVIEW_EXAMPLES")
"""Set it to look for more: so many examples to a test, other ones in each run."""

settings.register_profile(
    "views",
    max_examples=int(EXAMPLES or "100"),
    deadline=None,
    # else the same examples in every run: red or green must not depend on luck
    derandomize=EXAMPLES is None,
    database=None,
    # explaining a failure takes minutes with trees on disk
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
settings.load_profile("views")


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
