"""Amounts for people: bytes, times and shares in few characters. Looks at nothing."""

UNKNOWN = "-"
"""What cannot be known here; zero is another thing."""


def bytes_text(amount_bytes: float | None) -> str:
    """At most five characters, binary units: ``0``, ``512K``, ``1.5G``, ``1023M``."""
    if amount_bytes is None:
        return UNKNOWN
    amount = float(amount_bytes)
    for unit in ("", "K", "M", "G", "T"):
        if round(amount) < 1024:
            return f"{amount:.1f}{unit}" if unit and round(amount, 1) < 10 else f"{amount:.0f}{unit}"
        amount /= 1024
    return f"{amount:.0f}P"


def span_text(seconds: float | None) -> str:
    """Its two largest units: ``0.4 s``, ``12 s``, ``3 min 5 s``, ``2 h 0 min``, ``41 d 3 h``."""
    if seconds is None:
        return UNKNOWN
    if seconds < 10:
        return f"{max(seconds, 0.0):.1f} s"
    whole = int(seconds)
    for length, unit, smaller, smaller_unit in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= length:
            return f"{whole // length} {unit} {whole % length // smaller} {smaller_unit}"
    return f"{whole} s"


def percent_text(share: float | None) -> str:
    """Of a share, 1 being all of it: ``0``, ``0.4``, ``12``, ``250``, without the sign."""
    if share is None:
        return UNKNOWN
    percent = share * 100
    return f"{percent:.1f}" if 0.05 <= percent < 9.95 else f"{percent:.0f}"


def count_text(number: float | None) -> str:
    """Of things, or of things a second: ``0``, ``3.5``, ``1234``, ``56k``, ``7.8M``."""
    if number is None:
        return UNKNOWN
    for limit, divisor, unit in ((1e4, 1, ""), (1e6, 1e3, "k"), (1e9, 1e6, "M")):
        if round(number) < limit:
            scaled = number / divisor
            return f"{scaled:.1f}{unit}" if round(scaled, 1) < 10 and scaled != int(scaled) else f"{scaled:.0f}{unit}"
    return f"{number / 1e9:.0f}G"
