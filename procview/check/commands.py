"""The commands that advice names, such that they can be copied: for this installation, and safe in a shell."""

import shlex
from dataclasses import dataclass

START = "systemctl start procview"
RESTART = "systemctl restart procview"
JOURNAL = "journalctl -u procview"


@dataclass(frozen=True, slots=True)
class Commands:
    """``procview`` with the options that ``procview check`` itself was given."""

    options: tuple[str, ...] = ()
    prefix: str = "/"

    def attach(self, *words: str) -> str:
        return self._joined("attach", *words, *self.options)

    def detach(self, *words: str) -> str:
        return self._joined("detach", *words, *self.options)

    def withdraw(self) -> str:
        return self._joined("withdraw", *self.options)

    def install(self, *engines: str) -> str:
        return self._joined("install", *engines, *self._prefix, *self.options)

    def uninstall(self, *engines: str) -> str:
        return self._joined("uninstall", *engines, *self._prefix)

    @property
    def _prefix(self) -> tuple[str, ...]:
        return () if self.prefix == "/" else ("--prefix", self.prefix)

    @staticmethod
    def _joined(*words: str) -> str:
        return shlex.join(["procview", *words])
