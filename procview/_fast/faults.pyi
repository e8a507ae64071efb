def arm(folder: str) -> None:
    """From now on faults are looked for in ``folder``. Raises OSError."""

def passing(point: str) -> None:
    """Do what a test wants to happen at ``point``, if anything. Raises OSError (EIO) where it wants that."""
