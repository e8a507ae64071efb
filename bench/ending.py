"""A run that is told to end takes away what it has made, as after an error."""

import signal
from typing import NoReturn

_told: list[int] = []


def end_when_told() -> None:
    """From now on SIGTERM and SIGHUP raise SystemExit, with the status that a shell gives to such an end."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)


def end_if_told() -> None:
    """Raise it once more: Python drops what a signal raises within its own callbacks, as around a fork."""
    if _told:
        raise SystemExit(128 + _told[0])


def _end(number: int, _frame: object) -> NoReturn:
    _told.append(number)
    raise SystemExit(128 + number)
