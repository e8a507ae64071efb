"""The state of each slot in one container, looked up now."""

from collections.abc import Mapping

from procview.slots import containers
from procview.slots.containers import Container, Slot, State, mounts_of, slots
from procview.slots.skeleton import Skeleton


def states(
    container: Container, skeleton: Skeleton, current: Mapping[str, Slot | None] | None = None, proc: str = "/proc"
) -> dict[str, State]:
    """By the slot's name. ``current`` are the slots of the host; None: as they are. Raises what mounts_of does."""
    return containers.states(mounts_of(container, proc), slots(skeleton) if current is None else current)
