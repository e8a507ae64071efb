"""The files under packaging/: valid for their engines as they are, and rendered for other places."""

import copy
import json
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from procview import engines, mount_namespace
from procview.engines import ENGINES, HOOK, Engine, EngineFile, Site, docker_runtimes, oci_hooks
from procview.settings import DEFAULT_RUN_DIRECTORY
from procview.shipped import packaging_file
from tests.packaging import schemas
from tests.packaging.builds import files_for_engines
from tests.session import temporary_directory

ELSEWHERE = Site(
    prefix="/opt/a b",
    run_directory="/run/other place",
    program=("/opt/a b/bin/python3", "-m", "procview"),
    options=("--config", "/etc/50%$HOME.toml"),
)
FILES = [(engine, file) for engine in ENGINES for file in engine.files]
SCHEMA_OF = {
    "isulad/hookspec.json": "isulad-hookspec.json",
    "hooks.d/procview.json": "hooks.d-1.0.0.json",
    "cdi/procview.json": "cdi-0.6.0.json",
    "oci/hooks.json": "oci-hooks.json",
    "docker/daemon.json": "docker-runtimes.json",
}


def template(name: str) -> str:
    return Path(packaging_file(name)).read_text(encoding="utf-8")


def content(name: str) -> Any:
    return json.loads(template(name))


each_file = pytest.mark.parametrize(("engine", "file"), FILES, ids=[f"{e.name}-{f.template}" for e, f in FILES])
each_json = pytest.mark.parametrize(("name", "schema"), SCHEMA_OF.items(), ids=list(SCHEMA_OF))


@pytest.mark.parametrize("file", [file for _, file in FILES], ids=[f"{e.name}-{f.template}" for e, f in FILES])
def test_a_shipped_file_is_what_is_installed_by_default(file: EngineFile) -> None:
    assert file.render(template(file.template), Site()) == template(file.template)


def test_the_snippets_are_what_install_prints_by_default() -> None:
    assert template("docker/daemon.json") == docker_runtimes(Site())
    assert template("oci/hooks.json") == oci_hooks(Site())


@each_json
def test_a_shipped_file_is_as_its_engine_wants_it(name: str, schema: str) -> None:
    assert schemas.faults(content(name), schema) == []


@pytest.mark.parametrize("site", [ELSEWHERE, Site("/opt"), Site(run_directory="/x")], ids=["both", "prefix", "run"])
def test_a_file_for_another_place_is_as_its_engine_wants_it(site: Site) -> None:
    for _, file in FILES:
        if file.template in SCHEMA_OF:
            rendered = json.loads(file.render(template(file.template), site))
            assert schemas.faults(rendered, SCHEMA_OF[file.template]) == []
    assert schemas.faults(json.loads(docker_runtimes(site)), "docker-runtimes.json") == []
    assert schemas.faults(json.loads(oci_hooks(site)), "oci-hooks.json") == []


OTHER_UNITS = ("systemd/lxcfs.service", "systemd/procview-metrics.service")


def test_every_schema_has_a_file_and_every_file_a_schema() -> None:
    assert set(SCHEMA_OF.values()) == set(schemas.NAMES)
    shipped = {file.template for _, file in FILES} | {"oci/hooks.json", "docker/daemon.json", "procview.toml"}
    by_hand = {*OTHER_UNITS, "prometheus/procview.rules.yml", "grafana/procview.json"}
    assert set(files_for_engines()) == shipped | by_hand


Change = Callable[[Any], object]
BROKEN: list[tuple[str, str, Change]] = [
    ("hooks.d/procview.json", "an old version", lambda c: c.update(version="0.1.0")),
    ("hooks.d/procview.json", "no stages", lambda c: c.update(stages=[])),
    ("hooks.d/procview.json", "a stage that is none", lambda c: c.update(stages=["preStart"])),
    ("hooks.d/procview.json", "no condition", lambda c: c["when"].clear()),
    ("hooks.d/procview.json", "a relative path", lambda c: c["hook"].update(path="procview-hook")),
    ("hooks.d/procview.json", "a misspelt key", lambda c: c["hook"].update(arguments=[])),
    ("cdi/procview.json", "a kind without a class", lambda c: c.update(kind="procview.org")),
    ("cdi/procview.json", "no device", lambda c: c.update(devices=[])),
    ("cdi/procview.json", "no name", lambda c: c["devices"][0].pop("name")),
    ("cdi/procview.json", "a device that edits nothing", lambda c: c["devices"][0].update(containerEdits={})),
    ("cdi/procview.json", "no hook name", lambda c: c["devices"][0]["containerEdits"]["hooks"][0].pop("hookName")),
    ("isulad/hookspec.json", "a stage iSulad does not run", lambda c: c.update(createRuntime=[])),
    ("isulad/hookspec.json", "a timeout of nothing", lambda c: c["prestart"][0].update(timeout=0)),
    ("isulad/hookspec.json", "an odd environment", lambda c: c["prestart"][0].update(env=["PATH"])),
    ("oci/hooks.json", "a hook that is no list", lambda c: c["hooks"].update(createRuntime={})),
    ("docker/daemon.json", "a runtime without a path", lambda c: c["runtimes"]["procview"].clear()),
]


@pytest.mark.parametrize(("name", "what", "change"), BROKEN, ids=[f"{name}-{what}" for name, what, _ in BROKEN])
def test_the_schemas_see_mistakes(name: str, what: str, change: Change) -> None:
    broken = copy.deepcopy(content(name))
    change(broken)
    assert schemas.faults(broken, SCHEMA_OF[name]) != [], what


# --- rendering ---


def hooks_of(value: Any) -> list[Any]:
    """Every object with a path, in order."""
    if isinstance(value, dict):
        return [value] if "path" in value else [hook for part in value.values() for hook in hooks_of(part)]
    return [hook for part in value for hook in hooks_of(part)] if isinstance(value, list) else []


@pytest.mark.parametrize("name", ["isulad/hookspec.json", "hooks.d/procview.json", "cdi/procview.json"])
def test_rendering_changes_the_hook_and_nothing_else(name: str) -> None:
    file = next(file for _, file in FILES if file.template == name)
    expected = content(name)
    (hook,) = hooks_of(expected)
    hook |= {"path": "/opt/a b" + HOOK, "args": ["procview-hook", "--run-directory", "/run/other place"]}
    assert json.loads(file.render(template(name), ELSEWHERE)) == expected


@each_file
def test_the_hook_that_a_file_names_is_found_in_it(engine: Engine, file: EngineFile) -> None:
    where = ELSEWHERE.path(file.path)
    rendered = file.render(template(file.template), ELSEWHERE)
    assert file.hooks(where, rendered) == ([ELSEWHERE.hook] if engine.hook else [])


def test_the_hook_is_found_among_others_in_a_file_that_somebody_extended() -> None:
    (file,) = engines.find("isulad").files
    other = {"path": "/usr/bin/other-hook", "args": ["other-hook"]}
    ours = {"path": "/somewhere/procview-hook"}
    assert file.hooks("f", json.dumps({"prestart": [other, ours], "poststop": [other]})) == ["/somewhere/procview-hook"]


@pytest.mark.parametrize("text", ["", "{", '{"prestart": [{]}', "\ufeff{}"])
def test_a_broken_file_is_an_error_and_not_one_without_a_hook(text: str) -> None:
    (file,) = engines.find("cdi").files
    with pytest.raises(ValueError):
        file.hooks("f", text)


def test_the_lxc_hook_is_a_command_that_a_shell_takes_apart_again() -> None:
    (file,) = engines.find("lxc").files
    rendered = file.render(template(file.template), ELSEWHERE)
    (line,) = [line for line in rendered.splitlines() if not line.startswith("#")]
    key, _, command = line.partition(" = ")
    assert key == "lxc.hook.mount"
    assert shlex.split(command) == ["/opt/a b" + HOOK, "--lxc", "--run-directory", "/run/other place"]


def test_docker_gets_the_run_directory_as_an_argument_of_the_runtime() -> None:
    runtime = json.loads(docker_runtimes(ELSEWHERE))["runtimes"]["procview"]
    assert runtime == {
        "path": "/opt/a b/usr/libexec/procview/procview-runc",
        "runtimeArgs": ["--procview-run-directory=/run/other place"],
    }


@pytest.mark.parametrize("prefix", ["/", "/opt", "/opt/"])
def test_a_prefix_may_end_as_it_likes(prefix: str) -> None:
    assert Site(prefix).hook == prefix.rstrip("/") + "/usr/libexec/procview/procview-hook"


def test_no_engine_is_there_twice_and_each_says_what_to_do_next() -> None:
    assert len({engine.name for engine in ENGINES}) == len(ENGINES)
    for engine in ENGINES:
        assert engine.next_step(Site()).strip(), engine.name
        assert engines.find(engine.name) is engine


# --- the unit ---

UNIT = "systemd/procview.service"


def unit_lines(text: str) -> list[tuple[str, str]]:
    lines = [line.partition("=") for line in text.splitlines() if line and line[0] not in "#["]
    return [(key, value) for key, _, value in lines]


def test_the_unit_goes_to_the_hosts_mounts_and_leaves_the_slots_to_running_containers() -> None:
    lines = unit_lines(template(UNIT))
    assert ("Environment", f"{mount_namespace.VARIABLE}=/proc/1/ns/mnt") in lines
    assert ("RuntimeDirectory", DEFAULT_RUN_DIRECTORY.removeprefix("/run/")) in lines
    assert ("RuntimeDirectoryPreserve", "yes") in lines


def test_a_unit_for_another_run_directory_makes_that_and_may_write_there() -> None:
    (file,) = engines.find("systemd").files
    lines = unit_lines(file.render(template(UNIT), Site(run_directory="/srv/a b")))
    assert not [value for key, value in lines if key.startswith("RuntimeDirectory")]
    assert ("ExecStartPre", '+/usr/bin/env mkdir -p "/srv/a b"') in lines
    assert ("BindPaths", '"-/srv/a b":"/srv/a b":norbind') in lines


@pytest.mark.parametrize(
    ("program", "options", "homes", "tmp"),
    [
        ("/usr/bin/python3", (), "yes", "yes"),
        ("/root/venv/bin/python", (), "read-only", "yes"),
        ("/usr/bin/python3", ("--config", "/home/me/procview.toml"), "read-only", "yes"),
        ("/tmp/venv/bin/python", (), "yes", "no"),
        ("/usr/bin/python3", ("--run-directory", "/var/tmp/run"), "yes", "yes"),
    ],
)
def test_a_unit_does_not_hide_what_its_own_program_needs(
    program: str, options: tuple[str, ...], homes: str, tmp: str
) -> None:
    (file,) = engines.find("systemd").files
    site = Site(run_directory="/var/tmp/run", program=(program, "-m", "procview"), options=options)
    lines = unit_lines(file.render(template(UNIT), site))
    assert ("ProtectHome", homes) in lines
    assert ("PrivateTmp", tmp) in lines


def test_a_unit_does_not_hide_the_interpreter_behind_a_link(tmp_path: Path) -> None:
    (tmp_path / "python").symlink_to("/root/.python/bin/python3")
    (file,) = engines.find("systemd").files
    lines = unit_lines(file.render(template(UNIT), Site(program=(str(tmp_path / "python"), "-m", "procview"))))
    assert ("ProtectHome", "read-only") in lines


def test_the_unit_says_what_the_daemon_needs() -> None:
    unit = dict(unit_lines(template(UNIT)))
    assert unit["Type"] == "notify"
    assert unit["ExecStart"] == "/usr/bin/procview serve"
    assert unit["ExecStop"] == "-/usr/bin/procview leave %n"
    assert unit["ExecStopPost"] == "/usr/bin/procview withdraw --unless-served"
    assert int(unit["FileDescriptorStoreMax"]) >= 4
    assert unit["Restart"] == "always"
    assert unit["KillMode"] == "process"
    assert "CAP_SYS_ADMIN" in unit["CapabilityBoundingSet"].split()


def test_the_unit_runs_the_program_that_installed_it_and_guards_special_characters() -> None:
    (file,) = engines.find("systemd").files
    unit = dict(unit_lines(file.render(template(UNIT), ELSEWHERE)))
    start = '"/opt/a b/bin/python3" -m procview {} --config /etc/50%%$$HOME.toml'
    assert unit["ExecStart"] == start.format("serve")
    assert unit["ExecStop"] == "-" + start.format("leave") + " %n"
    assert unit["ExecStopPost"] == start.format("withdraw") + " --unless-served"
    assert unit["ExecReload"] == "/bin/kill -HUP $MAINPID"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze here")
@pytest.mark.parametrize("unit", OTHER_UNITS)
def test_systemd_has_nothing_to_say_against_the_other_units(unit: str) -> None:
    text = template(unit)
    with temporary_directory() as directory:
        path = directory / Path(unit).name
        path.write_text(text.replace("/usr/bin/procview", "/bin/sh"), encoding="utf-8")
        argv = ["systemd-analyze", "verify", "--man=no", str(path)]
        result = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze here")
def test_systemd_has_nothing_to_say_against_the_unit() -> None:
    (file,) = engines.find("systemd").files
    # A program that is there: systemd looks for it.
    text = file.render(template(UNIT), Site(program=("/bin/sh", "/usr/bin/procview")))
    with temporary_directory() as directory:
        path = directory / "procview.service"
        path.write_text(text, encoding="utf-8")
        argv = ["systemd-analyze", "verify", "--man=no", str(path)]
        result = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
        misspelt = directory / "misspelt.service"
        misspelt.write_text(text.replace("RestartSec=", "RestartSecs="), encoding="utf-8")
        argv[-1] = str(misspelt)
        told = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert "RestartSecs" in told.stderr  # it does look
