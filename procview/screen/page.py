"""What is on the screen, drawn with rich: the head, then the table, one container or the help, then the foot.

A text that comes from a container is a `Text` of printable characters: rich looks for no markup in it.
"""

import io
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.segment import Segment
from rich.text import Text

from procview.amounts import span_text
from procview.printable import printable
from procview.screen.controls import SORT_KEYS, Controls, Page
from procview.screen.detail import detail
from procview.screen.head import head
from procview.screen.polls import Poll
from procview.screen.rows import Row, rows, summary
from procview.screen.table import table


@dataclass(frozen=True, slots=True)
class State:
    """What is known. ``failure``: why the last question had no answer; then the numbers are those before it."""

    now: Poll
    before: Poll | None = None
    failure: str | None = None
    wall_seconds: float = 0.0


def whole(state: State, controls: Controls, width: int) -> RenderableType:
    """Head and table, all rows of it, to be printed and kept."""
    found = controls.arranged(rows(state.now, state.before))
    above = head(summary(state.now, state.before), controls, shown=len(found))
    return Group(*above, table(found, controls.sort, width))


def screenful(state: State, controls: Controls, width: int, height: int) -> RenderableType:
    """Just one screen, in which one container is selected."""
    everyone = rows(state.now, state.before)
    found = controls.arranged(everyone)
    above = head(summary(state.now, state.before), controls, shown=len(found))
    foot = _foot(state, controls, found)
    room = max(1, height - len(above) - len(foot))
    middle: RenderableType
    if controls.page is Page.HELP:
        middle = _cropped(Text(_HELP), room)
    elif controls.page is Page.DETAIL:
        row = next((row for row in everyone if row.pid_namespace == controls.selected), None)
        middle = detail(row, state.now.host)
    else:
        at = controls.place(found)
        first = max(0, min(at - (room - 1) // 2, len(found) - (room - 1)))
        shown = found[first : first + max(1, room - 1)]
        middle = table(shown, controls.sort, width, selected=at - first if found else None)
    return Group(*above, _Boxed(middle, room), *foot)


def lines(state: State, controls: Controls, size: tuple[int, int]) -> list[str]:
    """One screen of ``size`` (columns, lines), line by line, with the terminal's sequences for style in it."""
    width, height = size
    console = Console(file=io.StringIO(), force_terminal=True, width=width, height=height, highlight=False)
    with console.capture() as capture:
        console.print(screenful(state, controls, width, height), end="", no_wrap=True, overflow="ellipsis")
    return capture.get().split("\n")[:height]


class _Boxed:
    """Exactly ``height`` lines of something."""

    def __init__(self, inner: RenderableType, height: int) -> None:
        self._inner = inner
        self._height = height

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        drawn = console.render_lines(self._inner, options.update(height=None), pad=False)[: self._height]
        for line in drawn:
            yield from line
            yield Segment.line()
        for _ in range(self._height - len(drawn)):
            yield Segment.line()


def _cropped(text: Text, height: int) -> Text:
    return Text("\n").join(text.split("\n")[:height])


def _foot(state: State, controls: Controls, found: list[Row]) -> list[Text]:
    """Always as many lines, so that nothing jumps."""
    notice, keys = Text(), Text(_KEYS, style="dim")
    if state.failure is not None:
        age = span_text(state.wall_seconds - state.now.wall_seconds)
        notice = Text(f"numbers of {age} ago, asking again: {printable(state.failure)}", style="bold red")
    elif state.before is not None and state.before.status.get("pid") != state.now.status.get("pid"):
        notice = Text(f"another daemon has followed: pid {state.now.status.get('pid')}", style="yellow")
    elif found and controls.page is Page.TABLE:
        row = found[controls.place(found)]
        if row.why:
            notice = Text(printable(f"{row.name}: {row.why}"), style="red" if row.is_degraded else "")
    if controls.typed is not None:
        keys = Text.assemble(("filter: ", "bold"), printable(controls.typed), ("_", "blink"), "  ", (_TYPING, "dim"))
    elif controls.page is not Page.TABLE:
        keys = Text("Escape back   q quit", style="dim")
    return [notice, keys]


_KEYS = "q quit  h help  Enter one container  / filter  " + "".join(SORT_KEYS) + " sort"
_TYPING = "Enter keeps it, Escape does not"
_HELP = """\
Up Down PgUp PgDn Home End   select a container
Enter    the container beside its host; Escape goes back
/        show those whose name, command, pid, cgroup or state has
         these letters in it; Escape shows all again
c        sort by share of the CPU limit in use
m        by share of the memory limit in use
s        by swap in use
t        by throttling: periods in which the quota was used up
p        by pressure: the largest of cpu, memory and io
l        by load average of the last minute
r        by reads of views a second
n        by name; the same key once more turns the order round
q        quit

Degraded containers (!) come first in any order. man procview
has the columns."""
