"""systemd's descriptor store, with the daemon's side of it in a small daemon of the tests'."""

import subprocess

from tests import session
from tests.daemon.process import eventually
from tests.supervise.process import KEEPER, ROOT
from tests.systemd.units import shown, systemctl


def test_what_a_killed_daemon_kept_is_found_by_the_next_one() -> None:
    unit = f"{session.new_name()}.service"
    properties = ["Type=notify", "NotifyAccess=all", "FileDescriptorStoreMax=8", "Restart=always", "RestartSec=10ms",
                  f"WorkingDirectory={ROOT}", f"Environment={session.VARIABLE}={session.SESSION}"]  # fmt: skip
    command = ["systemd-run", "--quiet", "--collect", f"--unit={unit}", *(f"--property={one}" for one in properties)]
    with session.temporary_directory() as directory:
        subprocess.run([*command, *KEEPER, str(directory)], check=True)
        try:
            assert shown(unit, "NFileDescriptorStore") == "1"
            starts = directory / "starts"
            eventually(lambda: starts.exists() and starts.read_text().count("\n") == 1, "the first one's note")
            systemctl("kill", "--kill-whom=main", "-s", "KILL", unit)
            eventually(lambda: starts.read_text().count("\n") == 2, "the next one")
            assert starts.read_text().splitlines()[1].split()[1] == "2"
        finally:
            systemctl("stop", unit, check=False)
