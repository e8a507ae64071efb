"""``procview detach``: everything of procview's out of running containers."""

from typing import Any

import click

from procview.cli.attach import act, target_options


@click.command()
@target_options
def detach(**options: Any) -> None:
    """Take procview's files away from running containers, which then read their own /proc.

    An ID is a container's, or the beginning of one, as its cgroup tells it. Works without the daemon, and when that
    hangs. Wants root.

    Exit codes: 0 all went well, 1 something failed (the other containers are detached nevertheless).
    """
    from procview.slots.attach import detach

    act(detach, **options)
