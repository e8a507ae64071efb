"""LXC: a configuration file and its own tools, no template and no network."""

import contextlib
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests import session
from tests.containers import cgroups
from tests.containers.cgroups import Limits
from tests.containers.engines.accounts import Accounts
from tests.containers.engines.base import (
    INSIDE,
    SLEEP,
    SUB_ID,
    SUB_IDS,
    TREES,
    Container,
    Engine,
    EngineError,
    Hook,
    Views,
    checked,
    version_line,
    view_files,
)
from tests.containers.rootfs import SCRATCH, Rootfs, environment


@dataclass
class LxcContainer(Container):
    def command(self, argv: Sequence[str], user: int | None = None) -> list[str]:
        as_user = [] if user is None else ["--uid", str(user), "--gid", str(user)]
        variables = [
            word
            for key, value in environment({session.VARIABLE: session.SESSION}).items()
            for word in ("--set-var", f"{key}={value}")
        ]
        return [
            "lxc-attach",
            "-P",
            str(self.directory),
            "-n",
            self.name,
            "--clear-env",
            *variables,
            *as_user,
            "--",
            *argv,
        ]

    def kill(self) -> None:
        try:
            self._kill()
        finally:
            # LXC keeps a lock for every place that containers are in, for good.
            shutil.rmtree(f"/run/lxc/lock{self.directory}", ignore_errors=True)

    def _kill(self) -> None:
        checked(["lxc-stop", "-P", self.directory, "-n", self.name, "--kill"])
        checked(["lxc-wait", "-P", self.directory, "-n", self.name, "-s", "STOPPED", "-t", "20"])


@dataclass(frozen=True)
class MountHook:
    """A program of somebody else's for lxc.hook.mount."""

    program: Path
    """Where every user may run it."""


@dataclass(frozen=True)
class LxcEngine(Engine):
    name: str = "lxc"

    def version(self) -> str | None:
        return version_line("lxc-start", "--version")

    def start(
        self,
        rootfs: Rootfs,
        limits: Limits,
        *,
        views: Views | MountHook,
        init: Sequence[str] = SLEEP,
        map_users: bool = False,
        block_devices: Sequence[tuple[str, int]] = (),
    ) -> LxcContainer:
        if block_devices:
            raise NotImplementedError("no test needs them with LXC")
        container = LxcContainer(session.new_name(), session.new_directory())
        home = container.directory / container.name
        home.mkdir()
        lines = [
            f"lxc.uts.name = {container.name}",
            f"lxc.rootfs.path = dir:{rootfs.path}",
            f"lxc.init.cmd = {_lxc_command(home, init)}",
            "lxc.net.0.type = empty",
            "lxc.apparmor.profile = unconfined",
            "lxc.mount.auto = proc:rw sys:ro",
            "lxc.tty.max = 0",
            "lxc.pty.max = 16",
            f"lxc.mount.entry = tmpfs {SCRATCH.lstrip('/')} tmpfs mode=1777 0 0",
            f"lxc.mount.entry = {home} run none bind,ro 0 0",
        ]
        lines += [
            f"lxc.environment = {key}={value}"
            for key, value in environment({session.VARIABLE: session.SESSION}).items()
        ]
        lines += [f"lxc.mount.entry = {host} {inside.lstrip('/')} none rbind,ro 0 0" for host, inside in rootfs.binds]
        kind = "cgroup2" if cgroups.is_pure_v2() else "cgroup"
        lines += [f"lxc.{kind}.{file} = {text}" for _, file, text in cgroups.files_of(limits)]
        if map_users:
            lines += [f"lxc.idmap = {kind} 0 {SUB_ID} {SUB_IDS}" for kind in ("u", "g")]
        if isinstance(views, Hook):
            lines.append(f"lxc.hook.mount = {shlex.join([str(views.program), '--lxc', *views.options])}")
        if isinstance(views, MountHook):
            lines.append(f"lxc.hook.mount = {views.program}")
        if isinstance(views, Path):
            lines += [f"lxc.mount.entry = {views}/{file} {file} none bind 0 0" for file in (*view_files(views), *TREES)]
            lines.append(f"lxc.mount.entry = {views} {INSIDE.lstrip('/')} none bind 0 0")
        (home / "config").write_text("\n".join(lines) + "\n", encoding="utf-8")
        try:
            log = container.directory / "log"
            prefix = []
            if (
                map_users
            ):  # LXC writes the map with newuidmap, where that is installed, and it asks /etc/subuid for root too
                accounts = Accounts(container.directory / "etc", "root", SUB_ID, SUB_IDS)
                accounts.make()
                prefix = accounts.command()
            try:
                checked(
                    [
                        *prefix,
                        "lxc-start",
                        "-P",
                        container.directory,
                        "-n",
                        container.name,
                        "-d",
                        "-o",
                        log,
                        "-l",
                        "INFO",
                    ]
                )
            except EngineError as error:
                raise EngineError(f"{error}{log.read_text(encoding='utf-8') if log.exists() else ''}") from None
            container.pid = int(checked(["lxc-info", "-P", container.directory, "-n", container.name, "-p", "-H"]))
            if isinstance(views, Path):
                container.bind_other_views(view_files(views))
        except BaseException:
            with contextlib.suppress(EngineError):
                container.kill()
            session.remove_directory(container.directory)
            raise
        return container


def _lxc_command(home: Path, init: Sequence[str]) -> str:
    """LXC splits its init command at spaces and knows no quotes: a script says it instead."""
    (home / "init").write_text(f"exec {shlex.join(init)}\n", encoding="utf-8")
    return "/bin/sh /run/init"


LXC = LxcEngine()
