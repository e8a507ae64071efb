"""Supervisors of their own for these tests."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.daemon.process import place
from tests.supervise.process import Supervised

__all__ = ["place"]


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[Callable[..., Supervised]]:
    """Starts a supervisor of tests.supervise.keeper; ``options`` are those of procview.supervisor.options."""
    with ExitStack() as stack:

        def start(*command: str, environment: dict[str, str] | None = None, **options: object) -> Supervised:
            made = Supervised.keeper(tmp_path, options, *command, **(environment or {})).start()
            stack.callback(made.clean_up)
            return made

        yield start
