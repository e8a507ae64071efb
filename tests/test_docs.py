"""What the documentation refers to is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_test_that_a_page_names_exists(page: Path) -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", page.read_text(encoding="utf-8"))
    assert named or page.name != "operations.md"
    for file, test in named:
        assert (ROOT / file).is_file(), f"{page.name}: {file}"
        if test:
            assert f"def {test}(" in (ROOT / file).read_text(encoding="utf-8"), f"{page.name}: {file}::{test}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_between_pages_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_row_of_the_table_of_failures_has_its_test() -> None:
    text = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("|")][2:]
    assert len(rows) > 15
    assert all("`tests/" in row.rsplit("|", 2)[1] for row in rows)
