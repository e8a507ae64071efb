"""``procview top``: containers with what they may use and do use, again and again."""

import io
import os
import signal
import sys
import time
from typing import TYPE_CHECKING

import click

from procview.cli.options import settings_options

if TYPE_CHECKING:
    from procview.client import Client
    from procview.screen.controls import Controls
    from procview.settings import Settings

_SORTS = ["cpu", "memory", "swap", "throttling", "pressure", "load", "reads", "name"]


@click.command()
@click.option(
    "--sort", type=click.Choice(_SORTS), default="cpu", show_default=True, help="The order; keys change it later."
)
@click.option(
    "--filter", "wanted", metavar="TEXT", default="", help="Only what has TEXT in its name, command or state."
)
@click.option(
    "--seconds",
    type=click.FloatRange(1, 3600),
    default=2.0,
    show_default=True,
    help="Time between two looks, at least 1.",
)
@click.option("-b", "--once", is_flag=True, help="Print one table, of one interval, and end.")
@settings_options
def top(sort: str, wanted: str, seconds: float, once: bool, settings: "Settings") -> None:
    """Show containers with their limits and what they use of them, and how fast procview answers.

    Degraded containers come first. The key h shows all keys, q quits. Where the terminal cannot do it (TERM=dumb), or
    there is none, one table is printed, as with --once. Asks the daemon over its control socket, and has it sample
    loads.
    """
    from procview.client import AskingError, Client
    from procview.screen.controls import Controls, Sort
    from procview.screen.live import run
    from procview.screen.terminal import Terminal
    from procview.slots.skeleton import Skeleton

    client = Client(Skeleton(settings.run_directory).control_socket, has_socket=settings.control)
    controls = Controls(sort=Sort(sort), filter=wanted)
    try:
        if once or not _is_screen():
            _print_once(client, controls, seconds)
            return
        terminal = Terminal(sys.stdin.fileno(), sys.stdout.fileno(), sys.stdout.encoding)
        ended_by = run(client, controls, seconds, terminal)
    except AskingError as error:
        raise click.ClickException(str(error)) from None
    if ended_by not in (None, signal.SIGINT):
        sys.exit(128 + ended_by)


def _is_screen() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")


def _print_once(client: "Client", controls: "Controls", seconds: float) -> None:
    """Raises AskingError."""
    from rich.console import Console

    from procview.screen.page import State, whole
    from procview.screen.polls import poll
    from procview.screen.rows import rows
    from procview.screen.table import natural_width

    before = poll(client)
    time.sleep(seconds)
    now = poll(client)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a name may have what the terminal's character set has not
    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = max(console.width, natural_width(rows(now, before)))  # for programs, names as they are
    console.print(whole(State(now, before), controls, console.width))
