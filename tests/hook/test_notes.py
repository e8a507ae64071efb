"""What the hook notes of a container, for the daemon to look at: image and annotations, of whom and where."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from procview.notes import MOST_BYTES, Note, Notes
from procview.slots.skeleton import Skeleton
from tests.daemon.process import Place, eventually
from tests.hook.conftest import Prepare
from tests.hook.prepared import HookProcess, Prepared, assert_attached, state_of
from tests.timing import patient

CRIO, CONTAINERD = "io.kubernetes.cri-o.ImageName", "io.kubernetes.cri.image-name"


@pytest.fixture
def notes(skeleton: Skeleton) -> Notes:
    made = Notes(skeleton.base)
    made.make()
    return made


def identity(container: Prepared) -> tuple[int, int]:
    """Its pid namespace, and when its init started."""
    fields = Path(f"/proc/{container.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return os.stat(f"/proc/{container.pid}/ns/pid").st_ino, int(fields[19])


def test_image_and_our_annotations_are_noted(
    prepare: Prepare, hook: HookProcess, notes: Notes, skeleton: Skeleton
) -> None:
    container = prepare()
    hook.run(
        state_of(
            container,
            annotations={
                CONTAINERD: "docker.io/library/nginx:1",
                "org.procview.cpus": "cpuset",
                "org.procview.odd one": "\n",
                "org.procview.number": 3,
                "org.example": "x",
            },
        )
    )
    assert hook.says() == []
    assert_attached(container, skeleton)
    namespace, start = identity(container)
    noted = {"cpus": "cpuset", "odd one": "\n"}
    assert notes.of(namespace, start) == Note(container.pid, start, "docker.io/library/nginx:1", noted)
    assert notes.of(namespace, start + 1) is None
    (path,) = Path(notes.folder).iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    notes.sweep()
    assert path.exists()
    container.end()
    notes.sweep()
    assert not path.exists()


def test_what_the_state_does_not_say_the_configuration_may(prepare: Prepare, hook: HookProcess, notes: Notes) -> None:
    container = prepare()
    state = state_of(container, annotations={"org.procview.swap": "false"})
    path = container.bundle / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["annotations"] = {CRIO: "quay.io/a", "org.procview.swap": "true", "org.procview.cpus": "quota"}
    path.write_text(json.dumps(config), encoding="utf-8")
    hook.run(state)
    note = notes.of(*identity(container))
    assert note is not None
    assert (note.image, note.annotations) == ("quay.io/a", {"swap": "false", "cpus": "quota"})


@pytest.mark.parametrize("annotations", [None, {}, [], "x", {"org.example": "x"}, {CRIO: ""}, {CRIO: 7}])
def test_nothing_is_noted_where_there_is_nothing(
    annotations: object, prepare: Prepare, hook: HookProcess, notes: Notes, skeleton: Skeleton
) -> None:
    container = prepare()
    hook.run(state_of(container, annotations=annotations))
    assert hook.says() == []
    assert_attached(container, skeleton)
    assert list(Path(notes.folder).iterdir()) == []


def test_too_much_is_not_noted_and_the_log_says_so(
    prepare: Prepare, hook: HookProcess, notes: Notes, skeleton: Skeleton
) -> None:
    container = prepare()
    hook.run(state_of(container, annotations={"org.procview.cpus": "x" * MOST_BYTES}))
    assert hook.says() == [
        f"container c1: its image and annotations do not count: they are more than {MOST_BYTES} bytes"
    ]
    assert_attached(container, skeleton)
    assert list(Path(notes.folder).iterdir()) == []


def test_where_no_daemon_reads_notes_none_is_written(prepare: Prepare, hook: HookProcess, skeleton: Skeleton) -> None:
    container = prepare()
    hook.run(state_of(container, annotations={"org.procview.cpus": "cpuset"}))
    assert hook.says() == []
    assert_attached(container, skeleton)
    assert not Path(skeleton.base, "containers").exists()


def test_a_full_disk_is_no_trouble(prepare: Prepare, hook: HookProcess, notes: Notes, skeleton: Skeleton) -> None:
    container = prepare()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4096,mode=700", "full", notes.folder]
    subprocess.run(mount, check=True, timeout=patient(20))
    try:
        Path(notes.folder, "filler").write_bytes(b"x" * 4096)
        hook.run(state_of(container, annotations={"org.procview.cpus": "cpuset"}))
        assert hook.says() == ["container c1: its image and annotations do not count: No space left on device"]
        assert_attached(container, skeleton)
        assert [path.name for path in Path(notes.folder).iterdir()] == ["filler"]
    finally:
        subprocess.run(["umount", notes.folder], check=True, timeout=patient(20))


def test_who_joins_the_processes_of_another_container_leaves_its_note_alone(
    prepare: Prepare, hook: HookProcess, notes: Notes
) -> None:
    pause = prepare()
    hook.run(state_of(pause, annotations={"org.procview.cpus": "cpuset"}))
    joining = subprocess.Popen(pause.inside("sleep", "1000"), stdin=subprocess.DEVNULL)
    try:
        children = Path(f"/proc/{joining.pid}/task/{joining.pid}/children")
        while not (inner := children.read_text(encoding="ascii").split()):
            assert joining.poll() is None
        state = state_of(pause, id="c2", pid=int(inner[0]), annotations={"org.procview.cpus": "quota"})
        hook.run(state)
    finally:
        for pid in (*map(int, inner), joining.pid):
            os.kill(pid, 9)
        joining.wait(patient(20))
    note = notes.of(*identity(pause))
    assert note is not None
    assert note.annotations == {"cpus": "cpuset"}
    assert len(list(Path(notes.folder).iterdir())) == 1


def test_from_inside_nothing_is_noted(prepare: Prepare, hook: HookProcess, notes: Notes) -> None:
    container = prepare()
    state = state_of(container, pid=1, annotations={"org.procview.cpus": "cpuset"})
    hook.run(state, prefix=container.inside(), cwd=container.rootfs)
    assert list(Path(notes.folder).iterdir()) == []


def test_the_daemon_makes_the_folder_sweeps_it_and_takes_it_away(place: Place) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    daemon = place.start()
    folder = place.run_directory / "containers"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    daemon.stop()
    stale = folder / "1.json"
    text = json.dumps({"pid": gone.pid, "start_ticks": 1, "image": "x", "annotations": {}})
    stale.write_text(text, encoding="utf-8")
    daemon = place.start()
    eventually(lambda: not stale.exists(), "the sweep")
    stale.write_text(text, encoding="utf-8")
    daemon.stop()
    assert stale.exists(), "notes outlive a daemon"
    remove = ["withdraw", "--remove", "--run-directory", str(place.run_directory), "--config", str(place.config)]
    subprocess.run(
        [sys.executable, "-m", "procview", *remove], check=True, stdout=subprocess.DEVNULL, timeout=patient(30)
    )
    assert not place.run_directory.exists()
