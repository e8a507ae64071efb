"""Is the FUSE connection wedged: the requests that wait, of our own mount and no other."""

from procview.check.commands import RESTART, Commands
from procview.check.daemon import Service, State
from procview.check.findings import Finding, Severity
from procview.mounts import waiting_requests


def findings(service: Service, commands: Commands) -> list[Finding]:
    """How many requests wait for the daemon."""
    if service.device is None:
        return []
    try:
        waiting = waiting_requests(service.device)
    except OSError as error:
        return [Finding("connection", Severity.OK, f"requests cannot be counted: {error.strerror}")]
    if waiting is None:
        return []
    text = f"{waiting} requests wait for the daemon"
    if waiting and service.state in (State.HANGING, State.DEAD):
        advice = f"{commands.withdraw()} takes the views away and ends this connection, and no other; then {RESTART}"
        return [Finding("connection", Severity.CRITICAL, f"wedged: {text}", advice)]
    return [Finding("connection", Severity.OK, text)]
