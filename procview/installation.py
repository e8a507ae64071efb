"""Installing the files for an engine below a prefix, and taking them away again.

What was written is kept in a record, <prefix>/var/lib/procview/installed.json: for each file the SHA-256 of every text
that was written there. A file is ours if it is in the record with the text that it has now. Everything else belongs to
somebody: it was made or changed by hand, or came with a package, and is neither overwritten nor removed.
"""

import contextlib
import errno
import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from procview.engines import ENGINES, HOOK, Engine, Site
from procview.shipped import hook_program, packaging_file

RECORD = "/var/lib/procview/installed.json"

Say = Callable[[str], None]
"""Gets a line for each thing that is done."""

_WHAT_TO_DO = {
    errno.EACCES: "run this as root, or give another --prefix",
    errno.EPERM: "run this as root, or give another --prefix",
    errno.EROFS: "the file system is read-only: give another --prefix",
    errno.ENOSPC: "make room, and run this again",
}


class InstallError(Exception):
    """It cannot be done; the text says what, where, and what to do."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file as it should be; its path is without the prefix."""

    path: str
    content: bytes
    mode: int

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


@dataclass
class Written:
    """What the record says of one file: for which engines it is there, and what was ever written to it."""

    engines: set[str] = field(default_factory=set)
    sha256: set[str] = field(default_factory=set)


@dataclass
class Record:
    """Which files and folders were made below a prefix; their paths are without it."""

    path: str
    files: dict[str, Written] = field(default_factory=dict)
    directories: list[str] = field(default_factory=list)

    @classmethod
    def load(cls, path: str) -> "Record":
        """The record in the file ``path``; an empty one if there is none. Raises InstallError."""
        record = cls(path)
        try:
            with open(path, encoding="utf-8") as file:
                content: dict[str, Any] = json.load(file)
            for name, entry in content["files"].items():
                record.files[str(name)] = Written(set(map(str, entry["engines"])), set(map(str, entry["sha256"])))
            record.directories = [str(name) for name in content["directories"]]
        except FileNotFoundError:
            pass
        except OSError as error:
            raise InstallError(f"cannot read {path}: {error.strerror}; run this as root") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InstallError(
                f"{path} cannot be understood ({type(error).__name__}: {error}); move it away: then no file counts as "
                "procview's, and install --force writes them anew"
            ) from error
        return record

    def save(self) -> None:
        """Write it, or remove it if no file is left in it. Raises OSError."""
        if not self.files:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path)
            return
        files = {
            path: {"engines": sorted(entry.engines), "sha256": sorted(entry.sha256)}
            for path, entry in sorted(self.files.items())
        }
        text = json.dumps({"files": files, "directories": self.directories}, indent=2) + "\n"
        _write(self.path, text.encode(), 0o644)


@dataclass
class Installation:
    """What is installed below a site's prefix. With ``dry_run`` it only says what it would do."""

    site: Site
    say: Say
    dry_run: bool = False

    def __post_init__(self) -> None:
        """Raises InstallError if the record is unusable."""
        self._record = Record.load(self.site.path(RECORD))

    def install(self, engines: Sequence[Engine], *, force: bool = False) -> bool:
        """Write the engines' files; whether there was anything to write. Raises InstallError, FileNotFoundError.

        Nothing is written if any of the files may not be.
        """
        files = {engine.name: wanted(self.site, engine) for engine in engines}
        every = {file.path: file for group in files.values() for file in group}.values()
        todo = [file for file in every if not self._is_there(file)]
        foreign = [file.path for file in todo if self._is_foreign(file.path)]
        if foreign and not force:
            raise InstallError("\n".join(self._refusal(self.site.path(path)) for path in foreign))
        if not self.dry_run:
            with _doing("write below", self.site.prefix):
                self._note(files, todo)
        for file in todo:
            self._put(file, keep=file.path in foreign)
        return bool(todo)

    def uninstall(self, engines: Sequence[Engine]) -> bool:
        """Remove the engines' files as far as they are ours; whether there were any. Raises InstallError."""
        names = {engine.name for engine in engines}
        gone: list[str] = []
        anything = False
        for path in dict.fromkeys(file.path for engine in engines for file in engine.files):
            anything |= self._take(path, names, gone)
        if HOOK in self._record.files:
            users = self._users_of_hook(gone)
            if users:
                self._record.files[HOOK].engines -= names
                self.say(f"kept {self.site.hook}: {users[0]} runs it")
            else:
                anything |= self._take(HOOK, names, gone)
        if not self.dry_run:
            with _doing("write below", self.site.prefix):
                self._record.save()
                if self._remove_directories():
                    self._record.save()
        return anything

    # --- install ---

    def _is_there(self, file: Wanted) -> bool:
        where = self.site.path(file.path)
        if not os.path.lexists(where) or _sha256(where) != file.sha256:
            return False
        status = os.lstat(where)
        if stat.S_IMODE(status.st_mode) != file.mode or status.st_uid != os.geteuid():
            return False
        self.say(f"unchanged {where}")
        return True

    def _is_foreign(self, path: str) -> bool:
        where = self.site.path(path)
        entry = self._record.files.get(path)
        return os.path.lexists(where) and (entry is None or _sha256(where) not in entry.sha256)

    def _refusal(self, where: str) -> str:
        return (
            f"{where} was not written by procview install, or was changed since; --force replaces it, and keeps it as "
            f"{_kept_as(where)}"
        )

    def _note(self, files: dict[str, list[Wanted]], todo: list[Wanted]) -> None:
        """Put into the record what is about to be written, so that a crash leaves nothing that looks like another's."""
        for file in todo:
            self._record.files.setdefault(file.path, Written()).sha256.add(file.sha256)
        for name, group in files.items():
            for file in group:
                if file.path in self._record.files:
                    self._record.files[file.path].engines.add(name)
        if not self._record.files:
            return  # all of it is there already, by somebody else
        made = [path for file in todo for path in self._make_directories(os.path.dirname(file.path))]
        made += self._make_directories(os.path.dirname(RECORD))
        self._record.directories += [path for path in made if path not in self._record.directories]
        self._record.save()

    def _put(self, file: Wanted, keep: bool) -> None:
        where = self.site.path(file.path)
        if keep:
            kept = _kept_as(where)
            self.say(f"{'would keep' if self.dry_run else 'kept'} the old {where} as {kept}")
            if not self.dry_run:
                with _doing("rename", where):
                    os.rename(where, kept)
        if not self.dry_run:
            with _doing("write", where):
                _write(where, file.content, file.mode)
        self.say(f"{'would write' if self.dry_run else 'wrote'} {where}")

    def _make_directories(self, path: str) -> list[str]:
        """Make the folder ``path``; which ones were made for that, parents first."""
        missing: list[str] = []
        while path != "/" and not os.path.isdir(self.site.path(path)):
            missing.insert(0, path)
            path = os.path.dirname(path)
        for directory in missing:
            os.makedirs(self.site.path(directory), exist_ok=True)
            os.chmod(self.site.path(directory), 0o755)  # noqa: S103 - whatever the umask is, engines have to read it
        return missing

    # --- uninstall ---

    def _take(self, path: str, names: set[str], gone: list[str]) -> bool:
        """Remove a file unless somebody else has it or needs it; whether there was anything."""
        where = self.site.path(path)
        entry = self._record.files.get(path)
        if entry is None or (entry.engines and not names & entry.engines):
            if os.path.lexists(where) and path != HOOK:
                self.say(f"kept {where}: it was not installed for {' '.join(sorted(names))}")
                return True
            return False
        entry.engines -= names
        if entry.engines:
            self.say(f"kept {where}: installed for {' '.join(sorted(entry.engines))} too")
            return True
        del self._record.files[path]
        if not os.path.lexists(where):
            self.say(f"already gone {where}")
        elif _sha256(where) not in entry.sha256:
            self.say(f"kept {where}: it was changed since it was installed; remove it by hand")
        else:
            if not self.dry_run:
                with _doing("remove", where):
                    os.unlink(where)
            gone.append(path)
            self.say(f"{'would remove' if self.dry_run else 'removed'} {where}")
        return True

    def _users_of_hook(self, gone: list[str]) -> list[str]:
        """The engines' files that are there, apart from those ``gone``, and name the hook program."""
        users = []
        for file in (file for engine in ENGINES for file in engine.files if file.path not in gone):
            where = self.site.path(file.path)
            try:
                with open(where, encoding="utf-8") as text:
                    if self.site.hook in file.hooks(where, text.read()):
                        users.append(where)
            except FileNotFoundError:
                pass
            except (OSError, ValueError):
                users.append(where)  # not readable is no proof that nothing runs it
        return users

    def _remove_directories(self) -> bool:
        """Remove the folders that were made and are empty now; whether there were any."""
        before = len(self._record.directories)
        for directory in sorted(self._record.directories, key=len, reverse=True):
            try:
                os.rmdir(self.site.path(directory))
            except FileNotFoundError:
                pass
            except OSError:
                continue
            self._record.directories.remove(directory)
        return len(self._record.directories) != before


def wanted(site: Site, engine: Engine) -> list[Wanted]:
    """All files of an engine, the hook program first: no file may name what is not there yet. FileNotFoundError."""
    files = []
    if engine.hook:
        program = hook_program()
        # Where a package has installed it to the same place, it is that package's.
        if not (os.path.exists(site.hook) and os.path.samefile(program, site.hook)):
            with open(program, "rb") as file:
                files.append(Wanted(HOOK, file.read(), 0o755))
    for shipped in engine.files:
        with open(packaging_file(shipped.template), encoding="utf-8") as template:
            files.append(Wanted(shipped.path, shipped.render(template.read(), site).encode(), shipped.mode))
    return files


def _sha256(path: str) -> str | None:
    """Of a regular file; None for anything else, such as a link: what that means only its maker knows."""
    with _doing("read", path):
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return None
        with open(path, "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()


def _kept_as(path: str) -> str:
    """A name that no engine reads and that is free."""
    name, number = f"{path}.orig", 1
    while os.path.lexists(name):
        number += 1
        name = f"{path}.orig{number}"
    return name


def _write(path: str, content: bytes, mode: int) -> None:
    """Write a file such that at every moment there is the old one or the new one. Raises OSError."""
    descriptor, temporary = tempfile.mkstemp(prefix=f".{os.path.basename(path)}.", dir=os.path.dirname(path))
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            os.fchmod(descriptor, mode)
            file.flush()
            os.fsync(descriptor)
        os.rename(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


@contextlib.contextmanager
def _doing(what: str, where: str) -> Iterator[None]:
    """Turns an OSError into an InstallError that says what to do."""
    try:
        yield
    except OSError as error:
        hint = _WHAT_TO_DO.get(error.errno or 0, "mend that, and run this again")
        raise InstallError(f"cannot {what} {error.filename or where}: {error.strerror}; {hint}") from error
