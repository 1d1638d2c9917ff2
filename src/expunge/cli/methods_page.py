"""Write docs/methods.md, the index of methods: `python -m expunge.cli.methods_page [FILE]`; `--check` only compares.

`tools/docs_pages.py` writes it too, with the page of each method and the other generated pages.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from ..records.atomic_files import write_text
from ..training.method import GradientMethod, Method
from ..training.registry import find, names, served_tasks
from .field_help import field_help
from .method_commands import first_line

PAGE = Path("docs/methods.md")
HEADER = """# Methods

This page lists every unlearning method: what it does, and what it works on. Each name leads to the page of the method, with its
formula, its settings, its cost, and what was measured. [Which method for my case](choose.md) compares the measurements.

```
expunge unlearn salun --data digits --model cnn --checkpoint original.safetensors --forget-class 3 --out unlearned.safetensors
```

- *Models* are the tasks that a method works on.
- *Forget sets* are the ways of drawing the forget set that a method accepts.
- *Needs* are the sets of samples that a method gets.
- *Mask* tells whether a mask (`--density`, `--mask`) can restrict the method. Methods with gradient steps accept one, except
  exact methods: they start from fresh weights, so there is nothing to protect. Methods that edit weights accept none.

A method that you give by its name alone [chooses its settings](settings.md). `expunge unlearn METHOD --help` lists the flags of a
method. `python tools/docs_pages.py` makes this page and the pages of the methods from the files in `src/expunge/methods/` and
`benchmarks/results/`; a test checks that they are current.

"""


def row(name: str) -> str:
    """Return the row of a method in the table."""
    method = find(name)
    cells = [
        f"[{name}](methods/{name}.md)",
        first_line(method).removesuffix("."),
        models(method),
        forget_sets(method),
        needed_samples(method),
        takes_mask(method),
    ]
    return "| " + " | ".join(cells) + " |"


def facts(method: type[Method]) -> str:
    """Return the table's facts about a method as one line, for a terminal."""
    return (
        f"{models(method)}; forget sets: {forget_sets(method)}; needs: {needed_samples(method)}; "
        f"mask: {takes_mask(method)}"
    )


def models(method: type[Method]) -> str:
    """Return the built-in tasks that a method serves."""
    return ", ".join(served_tasks(method)) or "a task of your own"


def forget_sets(method: type[Method]) -> str:
    """Return the ways of drawing a forget set that a method serves."""
    return ", ".join(method.scenarios) or "all"


def needed_samples(method: type[Method]) -> str:
    """Return the sets of samples that a method is given."""
    return ", ".join(method.data) or "nothing"


def takes_mask(method: type[Method]) -> str:
    """Return "yes" if a mask works with the method, else "no"."""
    return "yes" if issubclass(method, GradientMethod) and not method.exact else "no"


def settings_table(name: str) -> str:
    """Return the table of a method's settings: default, the values that tuning tries, and meaning."""
    method = find(name)
    defaults = method()
    rows = [
        f"| `{f.name}` | `{getattr(defaults, f.name)!r}` | {tried_values(method, f.name)} | {_cell(field_help(method, f.name))} |"
        for f in fields(method)
    ]
    return "\n".join(["| setting | default | tuning tries | meaning |", "| --- | --- | --- | --- |", *rows])


def _cell(text: str) -> str:
    """Escape text for a cell of a Markdown table."""
    return text.replace("|", "\\|")


def tried_values(method: type[Method], field: str) -> str:
    """Return the values that tuning may give a field, as text."""
    return ", ".join(f"{v:g}" if isinstance(v, float) else str(v) for v in method.search.get(field, ()))


def page() -> str:
    """Return the whole page."""
    table = [
        "| method | what it does | models | forget sets | needs | mask |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    pages = ["```{toctree}", ":hidden:", "", *(f"methods/{name}" for name in names()), "```"]
    return "\n".join([HEADER + table[0], *table[1:], *map(row, names()), "", *pages, ""])


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page. With `--check`, only say whether it is current: exit code 1 if it is not."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    target = Path(next((word for word in words if not word.startswith("-")), PAGE))
    if "--check" in words:
        current = target.is_file() and target.read_text(encoding="utf-8") == page()
        state = "current" if current else "out of date; run python -m expunge.cli.methods_page"
        print(f"{target} is {state}")
        return 0 if current else 1
    write_text(target, page())
    print(f"wrote {target}: {len(names())} methods")
    return 0


if __name__ == "__main__":
    sys.exit(main())
