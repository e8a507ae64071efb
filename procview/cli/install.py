"""``procview install`` and ``procview uninstall``: the files for container engines and for systemd."""

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from procview.cli.options import config_option, place_option
from procview.engines import ENGINES

if TYPE_CHECKING:
    from procview.engines import Site

_NAMES = [engine.name for engine in ENGINES]
_TABLE = "\b\nENGINE is one of\n" + "\n".join(f"  {engine.name:<8} {engine.summary}" for engine in ENGINES)


def _common(command: Callable[..., Any]) -> Callable[..., Any]:
    for decorate in (
        click.option("-n", "--dry-run", is_flag=True, help="Say what would be done, and do nothing."),
        click.option(
            "--prefix",
            metavar="DIR",
            default="/",
            type=click.Path(file_okay=False, resolve_path=True),
            help="Where everything goes, and where the files refer to it.  [default: /]",
        ),
        click.argument("engines", metavar="ENGINE...", nargs=-1, required=True, type=click.Choice(_NAMES)),
    ):
        command = decorate(command)
    return command


@click.command(epilog=_TABLE)
@_common
@click.option(
    "--force", is_flag=True, help="Replace files that are not procview's or were changed; keeps them as .orig."
)
@place_option
@config_option
def install(
    engines: tuple[str, ...], prefix: str, dry_run: bool, force: bool, run_directory: str | None, config: str | None
) -> None:
    """Install the files that ENGINE needs to give its containers their views.

    Writes the hook program and the engine's files, and says which. A file that is not procview's, or was changed by
    hand, is left alone. Doing it twice changes nothing; after an update of procview it brings the files up to date.
    """
    from procview.engines import find
    from procview.installation import Installation, InstallError

    chosen = [find(name) for name in dict.fromkeys(engines)]
    site = _site(prefix, run_directory, config)
    try:
        anything = Installation(site, click.echo, dry_run).install(chosen, force=force)
    except (InstallError, FileNotFoundError) as error:
        raise click.ClickException(str(error)) from None
    if not anything:
        click.echo("Everything is installed already.")
    for engine in chosen:
        click.echo(f"next, for {engine.name}: {engine.next_step(site)}")


@click.command(epilog=_TABLE)
@_common
def uninstall(engines: tuple[str, ...], prefix: str, dry_run: bool) -> None:
    """Remove the files that `procview install` wrote for ENGINE.

    Files that were changed since, and those that procview did not write, stay. The hook program goes with the last
    engine that uses it. Containers that run keep their views; `procview detach --all` takes those away.
    """
    from procview.engines import Site, find
    from procview.installation import Installation, InstallError

    chosen = [find(name) for name in dict.fromkeys(engines)]
    try:
        anything = Installation(Site(prefix=prefix), click.echo, dry_run).uninstall(chosen)
    except InstallError as error:
        raise click.ClickException(str(error)) from None
    if not anything:
        click.echo(f"Nothing of {', '.join(engine.name for engine in chosen)} is installed below {prefix}.")


def _site(prefix: str, run_directory: str | None, config: str | None) -> "Site":
    from procview.engines import Site
    from procview.settings import SettingsError, load

    options = () if config is None else ("--config", config)
    if run_directory is not None:
        return Site(prefix, run_directory, _program(), (*options, "--run-directory", run_directory))
    try:
        return Site(prefix, load(config).run_directory, _program(), options)
    except SettingsError as error:
        raise click.ClickException(str(error)) from None


def _program() -> tuple[str, ...]:
    """How to run this very installation of procview, by absolute path."""
    for path in (os.path.abspath(sys.argv[0]), os.path.join(os.path.dirname(sys.executable), "procview")):
        if os.path.basename(path) == "procview" and os.path.isfile(path) and os.access(path, os.X_OK):
            return (path,)
    return (sys.executable, "-m", "procview")
