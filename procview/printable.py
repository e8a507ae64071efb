"""Names that others have chosen (of containers, programs, files), as they may be shown: the one place."""


def printable(text: str) -> str:
    r"""``text`` on one line of a terminal: control characters, and whatever else does not print, as \x1b."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode() for char in text
    )
