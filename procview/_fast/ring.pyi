MOST_QUEUES: int
"""How many CPUs one ring can serve, its own included."""

def probe() -> int:
    """The errno with which a ring cannot be made here; 0 if it can."""
