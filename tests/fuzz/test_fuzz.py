"""Short runs of the fuzzers with a seed that stays, the seeds that are kept, and that wrong is told from right.

The long run is ``./dev fuzz --sanitize``; docs/reliability.md says what it has found.
"""

import os
import random
import select
import signal
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from procview._fast.engine import Engine
from tests.fast.kernel import GETATTR, LOOKUP, MEMINFO, OPEN, READ, READ_IN, RELEASE, RELEASE_IN, STATFS, Kernel
from tests.fuzz import __main__ as long_run
from tests.fuzz import form, kept, messages, texts
from tests.fuzz.damage import spoilt
from tests.fuzz.exchange import OPTIONS, Exchange, WrongAnswerError
from tests.fuzz.recordings import Recording, recordings, trees_folder
from tests.hosts.known import WEB

SEED = "of the tests"
OPEN_IN = struct.pack("=II", 0, 0)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with trees_folder() as folder:
        found = messages.engine_for_messages(folder)
        yield found
        found.close()


@pytest.fixture(scope="module")
def hosts() -> Iterator[dict[str, Recording]]:
    with trees_folder() as folder:
        yield recordings(folder)


@pytest.mark.parametrize("number", range(12))
def test_no_message_harms_a_lane(engine: Engine, number: int) -> None:
    messages.Batch.of(engine, f"{SEED}/{number}").run(1500)


@pytest.mark.parametrize("number", range(12))
def test_no_text_harms_a_view(hosts: dict[str, Recording], number: int) -> None:
    texts.Batch.of(hosts, f"{SEED}/{number}").run()


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("path", kept.MESSAGES, ids=lambda path: path.stem)
def test_messages_that_once_did_harm(engine: Engine, path: Path, threads: int) -> None:
    options, steps = kept.read_messages(path)
    with Exchange(engine, options | {"threads": threads}).running() as exchange:
        exchange.replay(steps)
        exchange.settle()
        exchange.check_good_request(messages.READER)
        exchange.finish()


@pytest.mark.parametrize("path", kept.TEXTS, ids=lambda path: path.stem)
def test_texts_that_once_did_harm(hosts: dict[str, Recording], path: Path) -> None:
    case = kept.read_case(path)
    recording = hosts[case.host]
    for settings in texts.SETTINGS:
        try:
            case.break_it(recording)
            texts.look_anew(case, recording, recording.views, settings)
        finally:
            recording.heal(list(case.files))
    assert recording.all_texts() == recording.whole


def test_the_same_seed_is_the_same_run(engine: Engine, hosts: dict[str, Recording]) -> None:
    runs = []
    for _ in range(2):
        batch = messages.Batch.of(engine, "one thread 3")
        batch.exchange.options = OPTIONS
        batch.run(300)
        case = texts.Case.of(batch.rng, hosts["rich-v2"])
        runs.append((batch.exchange.steps, case))
    assert runs[0] == runs[1]


def test_what_is_kept_is_read_as_it_was_written(tmp_path: Path) -> None:
    case = texts.Case("rich-v1", {"a": b"\xff\0 1\n\n", "b": None, "c/d": b"", "e": b"no newline"})
    kept.write_case(tmp_path / "it.tree", case)
    assert kept.read_case(tmp_path / "it.tree") == case
    kept.write_messages(tmp_path / "it.txt", OPTIONS | {"threads": 3}, ["ask 00", "settle"])
    assert kept.read_messages(tmp_path / "it.txt") == (OPTIONS | {"threads": 3}, ["ask 00", "settle"])


# --- that they can fail ----------------------------------------------------------------------------------------------


def exchange_of(engine: Engine, *steps: str) -> None:
    with Exchange(engine, OPTIONS).running() as exchange:
        exchange.replay([*steps, "settle"])
        exchange.finish()


def ask(opcode: int, unique: int, body: bytes = b"", node: int = MEMINFO) -> str:
    return f"ask {Kernel.request(opcode, unique, body, node=node, pid=WEB.pid).hex()}"


def test_a_wrong_text_is_noticed(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = [ask(OPEN, 2, OPEN_IN), "settle", ask(READ, 4, READ_IN.pack(1 << 24 | 255, 0, 99, 0, 0, 0, 0))]
    with Exchange(engine, OPTIONS).running() as exchange:
        exchange.replay(steps[:2])
        steps[2] = ask(READ, 4, READ_IN.pack(*exchange.open, 0, 99, 0, 0, 0, 0))
    exchange_of(engine, *steps)
    right = Exchange.text
    monkeypatch.setattr(Exchange, "text", lambda self, pid, path: right(self, pid, path).replace(b"Mem", b"mem"))
    with pytest.raises(WrongAnswerError, match="was answered"):
        exchange_of(engine, *steps)


@pytest.mark.parametrize(
    "wrong",
    [("open", 1 << 40, (1, "x")), ("_awaited", 4711, [])],
    ids=["a file that is not open", "an answer that never comes"],
)
def test_what_is_missing_is_noticed(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, wrong: tuple[str, int, object]
) -> None:
    monkeypatch.setattr("tests.fuzz.exchange._PATIENCE_SECONDS", 0.3)
    name, key, value = wrong
    with Exchange(engine, OPTIONS).running() as exchange:
        getattr(exchange, name)[key] = value
        with pytest.raises(WrongAnswerError):
            exchange.settle()


def test_a_reply_that_is_lost_or_changed_on_the_way_is_noticed(engine: Engine) -> None:
    with Exchange(engine, OPTIONS).running() as exchange:
        exchange.replay([ask(STATFS, 2), "settle"])
        assert [asked.unique for asked in exchange.pending[2]] == [2]
        exchange.kernel.pyfuse3.send(struct.pack("=IiQ", 16, 0, 2))  # past the model
        assert select.select([exchange.kernel.device], [], [], 20)[0]
        with pytest.raises(WrongAnswerError, match="nobody waits"):
            exchange.replay([ask(GETATTR, 4, bytes(16)), "settle"])


def test_a_handle_that_stays_open_is_noticed(engine: Engine) -> None:
    with Exchange(engine, OPTIONS).running() as exchange:
        exchange.replay([ask(OPEN, 2, OPEN_IN), "settle"])
        exchange.open.clear()
        with pytest.raises(WrongAnswerError, match="1 files are open in place of 0"):
            exchange.settle()


def test_a_release_of_what_is_not_open_is_handed_on(engine: Engine) -> None:
    exchange_of(engine, ask(RELEASE, 2, RELEASE_IN.pack(4711, 0, 0, 0)), ask(LOOKUP, 4, b"nothing\0"))


@pytest.mark.parametrize(
    ("view", "text"),
    [
        ("proc/meminfo", b"MemTotal:       100 kB\nMemFree:        101 kB\n"),
        ("proc/meminfo", b"MemTotal:       18446744073709551615 kB\n"),
        ("proc/meminfo", b"MemTotal:       100 kB\nMemFree\n"),
        ("proc/swaps", b"Filename Type Size Used Priority\nnone virtual 10 11 -2\n"),
        ("proc/stat", b"cpu  1 1 1 1 1 1 1 1 1 1\ncpu0 1 1 1 1 1 1 1 1 1 2\n"),
        ("proc/uptime", b"-1.00 2.00\n"),
        ("proc/uptime", b"1.0\n"),
        ("proc/loadavg", b"0.00 0.00 0.00 1/2\n"),
        ("proc/cpuinfo", b"processor\t: 1\n"),
        ("proc/diskstats", b" 254 0 sda 1\n"),
        ("proc/partitions", b"major minor  #blocks  name\n\n 254 0 sda\n"),
        ("proc/vmstat", b"nr_free_pages 18446744073709551616\n"),
        ("proc/vmstat", b"nr_free_pages 1"),
        ("sys/devices/system/cpu/online", b"0-\n"),
        ("proc/pressure/cpu", b"some\0\n"),
    ],
)
def test_a_malformed_view_is_noticed(hosts: dict[str, Recording], view: str, text: bytes) -> None:
    whole = hosts["rich-v2"].whole[view]
    form.check(view, whole, whole)
    with pytest.raises(form.MalformedError):
        form.check(view, text, whole)


def test_an_exception_that_is_not_documented_is_noticed(
    hosts: dict[str, Recording], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        def open(self, _pid: int, _path: str) -> None:
            raise ValueError("of the parser")

    case = texts.Case("rich-v2", {"proc/meminfo": b""})
    with pytest.raises(texts.WrongTextError, match="is no OSError"):
        texts.look(case, hosts["rich-v2"], {"proc/meminfo": None}, Broken())  # type: ignore[arg-type]
    monkeypatch.setitem(hosts["rich-v2"].whole, "proc/meminfo", b"another")
    batch = texts.Batch.of({"rich-v2": hosts["rich-v2"]}, SEED)
    with pytest.raises(texts.WrongTextError, match="new engine"):
        batch.run()


def test_damage_is_done(hosts: dict[str, Recording]) -> None:
    rng = random.Random(1)
    whole = hosts["rich-v2"].texts["proc/meminfo"]
    assert sum(spoilt(rng, whole) != whole for _ in range(200)) > 180


def test_the_long_run_says_what_failed_and_how_to_do_it_again(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folders = []

    @contextmanager
    def noted() -> Iterator[Path]:
        with trees_folder() as folder:
            folders.append(folder)
            yield folder

    monkeypatch.setattr(long_run, "trees_folder", noted)
    words = ["--seed", "5", "--messages", "3000", "--texts", "0", "--found", str(tmp_path)]
    assert long_run.main(words) == 0
    assert "all is well (seed 5)" in capfd.readouterr().out
    monkeypatch.setattr(Exchange, "text", lambda *_: b"wrong")
    monkeypatch.setattr(kept, "_MOST_TRIES", 20)
    assert long_run.main(words) == 1
    assert "--seed 5 --only messages:0" in capfd.readouterr().out
    assert len(list(tmp_path.iterdir())) == 1
    monkeypatch.setattr(messages.Batch, "run", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    assert long_run.main([*words, "--only", "messages:3"]) == 1
    assert "batch 3 failed (signal 9)" in capfd.readouterr().out
    assert len(folders) == 3
    assert not any(folder.exists() for folder in folders), "who crashes leaves nothing"
