"""Are the slots whole, and is the daemon's present view over each: the files of the run directory, our mount table."""

from collections.abc import Collection

from procview.check.commands import RESTART, Commands
from procview.check.daemon import Service, State
from procview.check.findings import Finding, Severity
from procview.mounts import MountEntry, top_mount
from procview.slots import compat
from procview.slots.skeleton import Skeleton, trees_of


def findings(skeleton: Skeleton, service: Service, table: list[MountEntry], commands: Commands) -> list[Finding]:
    """What is wrong with the slots, or that nothing is. Raises OSError."""
    names = skeleton.names()
    if not names:
        text = f"there are none: no {skeleton.base}/slots, so nothing can be put into containers"
        severity = Severity.CRITICAL if service.serving else Severity.WARNING
        return [Finding("slots", severity, text, f"{RESTART}: a daemon that starts makes them")]
    found = [
        *_trees(skeleton, names, table, commands),
        *_views(skeleton, names, service, table, commands),
        *_compat(skeleton, names, table),
    ]
    if found:
        return found
    views = "with a view of the daemon's over each" if service.serving else "without views, as it has to be now"
    return [Finding("slots", Severity.OK, f"{len(names)}, {views}")]


def listed(some: list[str], names: Collection[str]) -> str:
    """Some of the slots ``names``, for people."""
    return f"all {len(names)}" if len(some) == len(names) > 1 else ", ".join(some)


def _trees(skeleton: Skeleton, names: list[str], table: list[MountEntry], commands: Commands) -> list[Finding]:
    """What of ctl and src is not as it has to be, for views to reach containers."""
    remake = f"{RESTART} makes the slots anew; for containers that had the old ones: {commands.attach('--all')}"
    found = []
    base = top_mount(skeleton.base, table)
    if base is None or base.shared:
        text = f"{skeleton.base} is no private mount: views would show in other places of the host"
        found.append(Finding("slots", Severity.WARNING, text, RESTART, skeleton.base))
    for tree in trees_of(names):
        ctl, src = (_slot_mount(path, table) for path in (skeleton.ctl(tree), skeleton.src(tree)))
        if ctl is None or src is None:
            gone = skeleton.ctl(tree) if ctl is None else skeleton.src(tree)
            text = f"nothing is mounted at {gone}"
        elif not ctl.shared:
            text = f"{ctl.path} is not shared: views do not reach containers"
        elif src.master != ctl.shared or src.shared:
            text = f"{src.path} is not a slave of {ctl.path}: views do not reach containers that bind from it"
        else:
            continue
        found.append(Finding("slots", Severity.CRITICAL, text, remake, tree))
    return found


def _compat(skeleton: Skeleton, names: list[str], table: list[MountEntry]) -> list[Finding]:
    """What is not as it has to be in the tree for those who look for lxcfs' files."""
    record, broken = compat.recorded(skeleton), compat.disorder(skeleton, table)
    if record is None or not broken:
        return []
    text = f"{record.directory} does not show what the slots show: {listed(broken, names)}"
    advice = f"unmount what is over it, if anything; {RESTART} puts it in order"
    return [Finding("slots", Severity.WARNING, text, advice, record.directory)]


def _slot_mount(path: str, table: list[MountEntry]) -> MountEntry | None:
    """The procfs or sysfs of ours that is mounted at ``path``, whatever views are over it."""
    return next((entry for entry in table if entry.path == path and not entry.ours), None)


def _views(
    skeleton: Skeleton, names: list[str], service: Service, table: list[MountEntry], commands: Commands
) -> list[Finding]:
    """What is over the slots, and what it does to readers."""
    missing, stale, hanging, stacked, covered = [], [], [], [], []
    for name in names:
        over = [entry for entry in table if entry.path == skeleton.ctl(name) and entry.ours]
        if any(entry.path == skeleton.src(name) and entry.ours for entry in table):
            covered.append(name)
        if any(entry.device != service.device for entry in over) or (over and service.state is State.DEAD):
            stale.append(name)
        elif over and not service.serving:
            hanging.append(name)
        elif len(over) > 1:
            stacked.append(name)
        elif not over and service.serving:
            missing.append(name)
    publish = f"{RESTART} puts every view in place"
    give_back = f"{commands.withdraw()} gives containers the host's values back; then {RESTART}"
    return [
        Finding("slots", severity, f"{text}: {listed(slots, names)}", advice)
        for slots, severity, text, advice in (
            (stale, Severity.CRITICAL, "stale views, whose readers get errors", give_back),
            (hanging, Severity.CRITICAL, f"views are up although {service.state.value}, and readers wait", give_back),
            (missing, Severity.CRITICAL, "without a view, so that containers see the host's values", publish),
            (stacked, Severity.WARNING, "several views over one another", publish),
            (covered, Severity.CRITICAL, "covered in src, so that who binds them gets what no withdrawal reaches",
             publish),
        )
        if slots
    ]  # fmt: skip
