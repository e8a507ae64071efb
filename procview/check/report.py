"""A report as text for people and monitoring systems, and as JSON for machines."""

import itertools
import json
from collections.abc import Sequence
from dataclasses import asdict

from procview.check.findings import Finding, Severity, worst
from procview.check.looking import Report
from procview.printable import printable

_NAME_LENGTH = 64
_SUMMARY_GROUPS = 3
_INDENT = " " * 10


def status(report: Report) -> Severity:
    """The state of the whole."""
    return worst(report.findings)


def text(report: Report) -> str:
    """A first line for monitoring systems, then a line for each finding, the worst first, with what to do below it."""
    found = sorted(report.findings, key=lambda finding: finding.severity.rank)
    bad = [finding for finding in found if finding.severity is not Severity.OK]
    lines = [_first_line(report)]
    for advice, those in itertools.groupby(bad, key=lambda finding: finding.advice):
        lines += [f"{finding.severity.name:<8}  {_titled(finding)}" for finding in those]
        lines.append(f"{_INDENT}-> {printable(advice)}")
    good = [finding for finding in found if finding.severity is Severity.OK]
    for subject, these in itertools.groupby(good, key=lambda finding: finding.subject):
        if subject == "container":
            lines += [f"{'OK':<8}  {_several(group, finding_text)}" for finding_text, group in _alike(list(these))]
        else:
            lines.append(f"{'OK':<8}  {subject}: {printable('; '.join(finding.text for finding in these))}")
    return "".join(f"{line}\n" for line in lines)


def as_json(report: Report) -> str:
    """One object; names of containers are in it as they are, escaped by JSON alone."""
    state = status(report)
    content = {
        "status": state.name,
        "exit_code": state.exit_code,
        "summary": summary(report),
        "containers": asdict(report.counts) if report.counts is not None else None,
        "findings": [asdict(finding) | {"severity": finding.severity.name} for finding in report.findings],
    }
    return json.dumps(content, indent=2) + "\n"


def summary(report: Report) -> str:
    """What matters most, in one line."""
    found = sorted(report.findings, key=lambda finding: finding.severity.rank)
    bad = _alike([finding for finding in found if finding.severity is not Severity.OK])
    parts = [_several(group, finding_text) for finding_text, group in bad[:_SUMMARY_GROUPS]]
    if len(bad) > _SUMMARY_GROUPS:
        parts.append(f"and {len(bad) - _SUMMARY_GROUPS} more")
    if parts:
        return "; ".join(parts)
    if report.counts is None or not report.counts.running:
        return "the daemon serves; no containers"
    return f"the daemon serves; {_number(report.counts.attached)} with views"


def _first_line(report: Report) -> str:
    # What stands behind a "|" is read as numbers by monitoring systems; text must not have any.
    line = f"PROCVIEW {status(report).name} - {summary(report).replace('|', '/')}"
    if report.counts is not None:
        line += " | " + " ".join(f"{name}={value}" for name, value in asdict(report.counts).items())
    return line


def _alike(findings: Sequence[Finding]) -> list[tuple[str, list[Finding]]]:
    """Findings that say the same of several containers, together."""
    groups: dict[tuple[object, ...], list[Finding]] = {}
    for finding in findings:
        key = (finding.subject, finding.severity, finding.text)
        groups.setdefault(key, []).append(finding)
    return [(group[0].text, group) for group in groups.values()]


def _several(group: list[Finding], finding_text: str) -> str:
    if len(group) == 1 or group[0].subject != "container":
        return _titled(group[0])
    return f"{_number(len(group))}: {printable(finding_text)}"


def _titled(finding: Finding) -> str:
    title = finding.subject
    if finding.subject == "container":
        title = f"container {_shortened(finding.name)} (pid {finding.pid})"
    return f"{title}: {printable(finding.text)}"


def _shortened(name: str) -> str:
    name = printable(name)
    return name if len(name) <= _NAME_LENGTH else name[:_NAME_LENGTH] + "..."


def _number(count: int) -> str:
    return "1 container" if count == 1 else f"{count} containers"
