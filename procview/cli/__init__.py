"""The command line, one module per command. Exit codes: 0 done, 1 it could not be done, 2 the command line is wrong.

A command imports what it needs when it runs, so that ``procview version`` works without FUSE.
"""

import click

from procview.cli import render, serve, version


@click.group(
    epilog="Exit codes: 0 done, 1 it could not be done, 2 the command line is wrong.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
def main() -> None:
    """Give every container its own /proc, through FUSE."""


main.add_command(serve.serve)
main.add_command(render.render)
main.add_command(version.version)
