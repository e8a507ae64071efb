"""``procview withdraw``: take the views out of all containers, whatever state the daemon is in."""

import os
from typing import TYPE_CHECKING

import click

from procview.cli.options import settings_options

if TYPE_CHECKING:
    from procview.settings import Settings
    from procview.slots.skeleton import Skeleton

ANSWER_SECONDS = 1.0
PROMPT_SECONDS = 0.1
"""What a daemon that serves, or the error of a connection that has ended, takes at most as a rule."""


@click.command()
@click.option("--remove", is_flag=True, help="Remove the slots as well; containers keep the host's files for good.")
@click.option(
    "--unless-served",
    is_flag=True,
    help="Only where no daemon serves: a process stays behind that gives the next one takeover_seconds to come.",
)
@settings_options
def withdraw(remove: bool, unless_served: bool, settings: "Settings") -> None:
    """Take the views out of all containers, which read the host's files from then on.

    For when the daemon is dead or hangs (systemd: ExecStopPost). It asks no file system anything. A connection of ours
    that does not answer is ended; that of a daemon that answers is left, with its mount.
    """
    if unless_served and remove:
        raise click.UsageError("--remove and --unless-served do not go together")
    _go_where_views_are()
    if unless_served and _is_served(settings):
        return
    _withdraw(remove, settings)


def _go_where_views_are() -> None:
    """The service manager may have shut us in as it does the daemon."""
    from procview import mount_namespace

    try:
        mount_namespace.choose()
        mount_namespace.enter()
    except OSError as error:
        raise click.ClickException(error.strerror or str(error)) from None


def _is_served(settings: "Settings") -> bool:
    """Whether a daemon answers, or another process, which stays, will know; then there is nothing to do here."""
    from procview.children import ask
    from procview.mounts import top_mount

    entry = top_mount(settings.mount_point)
    if entry is None or not entry.ours:
        return False
    if not ask(lambda: str(os.statvfs(settings.mount_point)), PROMPT_SECONDS).timed_out:
        return _answers(settings.mount_point)
    # Somebody holds the connection of a dead daemon. The next one may be on its way, for which nobody is to wait here.
    if os.fork():
        click.echo(f"{settings.mount_point} does not answer; a daemon has {settings.takeover_seconds:g} s to come")
        return True
    os.setsid()
    if ask(lambda: str(os.statvfs(settings.mount_point)), settings.takeover_seconds).text is None:
        _withdraw(False, settings)
    raise SystemExit(0)


def _withdraw(remove: bool, settings: "Settings") -> None:
    from procview.lock import holder
    from procview.slots.publish import cut_off
    from procview.slots.publish import withdraw as withdraw_views
    from procview.slots.skeleton import Skeleton

    skeleton = Skeleton(settings.run_directory)
    try:
        count = withdraw_views(skeleton)
        click.echo(f"{count} views withdrawn")
        owner = holder(skeleton.lock)
        if owner is not None and _answers(settings.mount_point):
            click.echo(f"the daemon (pid {owner.pid}) goes on serving {settings.mount_point}; "
                       "containers get their views again when it is restarted")  # fmt: skip
            if remove:
                raise click.ClickException("the slots of a running daemon are not removed: stop it first")
            return
        if cut_off(settings.mount_point):
            click.echo(f"{settings.mount_point}: unmounted, its connection has been ended")
        if owner is not None:
            click.echo(f"the daemon (pid {owner.pid}) does not answer: kill it, and start it again")
            if remove:
                raise click.ClickException("the slots of a hanging daemon are not removed: end it first")
            return
        if remove:
            _remove(skeleton, settings.mount_point)
            click.echo(f"{settings.run_directory}: the slots are removed")
            if os.path.isdir(settings.run_directory):
                left = ", ".join(sorted(os.listdir(settings.run_directory)))
                click.echo(f"{settings.run_directory}: left as it is, with what is not procview's: {left}")
    except OSError as error:
        hint = "" if os.geteuid() == 0 else " (only root can do that)"
        raise click.ClickException(
            f"{error.filename or settings.run_directory}: {error.strerror or error}{hint}"
        ) from None


def _remove(skeleton: "Skeleton", mount_point: str) -> None:
    """The slots, and what a dead daemon left in the run directory."""
    from procview.lock import held
    from procview.notes import Notes
    from procview.slots import bound, compat

    if not os.path.isdir(skeleton.base):
        return
    with held(skeleton.lock):  # so that no daemon starts meanwhile
        if os.path.lexists(skeleton.hook_socket):
            os.unlink(skeleton.hook_socket)
        Notes(skeleton.base).remove()
        if os.path.isdir(mount_point) and not os.listdir(mount_point):
            os.rmdir(mount_point)
        compat.remove(skeleton)
        bound.forget(skeleton)
        skeleton.remove()
    if not os.listdir(skeleton.base):
        os.rmdir(skeleton.base)


def _answers(path: str) -> bool:
    """Whether the file system at ``path`` answers statfs(2) in time, with success."""
    from procview.children import ask

    return ask(lambda: str(os.statvfs(path)), ANSWER_SECONDS).text is not None
