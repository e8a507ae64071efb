"""What is installed for each container engine: a table of engines, their files, and how the files are rendered.

Pure: text in, text out, but that links of a program's path are followed. The templates are the files under packaging/,
which are valid as they are and have the default paths in them. Rendering changes paths where they stand (in a JSON
object, in a line of its own), not wherever they are.
"""

import functools
import json
import os
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from procview.settings import DEFAULT_RUN_DIRECTORY

HOOK_NAME = "procview-hook"
HOOK = f"/usr/libexec/procview/{HOOK_NAME}"
"""Where the hook program is installed, below the prefix."""


@dataclass(frozen=True, slots=True)
class Site:
    """One installation: what the files for the engines have to refer to."""

    prefix: str = "/"
    run_directory: str = DEFAULT_RUN_DIRECTORY
    program: tuple[str, ...] = ("/usr/bin/procview",)
    """How to run ``procview``, by absolute path."""
    options: tuple[str, ...] = ()
    """What its commands are given, such as ``--config FILE``; what the default configuration says they know."""

    def path(self, path: str) -> str:
        """``path`` below the prefix."""
        return f"{self.prefix.rstrip('/')}{path}"

    @property
    def hook(self) -> str:
        """The hook program."""
        return self.path(HOOK)


@dataclass(frozen=True, slots=True)
class EngineFile:
    """One file that is installed for an engine."""

    template: str
    """Its name under packaging/."""
    path: str
    """Where it goes, below the prefix."""
    render: Callable[[str, Site], str]
    """Of the template's text, the text for a site."""
    hooks: Callable[[str, str], list[str]]
    """Of a file's path and text: the hook programs of procview in it. Raises ValueError if the text is broken."""
    mode: int = 0o644


@dataclass(frozen=True, slots=True)
class Engine:
    """One engine, as ``procview install`` knows it."""

    name: str
    summary: str
    files: tuple[EngineFile, ...]
    next_step: Callable[[Site], str]
    """What a user does now, in a line."""
    hook: bool = True
    """Whether the hook program is installed with it."""


def find(name: str) -> Engine:
    """The engine of that name. Raises KeyError."""
    return _BY_NAME[name]


# --- JSON: hookspec.json, hooks.d, CDI ---


def _render_json(text: str, site: Site) -> str:
    content = json.loads(text)
    for hook in _hook_objects(content):
        hook["path"] = site.hook
        hook["args"] = [HOOK_NAME, *_hook_options(site)]
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _json_hooks(_path: str, text: str) -> list[str]:
    return [hook["path"] for hook in _hook_objects(json.loads(text)) if os.path.basename(hook["path"]) == HOOK_NAME]


def _hook_objects(content: Any) -> Iterator[dict[str, Any]]:
    """Every object in ``content`` that says what to run, wherever the format has them."""
    if isinstance(content, dict):
        if isinstance(content.get("path"), str):
            yield content
        content = list(content.values())
    if isinstance(content, list):
        for value in content:
            yield from _hook_objects(value)


def _hook_options(site: Site) -> list[str]:
    return [] if site.run_directory == DEFAULT_RUN_DIRECTORY else ["--run-directory", site.run_directory]


# --- LXC: key = value, a hook's value is a line of shell ---

_LXC_HOOK = re.compile(r"^(\s*lxc\.hook\.mount\s*=\s*)(.*)$", re.MULTILINE)


def _render_lxc(text: str, site: Site) -> str:
    line = shlex.join([site.hook, "--lxc", *_hook_options(site)])
    return _LXC_HOOK.sub(lambda found: found[1] + line, text)


def _lxc_hooks(_path: str, text: str) -> list[str]:
    commands = [shlex.split(found[2]) for found in _LXC_HOOK.finditer(text)]
    return [command[0] for command in commands if command and os.path.basename(command[0]) == HOOK_NAME]


# --- Docker: a program, which runs the hook beside it ---


def _render_unchanged(text: str, _site: Site) -> str:
    return text


def _hook_beside(path: str, _text: str) -> list[str]:
    return [os.path.join(os.path.dirname(path), HOOK_NAME)]


def docker_runtimes(site: Site) -> str:
    """What belongs into /etc/docker/daemon.json: that file has things of others in it, so only a person edits it."""
    runtime: dict[str, Any] = {"path": site.path(DOCKER_RUNTIME)}
    if _hook_options(site):
        runtime["runtimeArgs"] = [f"--procview-run-directory={site.run_directory}"]
    return json.dumps({"runtimes": {"procview": runtime}}, indent=2, ensure_ascii=False) + "\n"


DOCKER_RUNTIME = "/usr/libexec/procview/procview-runc"


def oci_hooks(site: Site) -> str:
    """What belongs into the config.json of a bundle that is started by runc or crun themselves."""
    hook = {"path": site.hook, "args": [HOOK_NAME, *_hook_options(site)], "timeout": 30}
    return json.dumps({"hooks": {"createRuntime": [hook]}}, indent=2, ensure_ascii=False) + "\n"


# --- systemd: the words of the command lines ---

_EXEC = re.compile(r"^(Exec\w+=[-+]?)/usr/bin/procview (serve|leave|withdraw)( --unless-served| %n)?$", re.MULTILINE)


_HIDDEN: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("ProtectHome=yes", "ProtectHome=read-only"): ("/home/", "/root/", "/run/user/"),
    ("PrivateTmp=yes", "PrivateTmp=no"): ("/tmp/", "/var/tmp/"),  # noqa: S108 - it is a unit that hides them
}
"""Lines by which systemd hides these folders; and what stands there where the program, its interpreter or its
configuration is in one of them."""
_RUNTIME_DIRECTORY = re.compile(r"^RuntimeDirectory=procview\nRuntimeDirectoryPreserve=yes\n", re.MULTILINE)


def _render_unit(text: str, site: Site) -> str:
    def line(found: re.Match[str]) -> str:
        words = " ".join(_unit_word(word) for word in (*site.program, found[2], *site.options))
        return f"{found[1]}{words}{found[3] or ''}"

    text = _EXEC.sub(line, text)
    if site.run_directory != DEFAULT_RUN_DIRECTORY:
        # A folder of systemd's own making has to be below /run. Any other is to be made; before it is, it is not bound.
        made = f"ExecStartPre=+/usr/bin/env mkdir -p {_unit_word(site.run_directory)}"
        bound = f"{_quoted('-' + site.run_directory)}:{_quoted(site.run_directory)}"
        text = _RUNTIME_DIRECTORY.sub(lambda _: f"{made}\nBindPaths={bound}:norbind\n", text)
    needed = [path for word in (*site.program, *site.options) for path in (word, os.path.realpath(word))]
    for (hiding, instead), folders in _HIDDEN.items():
        if any(path.startswith(folders) and path != site.run_directory for path in needed):
            text = text.replace(f"\n{hiding}\n", f"\n{instead}\n")
    return text


def _unit_word(word: str) -> str:
    """``word`` as systemd's command lines have it (systemd.service(5)): specifiers and variables are not wanted."""
    return _quoted(word.replace("$", "$$"))


def _quoted(word: str) -> str:
    """``word`` as it is in other lines, where there are no variables."""
    word = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{word}"' if re.search(r"[\s\"'\\;:]", word) else word


def _no_hooks(_path: str, _text: str) -> list[str]:
    return []


_json_file = functools.partial(EngineFile, render=_render_json, hooks=_json_hooks)
_HOOKS_D = _json_file("hooks.d/procview.json", "/usr/share/containers/oci/hooks.d/procview.json")

ENGINES: tuple[Engine, ...] = (
    Engine(
        "isulad",
        "iSulad: a hookspec.json with a prestart hook",
        (_json_file("isulad/hookspec.json", "/var/lib/isulad/hooks/hookspec.json"),),
        lambda site: (
            f"isula run --hook-spec {site.path('/var/lib/isulad/hooks/hookspec.json')} ...; or for all containers: "
            '"hook-spec" in /etc/isulad/daemon.json'
        ),
    ),
    Engine(
        "podman",
        "podman: a hook in hooks.d, for all containers of root",
        (_HOOKS_D,),
        lambda site: (
            "podman run ... as root, nothing else; rootless: podman --hooks-dir "
            f"{os.path.dirname(site.path(_HOOKS_D.path))} run ..."
        ),
    ),
    Engine(
        "crio",
        "CRI-O: the same hook in hooks.d, for all containers",
        (_HOOKS_D,),
        lambda _site: "systemctl restart crio; containers that start from then on have the views",
    ),
    Engine(
        "cdi",
        "Docker >= 25, podman, containerd, CRI-O: a CDI device procview.org/view=all",
        (_json_file("cdi/procview.json", "/etc/cdi/procview.json"),),
        lambda _site: "docker run --device procview.org/view=all ... (Docker before 28.2: first see docs/engines.md)",
    ),
    Engine(
        "lxc",
        "LXC: a mount hook in common.conf.d, for all containers that include common.conf",
        (
            EngineFile(
                "lxc/50-procview.conf",
                "/usr/share/lxc/config/common.conf.d/50-procview.conf",
                _render_lxc,
                _lxc_hooks,
            ),
        ),
        lambda _site: "lxc-start ..., nothing else; containers that start from now on have the views",
    ),
    Engine(
        "docker",
        "Docker without CDI: an OCI runtime that adds the hook and runs runc",
        (EngineFile("docker/procview-runc", DOCKER_RUNTIME, _render_unchanged, _hook_beside, 0o755),),
        lambda site: (
            "put this into /etc/docker/daemon.json, reload docker, and docker run --runtime procview ...:\n"
            + docker_runtimes(site).rstrip()
        ),
    ),
    Engine(
        "oci",
        "runc and crun without an engine: the hook program alone",
        (),
        lambda site: f"put this into the config.json of a bundle:\n{oci_hooks(site).rstrip()}",
    ),
    Engine(
        "systemd",
        "systemd: the unit procview.service of the daemon",
        (EngineFile("systemd/procview.service", "/etc/systemd/system/procview.service", _render_unit, _no_hooks),),
        lambda _site: "systemctl daemon-reload && systemctl enable --now procview",
        hook=False,
    ),
)
_BY_NAME = {engine.name: engine for engine in ENGINES}
