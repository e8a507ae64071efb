"""Results from a guest as results of the run outside: each test in a guest counts, is shown and fails as any other."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

GUEST = "procview_guest"
"""The attribute of such a report with the name of its guest; pytest carries what it does not know along."""


class Reader:
    """Tells pytest what inside.py writes, while it is written."""

    def __init__(self, path: Path, guest: str, session: pytest.Session) -> None:
        self._path = path
        self._guest = guest
        self._session = session
        self._position = 0
        self._begun: set[str] = set()
        self.failed = 0
        """How many reports of failures there were."""

    def tell(self) -> None:
        """Pass on what is new in the file."""
        capture = self._session.config.pluginmanager.getplugin("capturemanager")
        records = list(self._new())
        if records:
            # pytest's own reporter is to print now, in the middle of a test whose output is taken.
            with capture.global_and_fixture_disabled():
                self._tell(records)

    def _tell(self, records: list[dict[str, Any]]) -> None:
        hook = self._session.config.hook
        for record in records:
            if "collected" in record:
                # The session has counted the one test that the whole guest is.
                self._session.testscollected += int(record["collected"])
                continue
            report = hook.pytest_report_from_serializable(config=self._session.config, data=record)
            self._name(report)
            self.failed += report.failed
            if isinstance(report, pytest.CollectReport):
                hook.pytest_collectreport(report=report)
                continue
            if report.nodeid not in self._begun:
                self._begun.add(report.nodeid)
                hook.pytest_runtest_logstart(nodeid=report.nodeid, location=report.location)
            hook.pytest_runtest_logreport(report=report)
            if report.when == "teardown":
                hook.pytest_runtest_logfinish(nodeid=report.nodeid, location=report.location)

    def _new(self) -> Iterator[dict[str, Any]]:
        """The records of the whole lines that were added."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._position)
                added = file.read()
        except FileNotFoundError:
            return
        whole = added[: added.rfind(b"\n") + 1]
        self._position += len(whole)
        yield from map(json.loads, whole.splitlines())

    def _name(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        """Say in the report where this was, wherever pytest shows it."""
        setattr(report, GUEST, self._guest)
        report.nodeid = f"{self._guest}/{report.nodeid}"
        if isinstance(report, pytest.TestReport):
            path, line, name = report.location
            report.location = (path, line, f"{name} [guest {self._guest}]")
        if report.skipped and isinstance(report.longrepr, list):  # a tuple, until it became JSON
            place, line, reason = report.longrepr
            report.longrepr = (place, line, f"[guest {self._guest}] {reason.removeprefix('Skipped: ')}")
