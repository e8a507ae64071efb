"""Is the hook program in place for the containers to come: the program, and the engines' files that call it.

Touches the files that ``procview install`` writes, and the programs they name; runs nothing.
"""

import os
import shlex
import stat
from collections.abc import Collection

from procview.check.commands import Commands
from procview.check.findings import Finding, Severity
from procview.engines import ENGINES, HOOK, EngineFile, Site
from procview.installation import RECORD, InstallError, Record
from procview.shipped import hook_program

_MAX_BYTES = 1 << 20
_REINSTALL = "install procview again"
_WITHOUT = "new containers come up without views"


def findings(commands: Commands) -> list[Finding]:
    """Of the program, and of each engine's file below the prefix of ``commands`` (``/``: the host's)."""
    site = Site(commands.prefix)
    found: list[Finding] = []
    callers: dict[str, list[str]] = {}
    for file in _files():
        path = site.path(file.path)
        mend = commands.install("--force", *_engines_of(file))
        try:
            programs = _called(file, path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, ValueError) as error:
            text = f"{path} cannot be understood, and perhaps not by its engine either: {error}"
            found.append(Finding("hook", Severity.CRITICAL, text, mend, path))
            continue
        for program in programs:
            callers.setdefault(program, []).append(path)
        if not programs:
            text = f"{path} does not call the hook: new containers get no views through it"
            found.append(Finding("hook", Severity.WARNING, text, mend, path))
    for program, paths in callers.items():
        found += _program(program, commands, called_by=", ".join(paths))
    found += _gone(site, commands, callers)
    return found or _not_called(site, commands)


def _engines_of(file: EngineFile) -> list[str]:
    return [engine.name for engine in ENGINES if file in engine.files]


def _gone(site: Site, commands: Commands, called: Collection[str]) -> list[Finding]:
    """What ``procview install`` wrote that is there no more, although nobody uninstalled it."""
    try:
        written = Record.load(site.path(RECORD)).files
    except InstallError as error:
        return [Finding("hook", Severity.UNKNOWN, "what was installed cannot be told", str(error))]
    found = []
    for path in (HOOK, *(file.path for file in _files())):
        where = site.path(path)
        if path in written and where not in called and not os.path.exists(where):
            engines = sorted(written[path].engines)
            text = f"{where} is missing, which was installed for {', '.join(engines)}: {_WITHOUT}"
            advice = f"{commands.install(*engines)}; if it went on purpose: {commands.uninstall(*engines)}"
            found.append(Finding("hook", Severity.CRITICAL, text, advice, where))
    return found


def _files() -> list[EngineFile]:
    """Each file that calls the hook, once: engines share some."""
    return list({file.path: file for engine in ENGINES if engine.hook for file in engine.files}.values())


def _called(file: EngineFile, path: str) -> list[str]:
    """The hook programs in an installed file. Raises OSError, ValueError."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(fd, encoding="utf-8") as opened:
        try:
            return file.hooks(path, opened.read(_MAX_BYTES))
        except RecursionError:
            raise ValueError("nested too deeply") from None


def _not_called(site: Site, commands: Commands) -> list[Finding]:
    """No engine's file calls the hook. Whether that is meant shows in the containers: they have views or they do not.

    The program is looked at all the same: it is what ``procview attach`` runs, and what other files may call.
    """
    try:
        program = site.hook if os.path.lexists(site.hook) else hook_program()
    except FileNotFoundError as error:
        return [Finding("hook", Severity.CRITICAL, f"missing: {error}", _REINSTALL)]
    return _program(program, commands, note=f"no engine's file calls it ({commands.install('ENGINE')} makes one)")


def _program(path: str, commands: Commands, called_by: str = "", note: str = "") -> list[Finding]:
    """What is wrong with the program at ``path``, or that nothing is."""

    def critical(text: str, advice: str) -> list[Finding]:
        text += f" (called by {called_by})" if called_by else ""
        return [Finding("hook", Severity.CRITICAL, text, advice, path)]

    quoted = shlex.quote(path)
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            return critical(f"{path} is no file: {_WITHOUT}", _REINSTALL)
        interpreter = _interpreter(path)
    except OSError as error:
        text = "missing" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror}"
        return critical(f"{path} is {text}: {_WITHOUT}", f"{_REINSTALL}, or {commands.install('ENGINE')}")
    if not status.st_mode & stat.S_IXUSR:
        return critical(f"{path} is not executable: {_WITHOUT}", f"chmod 0755 {quoted}")
    if not os.access(interpreter, os.X_OK):
        return critical(f"{path} needs {interpreter}, which is not there: {_WITHOUT}", f"install {interpreter}")
    if status.st_uid != 0 or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        text = f"{path} can be written by others than root, who runs it; iSulad refuses it"
        return critical(text, f"see who has changed it; then chown root:root {quoted}; chmod 0755 {quoted}")
    text = f"{path} is in place, " + (f"called by {called_by}" if called_by else note)
    return [Finding("hook", Severity.OK, text, name=path)]


def _interpreter(path: str) -> str:
    """The program that the first line names. Raises OSError."""
    with open(path, "rb") as file:
        first = file.read(256).partition(b"\n")[0]
    words = first.removeprefix(b"#!").split()
    if not first.startswith(b"#!") or not words:
        raise OSError(0, "it does not begin with #! and an interpreter")
    return os.fsdecode(words[0])
