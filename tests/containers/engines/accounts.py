"""Users with subordinate ids that exist for one engine only: a layer over /etc in a mount namespace of its own.

The machine's /etc is not written to. newuidmap and dockerd find the users there as on any other machine.
"""

from dataclasses import dataclass
from pathlib import Path

ENGINE_UID = 20_001
"""Of the user that owns a rootless engine, or whom the subordinate ids of a root one belong to."""


@dataclass(frozen=True)
class Accounts:
    """The layer, made in ``directory``: who has these subordinate ids is ``name``, a user who may be new."""

    directory: Path
    name: str
    first_sub_id: int
    sub_ids: int

    def make(self) -> None:
        self.directory.mkdir(mode=0o755)
        if self.name != "root":
            self._add("passwd", f"{self.name}:x:{ENGINE_UID}:{ENGINE_UID}::/nonexistent:/bin/sh")
            self._add("group", f"{self.name}:x:{ENGINE_UID}:")
        for file in ("subuid", "subgid"):
            (self.directory / file).write_text(f"{self.name}:{self.first_sub_id}:{self.sub_ids}\n", encoding="ascii")
        (self.directory / "docker").mkdir()  # dockerd writes a key there, wherever its other directories are

    def _add(self, file: str, line: str) -> None:
        text = Path("/etc", file).read_text(encoding="utf-8")
        (self.directory / file).write_text(f"{text.rstrip()}\n{line}\n", encoding="utf-8")

    def command(self, *steps: str) -> list[str]:
        """A prefix for a command that is to run with these users; ``steps`` are shell commands before it.

        Its mounts are slaves of the host's: what is published there gets in, what is mounted inside does not get out.
        """
        script = "\n".join(
            [
                "set -e",
                f"mount -t overlay -o ro,lowerdir={self.directory}:/etc overlay /etc",
                *steps,
                'exec "$@"',
            ]
        )
        return ["unshare", "--mount", "--propagation", "slave", "sh", "-c", script, "sh"]
