"""What ``procview top`` makes of made-up answers: numbers, order, columns, pages; test_top_terminal.py has more."""

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from procview.amounts import bytes_text, count_text, percent_text, span_text
from procview.cli.top import _SORTS
from procview.screen.controls import SORT_KEYS, Controls, Page, Sort
from procview.screen.live import Latest
from procview.screen.page import State, lines
from procview.screen.polls import Poll, host_now
from procview.screen.rows import Row, rows, summary
from procview.screen.terminal import Keys
from tests.cli.facts import MIB, answers, fact, made_poll, served
from tests.cli.terminal import without_size

_STYLE = re.compile(r"\x1b\[[0-9;]*m")


def drawn(
    now: Poll, before: Poll | None = None, controls: Controls | None = None, *, width: int = 80, height: int = 24,
    failure: str | None = None,
) -> list[str]:  # fmt: skip
    """The screen without its styles."""
    state = State(now, before, failure, now.wall_seconds + 5)
    shown = lines(state, controls or Controls(), (width, height))
    return [_STYLE.sub("", line).rstrip() for line in shown]


def line_of(shown: Sequence[str], name: str) -> str:
    return next(line for line in shown if line[2:].startswith(name))


def cells(shown: Sequence[str], name: str) -> dict[str, str]:
    """The row of a container by the titles of its columns, of which each ends where its title does."""
    header = next(line for line in shown if line.startswith("  NAME"))
    row, found, begin = line_of(shown, name), {}, 0
    for match in re.finditer(r"\S+", header):
        found[match[0]] = row[begin : match.end()].strip() if match[0] != "NAME" else ""
        begin = match.end()
    return found


def names(arranged: Sequence[Row]) -> list[str]:
    return [row.name for row in arranged]


class TestNumbers:
    def test_rates_are_of_the_time_between_two_polls(self) -> None:
        before = made_poll(fact())
        now = made_poll(
            fact(cpu_usage_usec=1_500_000, reads=140, cpu_periods=120, cpu_throttled_periods=15), at=102.0,
            reads=1100, cpu_seconds=1.1,
        )  # fmt: skip
        (row,) = rows(now, before)
        assert row.cpu_used == pytest.approx(0.25)
        assert row.cpu_share == pytest.approx(0.5)
        assert row.reads_per_second == pytest.approx(20)
        assert row.throttled_share == pytest.approx(0.25)
        assert row.memory_used_bytes == 128 * MIB
        assert row.memory_share == pytest.approx(0.25)
        daemon = summary(now, before)
        assert daemon.reads_per_second == pytest.approx(50)
        assert daemon.cpu_share == pytest.approx(0.05)

    def test_without_a_poll_before_rates_are_not_known_and_not_zero(self) -> None:
        (row,) = rows(made_poll(fact()), None)
        assert (row.cpu_used, row.reads_per_second, row.throttled_share) == (None, None, None)
        assert summary(made_poll(fact()), None).reads_per_second is None

    def test_another_container_with_the_same_name_is_another_one(self) -> None:
        (row,) = rows(made_poll(fact(number=2), at=102.0), made_poll(fact(number=1)))
        assert row.cpu_used is None

    def test_counters_that_went_back_make_no_rate(self) -> None:
        """Another daemon, or one that has forgotten the container."""
        (row,) = rows(made_poll(fact(reads=3), at=102.0), made_poll(fact(reads=100)))
        assert row.reads_per_second is None
        assert summary(made_poll(reads=1, at=102.0), made_poll(reads=5)).reads_per_second is None

    def test_an_answer_that_others_were_given_a_moment_ago_leaves_the_rates_as_they_are(self) -> None:
        first, second = made_poll(fact()), made_poll(fact(reads=140), at=102.0)
        latest = Latest(first).followed_by(second)
        again = latest.followed_by(made_poll(fact(reads=140), at=102.0))
        (row,) = rows(again.now, again.before)
        assert row.reads_per_second == pytest.approx(20)
        assert latest.followed_by(made_poll(fact(reads=140), at=104.0)).before is second

    def test_without_a_quota_the_limit_is_the_cpus_that_it_sees(self) -> None:
        now = made_poll(fact(cpu_quota=None, cpus=4, cpu_usage_usec=3_000_000), at=102.0)
        (row,) = rows(now, made_poll(fact(cpu_quota=None, cpus=4)))
        assert row.cpu_share == pytest.approx(0.25)
        assert row.throttled_share is None

    def test_one_that_did_not_run_was_not_throttled(self) -> None:
        (row,) = rows(made_poll(fact(), at=102.0), made_poll(fact()))
        assert row.throttled_share == 0

    @pytest.mark.parametrize(
        ("counts", "bound"), [((100, 0, 0), 10), ((99, 1, 0), 10), ((98, 2, 0), 50), ((90, 0, 10), float("inf")),
                              ((0, 0, 0), None), ((-1, 5, 0), None)],
    )  # fmt: skip
    def test_the_99th_percentile_is_of_the_texts_since_the_poll_before(
        self, counts: tuple[int, int, int], bound: float | None
    ) -> None:
        then = made_poll()
        now = made_poll(
            renders=[
                bucket | {"count": bucket["count"] + more}
                for bucket, more in zip(then.status["renders"], counts, strict=True)
            ]
        )
        assert summary(now, then).slow_usec == bound

    def test_what_a_daemon_does_not_say_is_not_known(self) -> None:
        (row,) = rows(made_poll({"id": "bare", "init_pid": 5}), None)
        assert (row.cpu_limit, row.memory_share, row.load, row.pressure, row.up_seconds) == (None,) * 5
        assert "bare" in "\n".join(drawn(made_poll({"id": "bare", "init_pid": 5})))

    def test_the_hosts_own_numbers(self) -> None:
        host = host_now()
        assert host.cpus
        assert host.memory_total_bytes
        assert len(host.pressure_percent) == 3
        assert host_now(proc="/nonexistent").pressure_percent == (None, None, None)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (bytes_text(None), "-"), (bytes_text(0), "0"), (bytes_text(1023), "1023"), (bytes_text(1024), "1.0K"),
        (bytes_text(512 << 20), "512M"), (bytes_text(9.96 * (1 << 30)), "10G"), (bytes_text(1023.6 * 1024), "1.0M"),
        (bytes_text(1 << 50), "1P"), (bytes_text(1 << 70), "1048576P"),
        (percent_text(None), "-"), (percent_text(0), "0"), (percent_text(0.004), "0.4"), (percent_text(0.0996), "10"),
        (percent_text(2.5), "250"),
        (count_text(None), "-"), (count_text(0), "0"), (count_text(3.45), "3.5"), (count_text(9999.4), "9999"),
        (count_text(9999.6), "10k"), (count_text(123_456), "123k"), (count_text(7_800_000), "7.8M"),
        (count_text(5e9), "5G"),
        (span_text(None), "-"), (span_text(-1), "0.0 s"), (span_text(9.96), "10.0 s"), (span_text(59.9), "59 s"),
        (span_text(185), "3 min 5 s"), (span_text(7200), "2 h 0 min"), (span_text(90_000), "1 d 1 h"),
    ],
)  # fmt: skip
def test_amounts_for_people(text: str, shown: str) -> None:
    assert text == shown


class TestTable:
    def test_a_row_in_80_columns_has_every_number_below_its_title(self) -> None:
        now = made_poll(fact(cpu_usage_usec=1_500_000, reads=140), at=102.0)
        shown = drawn(now, made_poll(fact()))
        assert cells(shown, "web") == {
            "NAME": "", "CPU%": "50", "CPUS": "0.50", "THR%": "0", "MEM%": "25", "USED": "128M", "LIMIT": "512M",
            "SWAP": "1.0M", "PCPU": "1.5", "PMEM": "0", "PIO": "-", "LOAD": "0.25", "RD/S": "20",
        }  # fmt: skip
        assert shown[0].startswith("procview 1.2.3  up 1 min 42 s  pid 77  lane  30M  CPU 0%  /run/procview/fs")
        assert shown[1] == "reads 1000, 0/s, 99% of texts made within -"
        assert shown[2] == "containers 1: 1 attached; by cpu"

    @pytest.mark.parametrize("width", [1, 5, 12, 14, 20, 40, 60, 79, 80, 81, 132, 300])
    @pytest.mark.parametrize("page", Page)
    def test_no_line_is_wider_than_the_terminal_nor_are_there_more(self, width: int, page: Page) -> None:
        facts = [fact("x" * 64 if number % 2 else "短い名前" * 9, number, cpu_usage_usec=10**15, reads=10**15,
                      memory_total_bytes=1 << 60, load_averages=[12345.678] * 3) for number in range(40)]  # fmt: skip
        controls = Controls(page=page, selected=4026530003)
        for height in (1, 2, 6, 7, 24):
            shown = drawn(made_poll(*facts, at=102.0), made_poll(*[fact(number=n) for n in range(40)]), controls,
                          width=width, height=height)  # fmt: skip
            assert len(shown) <= height
            assert max(map(cell_len, shown)) <= width

    def test_a_narrow_terminal_has_fewer_columns_and_keeps_the_most_important(self) -> None:
        def header(width: int) -> str:
            return next(line for line in drawn(made_poll(fact()), width=width) if line.startswith("  NAME"))

        assert header(40).split() == ["NAME", "CPU%", "MEM%", "USED", "LIMIT"]
        assert header(24).split() == ["NAME", "CPU%"]
        assert header(14).split() == ["NAME"]

    def test_degraded_ones_come_first_in_any_order_with_the_reason_below(self) -> None:
        facts = fact("a"), fact("b", 2, state="none"), fact("z", 3, state="degraded", why="views without slots: x")
        for sort in Sort:
            for is_reversed in (False, True):
                controls = Controls(sort=sort, is_reversed=is_reversed)
                assert names(controls.arranged(rows(made_poll(*facts), None)))[0] == "z"
        shown = drawn(made_poll(*facts))
        assert line_of(shown, "z").startswith("! z")
        assert line_of(shown, "b").startswith("- b")
        assert shown[-2] == "z: views without slots: x"
        assert shown[2] == "containers 3: 1 attached, 1 degraded, 1 without views; by cpu"

    @pytest.mark.parametrize(
        ("sort", "changes"),
        [
            (Sort.CPU, {"cpu_usage_usec": 1_900_000}), (Sort.MEMORY, {"memory_available_bytes": 0}),
            (Sort.SWAP, {"swap_free_bytes": 0}), (Sort.THROTTLING, {"cpu_periods": 110, "cpu_throttled_periods": 20}),
            (Sort.PRESSURE, {"pressure_some_avg10_percent": {"cpu": 0, "memory": 9, "io": 0}}),
            (Sort.LOAD, {"load_averages": [7, 0, 0]}), (Sort.READS, {"reads": 10_000}),
        ],
    )  # fmt: skip
    def test_each_order_has_the_largest_first_and_the_unknown_last(self, sort: Sort, changes: dict[str, Any]) -> None:
        unknown: dict[str, Any] = dict.fromkeys(changes)
        then = made_poll(fact("a"), fact("b", 2), fact("c", 3))
        now = made_poll(fact("a", **unknown), fact("b", 2), fact("c", 3, **changes), at=102.0)
        found = rows(now, then)
        assert names(Controls(sort=sort).arranged(found)) == ["c", "b", "a"]
        assert names(Controls(sort=sort, is_reversed=True).arranged(found)) == ["b", "c", "a"]

    def test_by_name(self) -> None:
        found = rows(made_poll(fact("b"), fact("C", 2), fact("a", 3)), None)
        assert names(Controls(sort=Sort.NAME).arranged(found)) == ["a", "b", "C"]
        assert names(Controls(sort=Sort.NAME, is_reversed=True).arranged(found)) == ["C", "b", "a"]

    @pytest.mark.parametrize("wanted", ["WEB", "1002", "/kube", "nginx", "degr"])
    def test_the_filter_looks_at_every_name_of_a_container(self, wanted: str) -> None:
        other = fact("web", 2, command="nginx", cgroup="/kubepods/x", state="degraded")
        found = rows(made_poll(fact("db"), other), None)
        assert names(Controls(filter=wanted).arranged(found)) == ["web"]

    @pytest.mark.parametrize(
        "name",
        [
            "[bold red]x[/]",
            "[/]",
            "\x1b[2J\x1b]0;title\x07",
            "a\nb\tc\rd",
            "\u202eevil",
            "\ud800",
            ":smile:",
            "[link=x]",
        ],
    )
    def test_hostile_names_are_shown_as_they_are_without_what_controls_a_terminal(self, name: str) -> None:
        now = made_poll(fact(name, command=name, cgroup=name, state=name, why=name), version=name, mount=name)
        for controls in (Controls(), Controls(page=Page.DETAIL, selected=4026530001), Controls(filter=name)):
            state = State(now, None, name, 0.0)
            shown = lines(state, controls, (132, 40))
            plain = "".join(_STYLE.sub("", line) for line in shown)
            assert plain.isprintable()
            as_shown = "".join(
                c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in name
            )
            assert as_shown in plain

    def test_a_failure_is_told_and_the_numbers_stay(self) -> None:
        shown = drawn(made_poll(fact()), failure="cannot connect", width=100)
        assert shown[-2] == "numbers of 5.0 s ago, asking again: cannot connect"
        assert line_of(shown, "web")

    def test_another_daemon_is_told(self) -> None:
        assert drawn(made_poll(pid=78), made_poll(pid=77))[-2] == "another daemon has followed: pid 78"

    def test_one_container_beside_its_host(self) -> None:
        controls = Controls(page=Page.DETAIL, selected=4026530001)
        shown = drawn(made_poll(fact(why="some reason"), at=102.0), made_poll(fact()), controls)
        lines_of = {line[:18].strip(): line[18:].split("  ", 1) for line in shown}
        assert next(line for line in shown if line.startswith("memory  ")).split() == ["memory", "512M", "16G"]
        assert next(line for line in shown if line.startswith("CPUs in use")).split("  ")[-1].strip() == "2.00 (25%)"
        assert "state     attached: some reason" in shown
        assert lines_of
        ended = drawn(made_poll(), None, controls)
        assert "this container has ended" in ended


class TestKeys:
    def test_keys_change_order_filter_and_page(self) -> None:
        controls, found = Controls(sort=Sort.NAME), rows(made_poll(fact("a"), fact("b", 2), fact("c", 3)), None)
        for key, sort in SORT_KEYS.items():
            controls.press(key, found)
            assert (controls.sort, controls.is_reversed) == (sort, False)
        controls.press("n", found)
        assert controls.is_reversed
        controls.press("n", found)
        assert not controls.is_reversed
        for key in "/bx":
            controls.press(key, found)
        assert controls.arranged(found) == []
        controls.press("backspace", found)
        assert names(controls.arranged(found)) == ["b"]
        controls.press("enter", found)
        assert (controls.filter, controls.typed) == ("b", None)
        controls.press("/", found)
        controls.press("q", found)
        controls.press("escape", found)
        assert controls.filter == "b"
        assert not controls.has_ended
        controls.press("escape", found)
        assert controls.filter == ""
        controls.press("h", found)
        assert controls.page is Page.HELP
        controls.press("escape", found)
        assert controls.page is Page.TABLE
        controls.press("q", found)
        assert controls.has_ended

    def test_the_selection_stays_with_its_container(self) -> None:
        controls, found = Controls(sort=Sort.NAME), rows(made_poll(fact("a"), fact("b", 2), fact("c", 3)), None)
        controls.press("down", found)
        assert controls.place(controls.arranged(found)) == 1
        controls.press("n", found)
        assert controls.arranged(found)[controls.place(controls.arranged(found))].name == "b"
        controls.press("end", found)
        controls.press("down", found)
        assert controls.place(controls.arranged(found)) == 2
        controls.press("page-up", found)
        assert controls.place(controls.arranged(found)) == 0
        controls.press("enter", found)
        assert (controls.page, controls.selected) == (Page.DETAIL, 4026530003)
        controls.press("enter", [])
        controls.press("enter", [])
        assert controls.page is Page.TABLE

    def test_a_long_list_shows_the_selected_one(self) -> None:
        everyone = made_poll(*[fact(f"c{number:03}", number) for number in range(200)])
        controls = Controls(sort=Sort.NAME)
        for number in (0, 1, 50, 198, 199):
            controls.selected = 4026530000 + number
            assert line_of(drawn(everyone, controls=controls), f"c{number:03}")
            assert sum(line.startswith("  c") for line in drawn(everyone, controls=controls)) == 24 - 3 - 1 - 2

    def test_what_a_terminal_sends(self) -> None:
        keys = Keys()
        assert keys.feed(b"q\r\x7f\x1b[A\x1bOB\x1b[6~\x1b[1;5C/\xc3") == [
            "q", "enter", "backspace", "up", "down", "page-down", "unknown", "/"]  # fmt: skip
        assert keys.feed(b"\xa4\xff\x1b") == ["ä", "\ufffd"]
        assert keys.is_in_sequence
        assert keys.nothing_more() == ["escape"]
        assert keys.feed(b"\x1b[") == []
        assert keys.feed(b"B\x1bx") == ["down", "escape", "x"]
        assert not keys.is_in_sequence


class TestCommand:
    def test_the_words_of_the_option_are_the_orders(self) -> None:
        assert [sort.value for sort in Sort] == _SORTS
        assert len(SORT_KEYS) == len(Sort)

    def test_without_a_terminal_names_are_whole(self, tmp_path: Path) -> None:
        with served(tmp_path / "control.sock", answers(fact("y" * 64), fact("web", 2))):
            words = [sys.executable, "-m", "procview", "top", "--run-directory", str(tmp_path), "--seconds", "1"]
            words += ["--sort", "name"]
            done = subprocess.run(words, capture_output=True, text=True, check=True, env=without_size())
        shown = done.stdout.splitlines()
        assert [line[2:].split()[0] for line in shown[3:]] == ["NAME", "web", "y" * 64]

    def test_a_character_set_without_the_names_characters_is_no_error(self, tmp_path: Path) -> None:
        with served(tmp_path / "control.sock", answers(fact("短い"))):
            words = [sys.executable, "-m", "procview", "top", "--run-directory", str(tmp_path), "--seconds", "1"]
            done = subprocess.run(
                words, capture_output=True, check=True, env=without_size() | {"PYTHONIOENCODING": "ascii"}
            )
        assert b"  ?? " in done.stdout

    @pytest.mark.parametrize(
        "command", [["--help"], ["version"], ["render", "uptime"], ["top", "--help"], ["attach", "-h"]]
    )
    def test_other_commands_do_not_load_rich(self, command: list[str]) -> None:
        words = [sys.executable, "-X", "importtime", "-m", "procview", *command]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        assert "procview.cli" in done.stderr
        assert not re.search(r"\| +(rich|http\.client|procview\.screen)\b", done.stderr)
