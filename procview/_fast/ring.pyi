def probe() -> int:
    """The errno with which a ring cannot be made here; 0 if it can."""
