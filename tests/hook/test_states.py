"""What engines say of a container on standard input, as recorded from them, and where the hook is when they do."""

import json
from typing import Any

import pytest

from procview.mounts import MS_BIND, MS_REMOUNT, mount
from procview.slots.skeleton import Skeleton
from tests.hook.conftest import Prepare
from tests.hook.prepared import (
    BOUND,
    HARDENED,
    NAMES,
    PROCFS,
    SYSFS,
    HookProcess,
    Prepared,
    assert_attached,
    host_table,
    in_namespace_of_init,
    state_of,
    write_config,
)

RECORDED: dict[str, str] = {
    "runc 1.1, prestart": '{"ociVersion":"1.0.2-dev","id":"c1","status":"creating","pid":PID,"bundle":"BUNDLE"}',
    "crun 1.8, prestart": (
        '{"ociVersion":"1.0","id":"c1","pid":PID,"root":"ROOTFS","bundle":"BUNDLE","status":"created"}'
    ),
    "crun, root as in config.json": (
        '{"ociVersion":"1.0","id":"c1","pid":PID,"root":"rootfs","bundle":"BUNDLE","status":"created"}'
    ),
    "podman 4.3 over runc": (
        '{"ociVersion":"1.0.2-dev","id":"d0c93e41a8a968f4","status":"creating","pid":PID,"bundle":"BUNDLE",'
        '"annotations":{"io.container.manager":"libpod","io.kubernetes.cri-o.TTY":"false"}}'
    ),
    "openEuler's lxc": '{"ociVersion":"","id":"c1","pid":PID,"root":"ROOTFS","bundle":"BUNDLE"}',
    "openEuler's lxc, older": '{"ociVersion":"","id":"c1","pid":PID,"root":"ROOTFS","bundlePath":"BUNDLE"}',
    "runc before 1.0": '{"version":"0.6.0-dev","id":"c1","pid":PID,"bundlePath":"BUNDLE","more":[1,{"x":null}]}',
    "no name, and spaces": ' \n {"pid" : PID,\n "bundle" : "BUNDLE" }\n\n',
}
INSIDE: dict[str, tuple[str, str]] = {
    "runc 1.1, createContainer": (
        '{"ociVersion":"1.0.2-dev","id":"c1","status":"creating","pid":1,"bundle":"BUNDLE"}', "rootfs"),
    "crun 1.8, createContainer": (
        '{"ociVersion":"1.0","id":"c1","pid":0,"root":"ROOTFS","bundle":"BUNDLE","status":"created"}', "."),
    "runc, and the bundle is out of reach": ('{"id":"c1","pid":1,"bundle":"/no/such/folder"}', "rootfs"),
    "crun, and the bundle is out of reach": (
        '{"id":"c1","pid":0,"root":"rootfs","bundle":"/no/such/folder"}', "."),
    "the host's own pid, without a pid namespace": ('{"id":"c1","pid":PID,"bundle":"BUNDLE"}', "rootfs"),
}  # fmt: skip


def filled(text: str, container: Prepared) -> bytes:
    for word, value in {"PID": container.pid, "BUNDLE": container.bundle, "ROOTFS": container.rootfs}.items():
        text = text.replace(word, str(value))
    return text.encode()


@pytest.mark.parametrize("text", RECORDED.values(), ids=RECORDED.keys())
def test_the_slots_are_bound_before_the_root_changes(
    text: str, prepare: Prepare, hook: HookProcess, skeleton: Skeleton
) -> None:
    container = prepare()
    write_config(container)
    before = host_table()
    hook.run(filled(text, container))
    assert hook.says() == []
    assert_attached(container, skeleton)
    assert all(options >= HARDENED for name in NAMES for options in container.options(name))
    assert host_table() == before


@pytest.mark.parametrize("name", INSIDE.keys())
def test_the_slots_are_bound_from_inside_the_container(
    name: str, prepare: Prepare, hook: HookProcess, skeleton: Skeleton
) -> None:
    container = prepare()
    write_config(container)
    text, directory = INSIDE[name]
    before = host_table()
    change = f'cd "{container.bundle / directory}" && exec "$@"'
    hook.run(filled(text, container), prefix=container.inside("sh", "-c", change, "sh"))
    assert hook.says() == []
    assert_attached(container, skeleton)
    assert host_table() == before


def test_the_hook_of_lxc_takes_the_root_from_the_environment(
    prepare: Prepare, hook: HookProcess, skeleton: Skeleton
) -> None:
    container = prepare()
    prefix = container.inside("env", f"LXC_ROOTFS_MOUNT={container.rootfs}")
    hook.run(b"", "--lxc", "c1", "lxc", "mount", prefix=prefix)
    assert hook.says() == []
    assert_attached(container, skeleton)


def test_the_hook_of_lxc_says_when_it_is_not_called_by_lxc(prepare: Prepare, hook: HookProcess) -> None:
    container = prepare()
    hook.run(b"", "--lxc", "c1", "lxc", "mount", prefix=container.inside("env", "-u", "LXC_ROOTFS_MOUNT"))
    (line,) = hook.says()
    assert line.startswith("container c1: ")


def test_a_container_in_a_mapped_user_namespace_is_attached_from_inside_and_from_outside(
    prepare: Prepare, hook: HookProcess, skeleton: Skeleton
) -> None:
    outer, inner = prepare(users=True), prepare(users=True)
    hook.run(state_of(outer))
    change = f'cd "{inner.rootfs}" && exec "$@"'
    hook.run(state_of(inner, pid=1), prefix=inner.inside("sh", "-c", change, "sh"))
    assert hook.says() == []
    for container in (outer, inner):
        assert_attached(container, skeleton)


def test_a_container_without_sys_gets_the_files_of_proc_and_that_is_no_failure(
    prepare: Prepare, hook: HookProcess, skeleton: Skeleton
) -> None:
    container = prepare(BOUND, PROCFS)
    hook.run(state_of(container))
    assert hook.says() == []
    assert [len(container.at(name)) for name in NAMES] == [1, 1, 1, 1, 0]
    assert skeleton.names() == NAMES


def test_a_read_only_root_file_system_makes_no_difference(
    prepare: Prepare, hook: HookProcess, skeleton: Skeleton
) -> None:
    container = prepare(BOUND, PROCFS, SYSFS, "mount -o remount,bind,ro $ROOT")
    hook.run(state_of(container))
    assert hook.says() == []
    assert_attached(container, skeleton)


def test_paths_that_mount_tables_write_otherwise_are_understood(prepare: Prepare, skeleton: Skeleton) -> None:
    plain = prepare()
    odd = plain.bundle / "with space, \\ and\ttab" / "ümlaut"
    odd.mkdir(parents=True)
    container = Prepared(odd)
    run_directory = Skeleton(str(odd / "run dir"))
    run_directory.make(NAMES)
    try:
        hook = HookProcess(odd, odd / "run dir")
        hook.run(state_of(container))
        assert hook.says() == []
        assert_attached(container, run_directory)
    finally:
        container.end()
        run_directory.remove()
    assert skeleton.names() == NAMES


def test_a_second_run_changes_nothing(prepare: Prepare, hook: HookProcess) -> None:
    container = prepare()
    hook.run(state_of(container))
    before = container.below_root()
    hook.run(state_of(container))
    assert hook.says() == []
    assert container.below_root() == before


def without(state: dict[str, Any], *keys: str) -> bytes:
    return json.dumps({key: value for key, value in state.items() if key not in keys}).encode()


REFUSED: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "is not JSON"),
    "cut": (b'{"ociVersion":"1.0.2","id":"c1","pid":12', "is not JSON"),
    "a number": (b"17", "is not a JSON object"),
    "bytes": (bytes(range(256)), "is not JSON"),
    "too deep": (b"[" * 100_000, "is not JSON"),
    "too large": (b'{"id":"' + b"x" * (10 << 20), "is larger than 1048576 bytes"),
    "no pid": (b'{"id":"c1"}', "has no pid"),
    "a pid that is text": (b'{"id":"c1","pid":"12"}', "has no pid"),
    "a pid that is true": (b'{"id":"c1","pid":true}', "has no pid"),
    "a pid of 5000 digits": (b'{"id":"c1","pid":1' + b"0" * 5000 + b"}", "is not JSON"),
    "a pid that cannot be": (b'{"id":"c1","pid":99999999999999999999999}', "is gone"),
    "a negative pid": (b'{"id":"c1","pid":-1}', "this is not a container"),
    "a stopped container": (b'{"id":"c1","pid":0,"status":"stopped","bundle":"/"}', "this is not a container"),
    "the host's init": (b'{"id":"c1","pid":1,"bundle":"/"}', "this is not a container"),
    "a bundle that is a number": (b'{"id":"c1","pid":4,"bundle":4}', "has a bundle that is not text"),
    "a root that is a list": (b'{"id":"c1","pid":4,"root":["/"]}', "has a root that is not text"),
}


@pytest.mark.parametrize("name", REFUSED.keys())
def test_what_is_no_state_of_a_container_is_one_line_in_the_log(name: str, hook: HookProcess) -> None:
    state, said = REFUSED[name]
    if said == "this is not a container" and not in_namespace_of_init():
        pytest.skip("the tests run in a mount namespace that is not init's")
    before = host_table()
    hook.run(state)
    (line,) = hook.says()
    assert said in line
    assert len(line) < 400
    assert host_table() == before


def test_a_process_that_has_ended_is_one_line_in_the_log(prepare: Prepare, hook: HookProcess) -> None:
    container = prepare()
    state = state_of(container)
    container.end()
    hook.run(state)
    assert hook.says() == [f"container c1: its process {container.pid} is gone"]


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (None, "neither the state on standard input nor config.json says"),
        ("{}", "neither the state on standard input nor config.json says"),
        ('{"root":{"path":7}}', "neither the state on standard input nor config.json says"),
        ('{"root":{"path":"rootfs"', "config.json is not JSON"),
        ('{"root":{"path":"/no/such/root"}}', "/no/such/root: No such file or directory"),
        ('{"root":{"path":"rootfs\\u0000x"}}', "null"),
        ('{"root":{"path":"\\ud800"}}', "surrogates"),
    ],
)
def test_a_bundle_without_a_usable_configuration_is_one_line_in_the_log(
    config: str | None, said: str, prepare: Prepare, hook: HookProcess
) -> None:
    container = prepare()
    state = state_of(container)
    (container.bundle / "config.json").unlink()
    if config is not None:
        (container.bundle / "config.json").write_text(config, encoding="utf-8")
    before = container.below_root()
    hook.run(state)
    (line,) = hook.says()
    assert said in line
    assert container.below_root() == before


def test_the_container_is_named_in_the_log_whatever_its_name_is(prepare: Prepare, hook: HookProcess) -> None:
    container = prepare(BOUND)
    hook.run(state_of(container, id="c1\nMar 1 00:00:00 sshd: accepted \x1b[2J\ud800" + "x" * 5000))
    (line,) = hook.says()
    assert line.startswith("container c1?Mar 1 00:00:00 sshd: accepted ?[2J?x")
    assert len(line) == 1000


def test_a_slot_is_hardened_even_where_the_hosts_is_not(
    prepare: Prepare, hook: HookProcess, skeleton: Skeleton
) -> None:
    container = prepare()
    for tree in skeleton.trees():
        mount("none", skeleton.src(tree), None, MS_BIND | MS_REMOUNT)
    hook.run(state_of(container))
    assert hook.says() == []
    assert all(options >= HARDENED for name in NAMES for options in container.options(name))
