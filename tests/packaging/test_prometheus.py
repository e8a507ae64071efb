"""What Prometheus and Grafana are given: valid, and only about numbers that the daemon has."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from procview._fast.engine import Engine
from procview.control.census import Census
from procview.control.metrics import Metrics
from procview.history import FIELDS
from tests.programs import required

ROOT = Path(__file__).parent.parent.parent
RULES = ROOT / "packaging/prometheus/procview.rules.yml"
BOARD = ROOT / "packaging/grafana/procview.json"

_OTHERS = {"up"}
"""Prometheus' own."""


class _Nothing:
    def counters(self) -> dict[str, dict[str, int]]:
        return {"fs": {"open": 0, "text_bytes": 0, "failed": 0}, "lane": {"answered": 0}, "control": {"open": 0}}

    def life(self) -> dict[str, float]:
        return {"took_over": 0.0, "published_seconds": 0.0, **dict.fromkeys(FIELDS, 0)}


@pytest.fixture(scope="module")
def names() -> set[str]:
    """Of all samples that a scrape brings."""
    engine = Engine()
    try:
        text = Metrics(engine, Census(engine, None, "/proc"), _Nothing(), "1").text().decode()
    finally:
        engine.close()
    families = {words[2] for line in text.splitlines() if (words := line.split())[:2] == ["#", "TYPE"]}
    samples = {line.partition("{")[0].split()[0] for line in text.splitlines() if not line.startswith("#")}
    return families | samples


def _asked(expression: str) -> Iterator[str]:
    yield from re.findall(r"(?<![\w$\"])[a-z_]+(?=\{|\[| ==| >)", expression)


def test_the_rules_are_valid_and_fire_when_they_should(tmp_path: Path) -> None:
    promtool = required("promtool", "prometheus")
    subprocess.run([promtool, "check", "rules", str(RULES)], check=True, capture_output=True, timeout=60)
    case = {
        "rule_files": [str(RULES)],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [
                    {"series": 'up{job="procview",instance="a"}', "values": "1 0x10"},
                    {"series": 'procview_containers{state="degraded",instance="a"}', "values": "0x5 2x10"},
                    {"series": 'procview_published_seconds{instance="b"}', "values": "60+60x20"},
                ],
                "alert_rule_test": [
                    {"eval_time": "1m", "alertname": "ProcviewDown", "exp_alerts": []},
                    {"eval_time": "12m", "alertname": "ProcviewNotPublished", "exp_alerts": []},
                    {
                        "eval_time": "5m",
                        "alertname": "ProcviewDown",
                        "exp_alerts": [
                            {
                                "exp_labels": {"severity": "critical", "job": "procview", "instance": "a"},
                                "exp_annotations": {
                                    "summary": "procview on a does not answer",
                                    "description": "Containers read the host's values. On the host: procview check, "
                                    "journalctl -u procview.",
                                },
                            }
                        ],
                    },
                    {
                        "eval_time": "12m",
                        "alertname": "ProcviewContainersDegraded",
                        "exp_alerts": [
                            {
                                "exp_labels": {"severity": "warning", "state": "degraded", "instance": "a"},
                                "exp_annotations": {
                                    "summary": "2 containers on a have views that are not as they must be",
                                    "description": "On the host: procview status names them and why, procview check "
                                    "says what to do.",
                                },
                            }
                        ],
                    },
                ],
            }
        ],
    }
    cases = tmp_path / "cases.yml"
    cases.write_text(json.dumps(case))  # which is YAML as well
    tested = subprocess.run(
        [promtool, "test", "rules", str(cases)], capture_output=True, text=True, timeout=60, check=False
    )
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_the_rules_ask_for_numbers_that_there_are(names: set[str]) -> None:
    asked = {name for line in RULES.read_text().splitlines() if " > " in line or " == " in line
             for name in _asked(line)}  # fmt: skip
    assert len(asked) >= 6
    assert asked <= names | _OTHERS


def test_the_board_asks_for_numbers_that_there_are(names: set[str]) -> None:
    board = json.loads(BOARD.read_text())
    asked = {name for panel in board["panels"] for target in panel["targets"] for name in _asked(target["expr"])}
    assert len(asked) >= 8
    assert asked <= names
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
