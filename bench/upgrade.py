"""Upgrade: the daemon and its supervisor are exchanged for another commit's version and back, and nobody is to notice.

Both versions are wheels, built from commits of this repository, and installed one over the other into an environment of
their own while ``procview supervise`` runs from it; SIGHUP then exchanges it and its daemon. Readers, checks and bounds
are those of ``bench.chaos``.

Touches: as ``bench.chaos`` does; .cache/wheels, where wheels are kept by commit.
Exit status: 0 when every bound is kept, 1 when one is not, 2 when nothing could be measured.
"""

import argparse
import itertools
import os
import signal
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from bench import chaos, soak_report
from bench.compile import CHECKOUT, compiled
from bench.ending import end_when_told
from bench.private import enter_private_mounts
from bench.servers import ServerFailedError
from bench.soak import SoakFailedError
from bench.supervised import supervised

WHEELS = CHECKOUT / ".cache/wheels"


def commit_of(revision: str) -> str:
    return _run("git", "rev-parse", "--verify", f"{revision}^{{commit}}").strip()


def wheel_of(commit: str) -> Path:
    """Built, unless it has been. Raises subprocess.CalledProcessError."""
    folder = WHEELS / commit
    found = list(folder.glob("procview-*.whl"))
    if not found:
        print(f"building the wheel of {commit[:12]}", file=sys.stderr, flush=True)
        archive = subprocess.run(["git", "archive", commit], cwd=CHECKOUT, check=True, capture_output=True).stdout
        with tempfile.TemporaryDirectory(prefix="procview-bench-") as source:
            subprocess.run(["tar", "-xC", source], input=archive, check=True)
            _pip("wheel", "--no-build-isolation", "--no-deps", "--wheel-dir", str(folder), source)
        found = list(folder.glob("procview-*.whl"))
    return found[0]


def environment_at(folder: Path) -> Path:
    """A virtual environment there, in which all that procview needs is found where it is found now; its Python."""
    _run(sys.executable, "-m", "venv", "--without-pip", str(folder))
    packages = next(folder.glob("lib/python*/site-packages"))
    # Paths in a .pth file are not searched for further .pth files, of which one would lead to the checkout.
    (packages / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n", encoding="utf-8")
    return folder / "bin/python"


def install(python: Path, wheel: Path) -> None:
    _pip("--python", str(python), "install", "--no-deps", "--force-reinstall", str(wheel))


def main() -> int:
    options = _arguments()
    if os.geteuid() != 0:
        print("upgrade: needs root: it mounts a file system and makes cgroups", file=sys.stderr)
        return 2
    end_when_told()
    compiled("soak")
    try:
        commits = [commit_of(options.old), commit_of(options.new)]
        wheels = [wheel_of(commit) for commit in commits]
    except subprocess.CalledProcessError as error:
        print(f"upgrade: {error}: {error.stderr or error.stdout}", file=sys.stderr)
        return 2
    heading = soak_report.heading("upgrade")
    both = " and ".join(commit[:12] for commit in commits)
    print(heading, f"commits:     {both}", f"seed:        {options.seed}", sep="\n", flush=True)
    enter_private_mounts()
    try:
        with tempfile.TemporaryDirectory(prefix="procview-bench-") as work:
            python = environment_at(Path(work) / "venv")
            install(python, wheels[0])
            program = (str(python), "-P", "-m", "procview")
            with supervised(Path(work), options.takeover_seconds, program, slow=options.slow) as server:
                following = itertools.cycle([wheels[1], wheels[0]])

                def exchange(_daemon: int) -> None:
                    install(python, next(following))
                    server.process.send_signal(signal.SIGHUP)

                run = chaos.run_under(
                    exchange, server, containers=options.containers, count=options.times, seed=options.seed
                )
                said = server.log.read_text(errors="replace")
    except (ServerFailedError, SoakFailedError) as error:
        print(f"\nupgrade: {error}", file=sys.stderr)
        return 2
    if "nothing is exchanged" in said:
        print(said, file=sys.stderr)
    printed = chaos.table(run, "The daemon is exchanged for another version, and readers go on", "exchanges")
    found = chaos.verdicts(run, options.times, "times that both were exchanged", slow=options.slow)
    return chaos.tell(run, printed, found, heading, options.seed, options.json)


def _pip(*words: str) -> None:
    _run(sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input", *words)


def _run(*words: str) -> str:
    return subprocess.run(
        words, cwd=CHECKOUT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True
    ).stdout


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.upgrade", description=__doc__.splitlines()[0] if __doc__ else None
    )
    parser.add_argument("--old", default="HEAD~1", metavar="COMMIT", help="the version to begin with (HEAD~1)")
    parser.add_argument("--new", default="HEAD", metavar="COMMIT", help="the other one (HEAD)")
    parser.add_argument("--times", type=int, default=20, metavar="N", help="how often they are exchanged (20)")
    chaos.add_options(parser)
    options = parser.parse_args()
    chaos.check_options(parser, options, options.times)
    return options


if __name__ == "__main__":
    sys.exit(main())
