"""A daemon of its own for tests: ``python -m procview serve`` on a mount that only they know."""

import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.session import mounts


@dataclass(frozen=True)
class Daemon:
    process: subprocess.Popen[bytes]
    mount: Path
    log: Path

    @classmethod
    def start(cls, directory: Path, configuration: str = "", tracer: Sequence[str] = ()) -> "Daemon":
        """Start one on ``directory``/fs and wait until it serves; ``tracer`` runs it as our child."""
        mount = directory / "fs"
        mount.mkdir()
        config, log = directory / "config.toml", directory / "log"
        config.write_text(configuration, encoding="utf-8")
        argv = [*tracer, sys.executable, "-m", "procview", "serve", "--mount", str(mount), "--config", str(config)]
        with log.open("wb") as output:
            process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        daemon = cls(process, mount, log)
        deadline = time.monotonic() + 30
        while not daemon._serves():
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                process.wait()
                raise RuntimeError(f"the daemon does not serve, status {process.returncode}:\n{daemon.said()}")
            time.sleep(0.02)
        return daemon

    def _serves(self) -> bool:
        return self.is_mounted() and (self.mount / "proc/uptime").exists()

    def is_mounted(self) -> bool:
        return any(mount.point == self.mount for mount in mounts())

    def said(self) -> str:
        """Its log."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def descriptors(self) -> int:
        """How many files it has open."""
        return sum(1 for _ in Path(f"/proc/{self.process.pid}/fd").iterdir())

    def stop(self) -> None:
        """End it as a service manager would, and see that it goes without a trace."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        assert self.process.returncode == 0, f"status {self.process.returncode}:\n{self.said()}"
        assert not self.is_mounted(), f"still mounted:\n{self.said()}"
