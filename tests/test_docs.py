"""What the documentation refers to is there, and it becomes a site that can be read without a network."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
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
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name}: {target}"


def build(source: Path, site: Path) -> subprocess.CompletedProcess[str]:
    """As ./dev docs does it."""
    argv = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--keep-going", "--fresh-env", "--quiet"]
    argv += ["--doctree-dir", str(site.parent / "doctrees"), str(source), str(site)]
    return subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    site = tmp_path_factory.mktemp("docs") / "site"
    built = build(ROOT / "docs", site)
    assert built.returncode == 0, built.stdout + built.stderr
    yield site
    shutil.rmtree(site.parent)


def test_the_documentation_becomes_a_site_without_a_warning(site: Path) -> None:
    pages = {page.stem for page in (ROOT / "docs").glob("*.md")}
    assert {page.stem for page in site.glob("*.html")} >= pages
    start = (site / "index.html").read_text(encoding="utf-8")
    navigation = re.findall(r'class="toctree-l1.*?href="([\w-]+)\.html"', start)
    assert set(navigation) == pages - {"index"}


def test_the_site_takes_nothing_from_a_network_when_it_is_read(site: Path) -> None:
    """Links that a reader may follow are none of it: those are `<a href>`."""
    taken = re.compile(
        r"<(?!a\b)[^>]*\b(?:src|href|srcset)=\"(?:https?:)?//|url\([\"']?(?:https?:)?//|@import", re.ASCII
    )
    files = [file for kind in ("html", "css") for file in site.rglob(f"*.{kind}")]
    assert len(files) > 15
    for file in files:
        assert not taken.search(file.read_text(encoding="utf-8")), file


def test_a_broken_link_or_anchor_or_a_page_that_no_list_names_fails(tmp_path: Path) -> None:
    source = tmp_path / "docs"
    source.mkdir()
    shutil.copy(ROOT / "docs/conf.py", source)
    (source / "index.md").write_text("# Index\n\n## Part\n\n- [Page](page.md): one\n", encoding="utf-8")
    (source / "page.md").write_text("# Page\n\n[a](index.md#part) [b](index.md#gone) [c](gone.md)\n", encoding="utf-8")
    (source / "lost.md").write_text("# Lost\n\n[to itself](#nowhere)\n", encoding="utf-8")
    built = build(source, tmp_path / "site")
    said = built.stdout + built.stderr
    assert built.returncode != 0, said
    complaints = [line for line in said.splitlines() if "WARNING" in line]
    assert len(complaints) == 4, said
    wanted = [("page.md:3", "'gone'"), ("page.md:3", "gone.md"), ("lost.md", "toctree"), ("lost.md:3", "nowhere")]
    for page, word in wanted:
        assert any(page in line and word in line for line in complaints), (page, word, said)


def test_every_row_of_the_table_of_failures_has_its_test() -> None:
    text = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    section = text.partition("## What happens when something fails\n")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")][2:]
    assert len(rows) > 15
    assert all("`tests/" in row.rsplit("|", 2)[1] for row in rows)
