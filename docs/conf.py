"""How this folder becomes a site (./dev docs): Sphinx, with MyST for Markdown.

The pages are plain Markdown that a forge shows as well. So the site's navigation is made of the lists in index.md: each
heading there is a part of it, each link below the heading a page.
"""

import re

from sphinx.application import Sphinx

project = "procview"
html_title = project
html_theme = "furo"
extensions = ["myst_parser"]
exclude_patterns = ["man"]
html_copy_source = False
html_show_copyright = False
# Links to a heading are checked, as links to a page are; all of them are warnings, which ./dev docs takes for errors.
myst_heading_anchors = 4
nitpicky = True

_LINK = re.compile(r"^- \[[^]]+\]\(([\w/-]+)\.md\)", re.MULTILINE)


def navigation(index: str) -> str:
    """The table of contents, as MyST has it, for the lists of the index page."""
    parts = []
    for part in re.split(r"^## ", index, flags=re.MULTILINE)[1:]:
        pages = _LINK.findall(part)
        if pages:
            caption = part.splitlines()[0]
            parts.append("\n".join(["```{toctree}", ":hidden:", f":caption: {caption}", "", *pages, "```", ""]))
    return "\n".join(parts)


def _add_navigation(_app: Sphinx, name: str, source: list[str]) -> None:
    if name == "index":
        source[0] += f"\n{navigation(source[0])}"


def setup(app: Sphinx) -> None:
    app.connect("source-read", _add_navigation)
