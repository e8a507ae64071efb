"""Programs of others that tests run: found, or a skip that says which Debian package has it."""

import os
import shutil

import pytest


def required(program: str, package: str) -> str:
    """Where ``program`` is. An error under ./dev test, which has installed all of them; else a skip."""
    found = shutil.which(program)
    if found is None:
        message = f"{program} is not installed (Debian package {package})"
        if os.environ.get("PROCVIEW_REQUIRE_ENGINES"):
            pytest.fail(message)
        pytest.skip(message)
    return found
