from typing import Any, final

from procview._fast.engine import Engine
from procview._fast.state import State

MAX_OPEN: int
MAX_OPEN_PER_OWNER: int
TEXT_BUDGET_BYTES: int

@final
class OpenFiles:
    """The files that are open and what was read of each, bounded in all and for each *owner* (a pid namespace).

    Thread-safe. One table for everybody who answers: files that were opened without Python are in it as well, as views
    of ``engine``.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        most: int = ...,
        most_per_owner: int = ...,
        budget_bytes: int = ...,
        state: State | None = None,
    ) -> None: ...
    def open(self, owner: int, view: object, path: str | None = None, *, is_directory: bool = False) -> int:
        """A handle for one more open file, whose ``path`` is for the next daemon (``state``). Raises OSError ENFILE."""

    def view(self, handle: int) -> Any:
        """What was opened under this handle; None if nothing was."""

    def give(self, handle: int, view: object) -> None:
        """What an inherited file is for Python (procview._fast.inherit)."""

    def text(self, handle: int) -> bytes | None:
        """What is kept for this file; None if nothing is."""

    def part(self, handle: int, offset: int, size: int) -> bytes | None:
        """What a read is to get without a new rendering; None where one is due."""

    def keep(self, handle: int, text: bytes, *, delivered: bool) -> None:
        """Remember what was rendered. ``delivered``: its reader has it all, and hardly comes back. Not an error for a
        file that was closed meanwhile."""

    def close(self, handle: int) -> bool:
        """Whether it was open."""

    @property
    def open_count(self) -> int:
        """Files and directories that are open."""

    @property
    def text_bytes(self) -> int:
        """Kept texts, in bytes."""
