"""A plugin of pytest in a guest: writes every report into the shared folder, for reports.py outside to tell.

One JSON object a line, in pytest's own form for reports that cross a process boundary. Written at once, so that what is
known of a guest that dies is all that it has done.
"""

import json
import os
from pathlib import Path
from typing import Any, TextIO

import pytest

REPORTS = "reports"
"""Its name in the folder that the guest shares; where it is not, pytest has not begun."""
VARIABLE = "PROCVIEW_GUEST_REPORTS"
"""Names the file for the reports; what is in it already is not run again (the guest was booted once more)."""


def pytest_configure(config: pytest.Config) -> None:
    path = Path(os.environ[VARIABLE])
    config.pluginmanager.register(_Writer(config, path.open("a+", encoding="utf-8")), "procview-guest-reports")


class _Writer:
    def __init__(self, config: pytest.Config, file: TextIO) -> None:
        self._config = config
        self._file = file
        file.seek(0)
        text = file.read()
        whole = text[: text.rfind("\n") + 1]  # a guest that died may not have finished its last line
        file.truncate(len(whole.encode()))
        self._finished = _finished(whole)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        if self._finished:
            items[:] = [item for item in items if item.nodeid not in self._finished]
        self._write({"collected": len(items)})

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._write_report(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if not report.passed:
            self._write_report(report)

    def _write_report(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        self._write(self._config.hook.pytest_report_to_serializable(config=self._config, report=report))

    def _write(self, record: dict[str, Any]) -> None:
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()


def _finished(reports: str) -> set[str]:
    """The tests that have come to their end, by what is in the file."""
    records = [json.loads(line) for line in reports.splitlines()]
    return {record["nodeid"] for record in records if record.get("when") == "teardown"}
