"""Runs in a clean Debian: the quick start's commands, an upgrade under a reader, and a removal.

Standard library only, beside a copy of quickstart.py; what it finds goes to ``report``, one JSON object a line. Its
argument is the folder in which the packages are.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from quickstart import Step, blocks, prints  # type: ignore[import-not-found]

SECONDS = 600
"""For one command: a net."""
RETRY_SECONDS = 600
"""Prometheus scrapes every 15 s, and not from its first moment on."""
ASKS_AGAIN = ("curl ", "procview check")
"""What says how things are at this moment, and may come too early; everything else has one try."""
FOLDER = Path(sys.argv[1])
IMAGE = "docker.io/library/ubuntu:24.04"

_PREPARED = f"""
mkdir -p /etc/containers /etc/procview /var/tmp/containers /var/lib/containers
# An overlay cannot be put onto the guest's own: the disk of the guest is at /var/tmp.
mount --bind /var/tmp/containers /var/lib/containers
printf '[containers]\\nnetns = "none"\\n' >/etc/containers/containers.conf
# However slow the machine is, nobody is to give up waiting.
printf 'takeover_seconds = 100\\nhang_seconds = 20\\n' >/etc/procview/procview.toml
slow=/etc/systemd/system/procview.service.d/slow.conf
mkdir -p "${{slow%/*}}"
printf '[Service]\\nTimeoutStartSec=500\\nTimeoutStopSec=500\\nWatchdogSec=100\\n' >"$slow"
podman import --quiet image.tar {IMAGE}
rm -f /usr/sbin/policy-rc.d
# Who types the page's first command answers that lxcfs may go.
echo 'APT::Get::Assume-Yes "true";' >/etc/apt/apt.conf.d/yes
"""
_PREPARED_INCUS = """
mkdir -p /var/tmp/incus
incus admin init --preseed <<'END'
storage_pools: [{name: default, driver: dir, config: {source: /var/tmp/incus}}]
profiles: [{name: default, devices: {root: {path: /, pool: default, type: disk}}}]
END
printf 'architecture: x86_64\\ncreation_date: 1700000000\\nproperties: {description: tiny}\\n' >/var/tmp/metadata.yaml
tar -C /var/tmp -cf /var/tmp/metadata.tar metadata.yaml
incus image import /var/tmp/metadata.tar image.tar --alias tiny
incus init tiny c2 --config limits.memory=512MiB
"""
_UPGRADED = """
before=$(systemctl show -p MainPID --value procview)
podman exec c1 sh -c 'while [ ! -e /enough ]; do
    grep -q "^MemTotal:  *524288 kB" /proc/meminfo && echo right || echo wrong
    sleep 0.1
done' >/tmp/readers 2>&1 &
until grep -q right /tmp/readers; do sleep 0.1; done
apt-get install --quiet --assume-yes ./next/procview_*.deb
podman exec c1 touch /enough
wait
systemctl is-active --quiet incus
[ "$before" != "$(systemctl show -p MainPID --value procview)" ] && echo "another daemon"
sort /tmp/readers | uniq --count
"""
_REMOVED = """
incus delete --force c2
apt-get purge --quiet --assume-yes procview
podman exec c1 free -k
podman rm --force --time 0 c1 >/dev/null
find / -xdev -name '*procview*' -not -path '/run/guest/*' -not -path '/proc/*' -not -path '/sys/*' \\
    -not -path '/var/log/*' -not -path '/etc/systemd/system/procview.service.d*' -not -path '/var/lib/prometheus/*' \\
    2>/dev/null || true
grep procview /proc/mounts || true
echo "that is all"
"""


def run(step: Step) -> dict[str, object]:
    """One command, and whether it did what the page says of it."""
    begun = time.monotonic()
    while True:
        done = subprocess.run(
            ["sh", "-ec", step.command],
            cwd=FOLDER,
            env={**os.environ, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive", "COLUMNS": "80"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        seconds = time.monotonic() - begun
        right = done.returncode == 0 and prints(step.prints, done.stdout)
        if right or not step.command.startswith(ASKS_AGAIN) or seconds > RETRY_SECONDS:
            break
        time.sleep(1)
    return {
        "command": step.command,
        "right": right,
        "status": done.returncode,
        "out": done.stdout,
        "err": done.stderr,
        "seconds": round(seconds, 1),
    }


def main() -> None:
    page = blocks((FOLDER / "quickstart.md").read_text(encoding="utf-8"))
    with (FOLDER / "report").open("w", encoding="utf-8") as report:
        for name, steps in {
            "prepared": [Step(_PREPARED, ())],
            "debian": page["debian"],
            "prometheus": page["prometheus"],
            "prepared incus": [Step(_PREPARED_INCUS, ())],
            "incus": page["incus"],
            "upgraded": [Step(_UPGRADED, ())],
            "removed": [Step(_REMOVED, ())],
        }.items():
            for step in steps:
                report.write(json.dumps({"block": name, **run(step)}) + "\n")
                report.flush()


if __name__ == "__main__":
    main()
