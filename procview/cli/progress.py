"""A bar on the terminal for what takes longer than a second; nothing anywhere else."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

PATIENCE_SECONDS = 1.0


@contextmanager
def progress(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """Hands on what to call with the number of things done, of ``total``. The bar is on stderr, and gone afterwards."""
    began = time.monotonic()
    with ExitStack() as stack:
        show: Callable[[int], None] | None = None

        def told(done: int) -> None:
            nonlocal show
            if show is None and done < total and sys.stderr.isatty() and time.monotonic() - began > PATIENCE_SECONDS:
                show = stack.enter_context(_bar(title, total))
            if show is not None:
                show(done)

        yield told


@contextmanager
def _bar(title: str, total: int) -> Iterator[Callable[[int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(title, markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # One thread, which redraws where something is done: the hook program is a child that must not inherit more.
    bar = Progress(*columns, console=Console(stderr=True), transient=True, auto_refresh=False)
    with bar:
        task = bar.add_task("", total=total)

        def show(done: int) -> None:
            bar.update(task, completed=done, refresh=True)

        yield show
