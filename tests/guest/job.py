"""What a guest runs: a shell script in the folder that it shares with the host, or a service around it for systemd."""

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

INSIDE = "/run/guest"
"""Where the shared folder is in the guest, as init.c knows it."""
_MASKED = (
    # They would tidy up, or cover, the host's /tmp, which may be where the checkout is.
    "systemd-tmpfiles-setup.service",
    "systemd-tmpfiles-clean.timer",
    "tmp.mount",
    # They are about the hardware of the machine that this root belongs to, and take most of the time under TCG.
    "apparmor.service",
    "systemd-binfmt.service",
    "systemd-journal-flush.service",
    "systemd-remount-fs.service",
    "systemd-sysusers.service",
    "systemd-timesyncd.service",
    "systemd-udev-trigger.service",
    "systemd-udevd.service",
    "systemd-update-utmp.service",
)


def write_job(
    shared: Path, command: Sequence[str], environment: Mapping[str, str], directory: str, *, terminal: bool
) -> None:
    """Write the script that runs ``command`` in ``directory`` (of the guest), and systemd's unit for it."""
    variables = {
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "PATH": os.environ.get("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        "TERM": os.environ.get("TERM", "dumb") if terminal else "dumb",
        "USER": "root",
        **environment,
    }
    lines = [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
    lines += [f"cd {shlex.quote(directory)}", shlex.join(command)]
    (shared / "job").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    (shared / "status").unlink(missing_ok=True)
    units = shared / "units"
    units.mkdir(exist_ok=True)
    (units / "guest-job.service").write_text(_service(terminal=terminal), encoding="ascii")
    for name in _MASKED:
        if not (units / name).is_symlink():
            (units / name).symlink_to("/dev/null")


def status(shared: Path) -> int | None:
    """What the command ended with; None if the guest has not come so far."""
    try:
        return int((shared / "status").read_text(encoding="ascii"))
    except (FileNotFoundError, ValueError):
        return None


def _service(*, terminal: bool) -> str:
    """The service whose end switches the guest off."""
    return f"""[Unit]
Requires=basic.target
After=basic.target
SuccessAction=poweroff-force
FailureAction=poweroff-force

[Service]
Type=oneshot
TTYPath=/dev/hvc0
StandardInput={"tty-force" if terminal else "null"}
StandardOutput=tty
StandardError=tty
ExecStartPre={"-/bin/true" if terminal else "-/bin/stty -F /dev/hvc0 raw"}
ExecStart=/bin/sh -c "/bin/sh {INSIDE}/job; echo $? > {INSIDE}/status"
"""
