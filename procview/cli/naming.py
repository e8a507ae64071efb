"""Which container people mean: an id, or the beginning of one."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from procview.slots.containers import Container

_LISTED = 20
"""How many containers an error lists."""


def named(ids: Sequence[str], containers: "Sequence[Container]") -> "tuple[list[Container], list[str]]":
    """The containers that ``ids`` mean, each once, and what is wrong with the other ids."""
    found: dict[Container, None] = {}
    errors = []
    for name in ids:
        fitting = matching(name, containers)
        if len(fitting) == 1:
            found[fitting[0]] = None
        else:
            errors.append(unclear(name, fitting, containers))
    return list(found), errors


def matching(name: str, containers: "Sequence[Container]") -> "list[Container]":
    """The containers called ``name``, or else those whose names begin with it.

    Where a container and containers in it have one name (the inner ones have no cgroup of their own), the outermost is
    meant.
    """
    exact = [container for container in containers if container.name == name]
    fitting = exact or [container for container in containers if container.name.startswith(name)]
    around = {container.pid_namespace: container for container in containers}

    def is_inner(container: "Container") -> bool:
        outer = around.get(container.parent)
        while outer is not None and outer.name != container.name:
            outer = around.get(outer.parent)
        return outer is not None

    return [container for container in fitting if not is_inner(container)]


def by_reference(reference: str, containers: "Sequence[Container]") -> "tuple[Container | None, str]":
    """The container with this id, or with an id that begins so, or whose init has this pid; else why there is none."""
    fitting = matching(reference, containers) if reference else []
    if not fitting and reference.isdecimal():
        fitting = [container for container in containers if container.pid == int(reference)]
    if len(fitting) == 1:
        return fitting[0], ""
    return None, unclear(reference, fitting, containers)


def unclear(name: str, fitting: "Sequence[Container]", containers: "Sequence[Container]") -> str:
    """Why ``name`` cannot be told: ``fitting`` are none, or several."""
    from procview.printable import printable

    if fitting:
        return f"'{printable(name)}' can be any of {_list(fitting)}; say more of it, or use --pid"
    there = f"there are: {_list(containers)}" if containers else "there is none on this host"
    return f"no container '{printable(name)}'; {there}"


def _list(containers: "Sequence[Container]") -> str:
    more = f" and {len(containers) - _LISTED} more" if len(containers) > _LISTED else ""
    return ", ".join(container.label for container in containers[:_LISTED]) + more
