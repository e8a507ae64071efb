"""``procview status``: how the daemon and its containers are, in short."""

import json
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import click

from procview.cli.options import settings_options

if TYPE_CHECKING:
    from procview.client import Answer
    from procview.settings import Settings

_LISTED = 20
"""How many degraded containers are named."""


class _Status(click.Command):
    """A command that ends with 2 whatever keeps it from asking: 1 means something else here."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.ClickException as error:
            error.show()
            sys.exit(2)


@click.command(
    cls=_Status,
    epilog="Exit codes: 0 all right, 1 containers are degraded, 2 the daemon cannot be asked (it does not run, it "
    "refuses, or the command line or the configuration is wrong).",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for machines.")
@settings_options
def status(as_json: bool, settings: "Settings") -> None:
    """Say how the daemon is, how many containers have their views, and which do not have them as they should.

    Asks the daemon over its control socket. A container is degraded if some of its files are the host's, or not
    mounted as they must be.
    """
    from procview.client import AskingError, Client
    from procview.slots.skeleton import Skeleton

    client = Client(Skeleton(settings.run_directory).control_socket, has_socket=settings.control)
    try:
        daemon, containers = client.status(), client.containers().containers
    except AskingError as error:
        if as_json:
            click.echo(json.dumps({"error": str(error)}, indent=2))
            sys.exit(2)
        raise click.ClickException(str(error)) from None
    by_state = Counter(str(fact.get("state")) for fact in containers)
    degraded = [fact for fact in containers if fact.get("state") == "degraded"]
    if as_json:
        named = [{key: fact.get(key) for key in ("id", "init_pid", "why")} for fact in degraded]
        whole = {"daemon": daemon, "containers": dict(sorted(by_state.items())), "degraded": named}
        click.echo(json.dumps(whole, indent=2))
    else:
        click.echo(_text(daemon, by_state, degraded, has_slots=settings.slots), nl=False)
    if degraded:
        sys.exit(1)


def _text(daemon: "Answer", by_state: Counter[str], degraded: "list[Answer]", *, has_slots: bool) -> str:
    from procview.amounts import bytes_text, span_text
    from procview.printable import printable

    lane = "with the fast lane" if daemon.get("lane") else "by pyfuse3 alone"
    took_over = ", went on with another daemon's connection" if daemon.get("took_over") else ""
    published = daemon.get("published_since")
    yet = " yet" if has_slots else ": the setting slots is false"
    absent = daemon.get("absent_controllers") or []
    facts = {
        "procview": f"{daemon['version']}, pid {daemon['pid']}, running since {daemon.get('since')}{took_over}",
        "mount": f"{daemon.get('mount')}, {lane}",
        "views": f"in containers since {published}" if published else f"not in containers{yet}",
        "reads": f"{daemon['reads']}; {daemon.get('fallbacks', 0)} times the host's file was given instead",
        "uses": f"{bytes_text(daemon.get('rss_bytes'))} of memory, {daemon.get('fds')} files, "
        f"{daemon.get('threads')} threads, {span_text(daemon.get('cpu_seconds'))} of CPU",
        "containers": f"{by_state.total()}" + _by_state(by_state),
    }
    if absent:
        facts["absent"] = f"{', '.join(absent)}: the host's numbers stand in for what these controllers count"
    lines = [f"{name + ':':<12}{printable(fact)}" for name, fact in facts.items()]
    if degraded:
        lines.append("degraded:")
        lines += [f"  {_named(fact)}" for fact in degraded[:_LISTED]]
        if len(degraded) > _LISTED:
            lines.append(f"  and {len(degraded) - _LISTED} more: procview status --json, procview top")
        lines.append("procview attach ID puts right what can be; procview check says more")
    return "".join(f"{line}\n" for line in lines)


def _by_state(by_state: Counter[str]) -> str:
    words = {"attached": "attached", "degraded": "degraded", "none": "without views"}
    counted = [f"{by_state[state]} {word}" for state, word in words.items() if by_state[state]]
    return f": {', '.join(counted)}" if counted else ""


def _named(fact: "Answer") -> str:
    from procview.printable import printable

    return printable(f"{fact.get('id')} (pid {fact['init_pid']}): {fact.get('why') or 'not as it must be'}")
