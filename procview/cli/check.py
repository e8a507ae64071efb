"""``procview check``: is all well on this host; for people, and for monitoring systems."""

import os
import sys
from typing import TYPE_CHECKING, Any, NoReturn

import click

from procview.cli.options import absolute_path, settings_options

if TYPE_CHECKING:
    from procview.check.findings import Finding
    from procview.check.looking import Report
    from procview.settings import Settings


class _Plugin(click.Command):
    """A command that says UNKNOWN, as monitoring plugins do, whatever keeps it from its work.

    click's exit codes for a bad command line (2) or configuration (1) would mean CRITICAL and WARNING.
    """

    def make_context(self, info_name: str | None, args: list[str], *rest: Any, **extra: Any) -> click.Context:
        as_json = "--json" in args
        try:
            return super().make_context(info_name, args, *rest, **extra)
        except click.ClickException as error:
            _unknown("usage", error.format_message(), "see procview check --help", as_json)

    def invoke(self, ctx: click.Context) -> Any:
        as_json = bool(ctx.params.get("as_json"))
        try:
            return super().invoke(ctx)
        except (click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except click.ClickException as error:
            advice = "mend the configuration: without it nobody can tell where the daemon is"
            _unknown("settings", error.format_message(), advice, as_json)
        except Exception as error:  # whatever it is, it is not the state of this host
            text = f"ended by an unexpected error: {type(error).__name__}: {error}"
            _unknown("check", text, "this is a bug of procview: report it", as_json)


def _unknown(subject: str, text: str, advice: str, as_json: bool) -> NoReturn:
    from procview.check.findings import Finding, Severity

    _end_with(Finding(subject, Severity.UNKNOWN, text, advice), as_json)


def _end_with(found: "Report | Finding", as_json: bool) -> NoReturn:
    """Print what was found, and exit as it is."""
    from procview.check import report
    from procview.check.findings import Finding
    from procview.check.looking import Report

    whole = Report((found,)) if isinstance(found, Finding) else found
    click.echo(report.as_json(whole) if as_json else report.text(whole), nl=False)
    sys.exit(report.status(whole).exit_code)


@click.command(
    cls=_Plugin,
    epilog="Exit codes, as monitoring plugins have them: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN (not root, or the "
    "command line or the configuration is wrong). The worst finding counts, and CRITICAL is worse than WARNING, "
    "WARNING than UNKNOWN.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for machines.")
@click.option(
    "--ignore",
    metavar="PATTERN",
    multiple=True,
    help="Leave out containers with such a name (with * ? [] in it), which have no views on purpose. Repeatable.",
)
@click.option(
    "--prefix", metavar="DIR", callback=absolute_path, help="Where procview install put its files, if not below /."
)
@settings_options
def check(as_json: bool, ignore: tuple[str, ...], prefix: str | None, settings: "Settings") -> None:
    """Say whether the daemon answers, every container has its views, and new ones will get theirs.

    Every finding says what to do. Mends nothing, and takes less than three seconds, whatever hangs. Wants root.
    """
    from procview.check.commands import Commands
    from procview.check.looking import Subject, look

    if os.geteuid() != 0:
        advice = "run it as root: nobody else can look into containers"
        _unknown("check", "only root can do this", advice, as_json)
    subject = Subject(
        run_directory=settings.run_directory,
        mount=settings.mount_point,
        use_slots=settings.slots,
        commands=Commands(_options_given(), prefix or "/"),
        ignore=ignore,
    )
    _end_with(look(subject), as_json)


def _options_given() -> tuple[str, ...]:
    """The options that say which procview is meant, for the commands in advice."""
    given = click.get_current_context().params
    options = {"--run-directory": given["run_directory"], "--config": given["config"]}
    return tuple(word for option, value in options.items() if value is not None for word in (option, value))
