"""The shells' completion files: click's own, which ask the program itself at each TAB and so are never out of date."""

from pathlib import Path

import click
from click.shell_completion import get_completion_class

FOLDER = Path(__file__).parent.parent.parent / "packaging/completions"
FILES = {"bash": "bash/procview", "zsh": "zsh/_procview", "fish": "fish/procview.fish"}
"""Under packaging/completions, by the names that shells look for; pyproject.toml says where they are installed."""
PROGRAM = "procview"
VARIABLE = "_PROCVIEW_COMPLETE"


def every_file(group: click.Group) -> dict[str, str]:
    """The files' texts by name. Raises LookupError for a shell that click does not know."""
    return {name: _source(group, shell) for shell, name in FILES.items()}


def _source(group: click.Group, shell: str) -> str:
    kind = get_completion_class(shell)
    if kind is None:
        raise LookupError(f"this click has no completion for {shell}")
    # Not source(): for bash that looks for the bash of this machine first, to see whether it is new enough.
    completion = kind(group, {}, PROGRAM, VARIABLE)
    return (completion.source_template % completion.source_vars()).strip() + "\n"
