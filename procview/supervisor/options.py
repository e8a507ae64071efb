"""How the supervisor treats its daemon."""

from dataclasses import dataclass

DELAYS_SECONDS = (0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0)
"""Before the first, second, … start after a crash; the last one counts for all that follow."""


@dataclass(frozen=True)
class Options:
    """How the daemon is treated."""

    standby: bool = True
    watchdog_seconds: float = 10.0
    """0: there is no watchdog."""
    steady_seconds: float = 30.0
    """Having served this long, a daemon is started again at once, as if it were its first crash."""
    start_seconds: float = 30.0
    stop_seconds: float = 8.0
    renewal_seconds: float = 5.0
    """A daemon serves for so long before a standby is executed in place of those that are forked: not in the moment in
    which the readers that have waited want the processors.
    """
    useless_seconds: float = 10.0
    """If no daemon has served for this long, what was kept is given up: the next one could not use it either."""

    @staticmethod
    def delay(crashes: int = len(DELAYS_SECONDS)) -> float:
        """How long to wait after so many crashes before this one, in seconds; without a number, after very many."""
        return DELAYS_SECONDS[min(crashes, len(DELAYS_SECONDS) - 1)]
