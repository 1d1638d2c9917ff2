"""Write one page per package into docs/api before a build: its modules, and their public classes and functions.

The pages are not committed. A module is public unless its name begins with an underscore.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the tests of the functions need no Sphinx
    from sphinx.application import Sphinx

DOCS = Path(__file__).parents[1]
SOURCE = DOCS.parent / "src" / "expunge"
# modules that stand alone beside the packages; `__main__` has no names
ALONE = ("errors", "extensions")


def packages() -> list[str]:
    """Return the names of the packages inside `expunge`."""
    return sorted(p.parent.name for p in SOURCE.glob("*/__init__.py") if not p.parent.name.startswith("_"))


def modules(package: str) -> list[str]:
    """Return the dotted names of a package's public modules, also those of packages inside it, sorted."""
    files = (SOURCE / package).rglob("*.py")
    names = [file.relative_to(SOURCE).with_suffix("").parts for file in files]
    return sorted(
        "expunge." + ".".join(parts) for parts in names if not any(p.startswith("_") for p in parts)
    )


def first_line(file: Path) -> str:
    """Return the first line of a file's docstring."""
    return (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").partition("\n")[0]


def _module(name: str) -> list[str]:
    return [name, "-" * len(name), "", f".. automodule:: {name}", "   :members:", ""]


def package_page(package: str) -> str:
    """Return the page of a package as reStructuredText."""
    title = f"expunge.{package}"
    lines = [title, "=" * len(title), "", first_line(SOURCE / package / "__init__.py"), ""]
    return "\n".join([*lines, *(line for name in modules(package) for line in _module(name))])


def pages() -> dict[str, str]:
    """Return {file name: text} of all pages."""
    names = [*packages(), *ALONE]
    title = "API by module"
    index = [
        title, "=" * len(title), "",
        "Everything that ``import expunge`` exports is on :doc:`/python`, with examples. These pages list each module.",
        "A name in them may change between versions if :doc:`/python` does not show it.", "",
        ".. toctree::", "   :maxdepth: 1", "", *(f"   {name}" for name in names), "",
    ]  # fmt: skip
    alone = {
        name: "\n".join(
            ["expunge." + name, "=" * 40, "", f".. automodule:: expunge.{name}", "   :members:", ""]
        )
        for name in ALONE
    }
    return {
        "index.rst": "\n".join(index),
        **{f"{k}.rst": package_page(k) for k in packages()},
        **{f"{k}.rst": t for k, t in alone.items()},
    }


def _write(app: Sphinx) -> None:
    folder = DOCS / "api"
    folder.mkdir(exist_ok=True)
    written = pages()
    for file in folder.glob("*.rst"):
        if file.name not in written:
            file.unlink()
    for name, text in written.items():
        file = folder / name
        # an unchanged file keeps its time, so that the next build does not read it again
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            file.write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("builder-inited", _write)
    return {"parallel_read_safe": True}
