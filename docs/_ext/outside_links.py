"""Links from a page to files outside docs/ (examples, sources, results) become names of files: the site does not hold them.

A link to CONTRIBUTING.md leads to the page that includes it.
"""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the tests of the functions need no Sphinx
    from sphinx.application import Sphinx

LINK = re.compile(r"\[(?P<text>[^\]\n]*(?:\n[^\]\n]*)?)\]\((?P<path>\.\./[^)#\s]+)(?P<anchor>#[^)]*)?\)")
# file in the root -> page of the site
PAGES = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}


def site_text(text: str, page: str) -> str:
    """Return a page's text with links that lead out of docs/ replaced.

    Args:
        text: The Markdown.
        page: Name of the page inside docs/, without its ending.
    """

    def replaced(link: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), link["path"]))
        if path.startswith("docs/"):
            return link[0]
        if path in PAGES:
            up = "../" * page.count("/")
            return f"[{link['text']}]({up}{PAGES[path]}{link['anchor'] or ''})"
        shown = link["text"].strip("`")
        return f"`{path}`" if shown in (path, posixpath.basename(path)) else f"{link['text']} (`{path}`)"

    return LINK.sub(replaced, text)


def _read(app: Sphinx, page: str, source: list[str]) -> None:
    source[0] = site_text(source[0], page)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("source-read", _read)
    return {"parallel_read_safe": True}
