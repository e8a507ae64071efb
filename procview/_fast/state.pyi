from typing import final

@final
class State:
    """Memory that outlives the daemon: a new one, or, with the descriptor ``fd``, what another daemon has left.

    Owns the descriptor. Raises ValueError, which says why, for one of another version and for what is none at all; then
    the descriptor is closed.
    """

    def __init__(self, fd: int | None = None) -> None: ...
    def fileno(self) -> int: ...
    @property
    def found(self) -> bool:
        """Whether another daemon has left it."""

    device: str
    """The number of the mount whose files these are, ``0:53``."""
    start_ns: int
    """What the times of all files of that mount are, in nanoseconds since 1970."""

    def add_node(self, path: str, *, is_dir: bool, is_link: bool) -> None:
        """Remember a path that some callers have: the kernel may ask for it by its number alone."""

    def nodes(self) -> list[tuple[str, bool, bool]]:
        """The paths that were remembered: whether each is a directory, and whether a link."""

    @property
    def objects(self) -> dict[str, int]:
        """How many there are of each kind: ``containers``, ``files``, ``texts`` …"""
