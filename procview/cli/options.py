"""Options that several commands take."""

import functools
from collections.abc import Callable
from typing import Any

import click

from procview.settings import DEFAULT_CONFIG

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
