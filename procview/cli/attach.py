"""``procview attach``: the slots, and the views over them, into running containers; and what detach shares with it."""

import functools
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from procview.cli.naming import named
from procview.cli.options import run_directory_option
from procview.cli.progress import progress

if TYPE_CHECKING:
    from procview.slots.attach import Result, Told
    from procview.slots.containers import Container
    from procview.slots.skeleton import Skeleton


def target_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What attach and detach take. Handed on: ``pid``, ``everything``, ``ids``, ``as_json``, ``run_directory``."""

    @click.argument("ids", nargs=-1, metavar="[ID]...")
    @click.option("--pid", type=click.IntRange(min=1), help="The container that this process is in.")
    @click.option("--all", "everything", is_flag=True, help="Every container on this host.")
    @click.option("--json", "as_json", is_flag=True, help="Print one JSON list.")
    @run_directory_option
    @functools.wraps(command)
    def with_targets(*args: Any, ids: tuple[str, ...], pid: int | None, everything: bool, **kwargs: Any) -> Any:
        if (pid is not None) + everything + bool(ids) != 1:
            raise click.UsageError("name containers, or give --pid, or --all: exactly one of these")
        if "" in ids:
            raise click.UsageError("an ID cannot be empty")
        return command(*args, ids=ids, pid=pid, everything=everything, **kwargs)

    return with_targets


@click.command()
@target_options
def attach(**options: Any) -> None:
    """Put procview's files over those of running containers.

    An ID is a container's, or the beginning of one, as its cgroup tells it. What is attached already stays as it is. A
    container that is attached has the views whenever the daemon runs, and the host's values otherwise. Wants root.

    Exit codes: 0 all went well, 1 something failed (the other containers are attached nevertheless).
    """
    from procview.slots.attach import attach

    act(attach, **options)


def act(
    change: "Callable[[Skeleton, Sequence[Container], Told], list[Result]]",
    *,
    ids: tuple[str, ...],
    pid: int | None,
    everything: bool,
    as_json: bool,
    run_directory: str,
) -> None:
    """Attach or detach what the options say, and report. Raises ClickException; SystemExit(1) if something failed."""
    from procview.slots.containers import running
    from procview.slots.skeleton import Skeleton

    if os.geteuid() != 0:
        raise click.ClickException("only root can mount into other containers")
    skeleton = Skeleton(run_directory)
    try:
        _check(skeleton)
        containers = running()
        errors: list[str] = []
        if everything:
            targets = containers
        elif pid is not None:
            targets = [_container_of(pid, containers)]
        else:
            targets, errors = named(ids, containers)
        with progress("containers", len(targets)) as told:
            results = change(skeleton, targets, told)
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror}" if error.filename else str(error)) from None
    if not everything:
        results = [replace(result, error=result.skipped, skipped=None) if result.skipped else result
                   for result in results]  # fmt: skip
    if everything and not results and not as_json:
        click.echo("no containers on this host")
    _report(results, as_json)
    for message in errors:
        click.echo(f"Error: {message}", err=True)
    if errors or any(result.failed for result in results):
        raise SystemExit(1)


def _check(skeleton: "Skeleton") -> None:
    """Raises ClickException where there are no slots, OSError."""
    if not skeleton.names():
        raise click.ClickException(
            f"no slots in {skeleton.base}: `procview serve` makes them when it starts. "
            "Start it, or say with --run-directory where it runs"
        )


def _container_of(pid: int, containers: "Sequence[Container]") -> "Container":
    """Raises ClickException."""
    from procview.slots.containers import containing

    try:
        found = containing(pid, containers)
    except ProcessLookupError as error:
        raise click.ClickException(str(error)) from None
    if found is None:
        raise click.ClickException(f"process {pid} is in no container: its pid namespace is the host's")
    return found


def _report(results: "Sequence[Result]", as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps([_as_dict(result) for result in results], indent=2))
        return
    for result in results:
        click.echo(f"{result.container.label}: {described(result)}")


def _as_dict(result: "Result") -> dict[str, Any]:
    container = result.container
    return {
        "name": container.name,
        "pid": container.pid,
        "pid_namespace": container.pid_namespace,
        "failed": result.failed,
        "skipped": result.skipped,
        "error": result.error,
        "files": dict(result.files),
    }


def described(result: "Result") -> str:
    """What was done to one container, on one line: ``attached 3 files, 6 already attached``."""
    from procview.printable import printable
    from procview.slots.attach import FAILED

    if result.error is not None:
        return printable(f"failed: {result.error}")
    if result.skipped is not None:
        return printable(f"skipped: {result.skipped}")
    outcomes = list(result.files.values())
    parts = [
        f"{outcome} {number} file{'s' if number > 1 else ''}"
        for outcome in ("attached", "detached")
        if (number := outcomes.count(outcome))
    ]
    for outcome in ("already attached", "not attached"):
        if number := outcomes.count(outcome):
            parts.append(f"{number} {outcome}" if parts or number < len(outcomes) else outcome)
    causes: dict[str, list[str]] = {}
    for name, outcome in result.files.items():
        if outcome.startswith(FAILED):
            causes.setdefault(outcome.removeprefix(FAILED), []).append(f"/{name}")
    failures = [f"failed: {', '.join(names)}: {cause}" for cause, names in causes.items()]
    return printable("; ".join([", ".join(parts), *failures] if parts else failures) or "nothing to do")
