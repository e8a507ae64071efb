"""Compiles the C programs of the benchmark into .cache/bench of the checkout, when they changed."""

import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parent
OUTPUT = CHECKOUT / ".cache" / "bench"


def compiled(name: str) -> Path:
    """The program made from bench/<name>.c."""
    source, program = HERE / f"{name}.c", OUTPUT / name
    changed = max(file.stat().st_mtime for file in (source, *HERE.glob("*.h")))
    if not program.exists() or program.stat().st_mtime < changed:
        OUTPUT.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["cc", "-O2", "-std=c17", "-Wall", "-Wextra", "-Werror", "-pthread", "-o", program, source],
            check=True,
            text=True,
        )
    return program
