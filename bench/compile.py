"""Compiles the C programs of the benchmark (floor.c, reader.c) into .cache/bench of the checkout, when they changed."""

import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parent
OUTPUT = CHECKOUT / ".cache" / "bench"


def compiled(name: str) -> Path:
    """The program made from bench/<name>.c."""
    source, program = HERE / f"{name}.c", OUTPUT / name
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        OUTPUT.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["cc", "-O2", "-std=c17", "-Wall", "-Wextra", "-Werror", "-o", program, source], check=True, text=True
        )
    return program
