"""``python -m tests.manual``: writes docs/man and packaging/completions; pages of commands that are no more go."""

import sys
from pathlib import Path

from procview.cli import main
from tests.manual import completions, pages


def write() -> None:
    """All of them; says what has changed."""
    _write(pages.FOLDER, pages.every_page(main))
    _write(completions.FOLDER, completions.every_file(main))
    for path in sorted(set(pages.FOLDER.glob("*.1")) - {pages.FOLDER / name for name in pages.every_page(main)}):
        path.unlink()
        _say(f"removed {path}")


def _write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            _say(f"wrote {path}")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    write()
