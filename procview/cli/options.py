"""Options that several commands take."""

import dataclasses
import functools
import os
from collections.abc import Callable
from typing import Any

import click

from procview.mounts import real_place
from procview.settings import DEFAULT_CONFIG, SettingsError, load

_TREE = click.Path(exists=True, file_okay=False, resolve_path=True)


def roots_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--proc-root``, ``--sys-root`` and ``--cgroup-root``, handed on as one ``roots``."""

    @click.option("--proc-root", type=_TREE, default="/proc", show_default=True, help="Where the host's proc is.")
    @click.option("--sys-root", type=_TREE, default="/sys", show_default=True, help="Where the host's sysfs is.")
    @click.option(
        "--cgroup-root", type=_TREE, default="/sys/fs/cgroup", show_default=True, help="Where the cgroup trees are."
    )
    @functools.wraps(command)
    def with_roots(*args: Any, proc_root: str, sys_root: str, cgroup_root: str, **kwargs: Any) -> Any:
        from procview.roots import Roots  # brings in the compiled engine

        return command(*args, roots=Roots(proc=proc_root, sys=sys_root, cgroup=cgroup_root), **kwargs)

    return with_roots


def config_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--config FILE``; None when not given, so that only a file that was named has to be there."""
    return click.option(
        "--config",
        type=click.Path(dir_okay=False, resolve_path=True),
        help=f"Configuration file.  [default: {DEFAULT_CONFIG}, if it is there]",
    )(command)


def absolute_path(_context: click.Context, option: click.Parameter, value: str | None) -> str | None:
    """A click callback: a path that need not be there yet, made absolute; not the root."""
    if value is None:
        return None
    path = os.path.abspath(value)
    if path == "/":
        raise click.BadParameter("cannot be /", param=option)
    return path


def place_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--run-directory DIR``; None when not given."""
    return click.option(
        "--run-directory", metavar="DIR", callback=absolute_path, help="Where the slots are.  [default: the setting]"
    )(command)


def settings_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--config`` and ``--run-directory``, handed on as one ``settings``; a bad file ends the command."""

    @place_option
    @config_option
    @functools.wraps(command)
    def with_settings(*args: Any, config: str | None, run_directory: str | None, **kwargs: Any) -> Any:
        try:
            settings = load(config)
        except SettingsError as error:
            raise click.ClickException(str(error)) from None
        if run_directory is not None:
            settings = dataclasses.replace(settings, run_directory=run_directory)
        settings = dataclasses.replace(settings, run_directory=real_place(settings.run_directory))
        return command(*args, settings=settings, **kwargs)

    return with_settings


def run_directory_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """As settings_options, but only the ``run_directory`` is handed on."""

    @settings_options
    @functools.wraps(command)
    def with_run_directory(*args: Any, settings: Any, **kwargs: Any) -> Any:
        return command(*args, run_directory=settings.run_directory, **kwargs)

    return with_run_directory
