"""Make the generated pages of docs/: `python tools/docs_pages.py`; `--check` only compares, and ends with 1 if a page differs.

They come from the code (methods, command line, file formats) and from the committed results (decision table).
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "src")]

import docs_choose  # noqa: E402
import docs_commands  # noqa: E402
import docs_formats  # noqa: E402
import docs_methods  # noqa: E402

from expunge.cli import methods_page  # noqa: E402

DOCS = ROOT / "docs"


def pages() -> dict[str, str]:
    """Return {path inside docs: text} of every generated page."""
    return {
        "methods.md": methods_page.page(),
        "choose.md": docs_choose.page(),
        "command_line.md": docs_commands.page(),
        "formats.md": docs_formats.page(),
        **docs_methods.pages(),
    }


def outdated(docs: Path = DOCS) -> list[str]:
    """Return the pages that differ from what the code says, and pages of methods that are gone."""
    made = pages()
    differing = [
        p
        for p, text in made.items()
        if not (docs / p).is_file() or (docs / p).read_text(encoding="utf-8") != text
    ]
    return differing + [
        f"methods/{f.name}"
        for f in sorted((docs / "methods").glob("*.md"))
        if f"methods/{f.name}" not in made
    ]


def main(arguments: list[str] | None = None) -> int:
    """Write the pages, or compare them."""
    wrong = outdated()
    if "--check" in (sys.argv[1:] if arguments is None else arguments):
        print(
            "\n".join(f"docs/{p} is out of date; run python tools/docs_pages.py" for p in wrong)
            or "all generated pages are current"
        )
        return 1 if wrong else 0
    made = pages()
    for path in wrong:
        file = DOCS / path
        if path not in made:
            file.unlink()
            continue
        file.parent.mkdir(exist_ok=True)
        file.write_text(made[path], encoding="utf-8")
    print(f"wrote {len(wrong)} of {len(made)} pages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
