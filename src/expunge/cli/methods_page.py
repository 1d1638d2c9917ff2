"""`python -m expunge.cli.methods_page [FILE]`: docs/methods.md, made of the method files; `--check` only compares."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from ..records.atomic_files import write_text
from ..training.method import GradientMethod, Method
from ..training.registry import find, names
from .field_help import field_help

PAGE = Path("docs/methods.md")
HEAD = """# Methods

Made by `python -m expunge.cli.methods_page` from the files in `src/expunge/methods/`; a test checks that it is current. Each
file's text tells what is published from what is ours. `expunge methods --verbose` prints the same, and
`expunge unlearn METHOD --help` the flags.

*Needs* is the data a method is given; *forget sets* the ways of drawing one that it serves. A *mask* (`--density`,
`--mask`) can be laid over every method that takes gradient steps; edits of the weights take none, and exact methods
start from fresh weights, where there is nothing to hold.

## Choosing settings

How strongly a method forgets hangs on its rate over decades, and the right rate on the model and its data: defaults are a
start, not an answer. `expunge unlearn METHOD ... --trials 4` (in Python `experiment(..., trials=4)`, or
`expunge.tuning.tune`) runs the method with its own settings, then with others out of the column *tuning tries* of its
table below, the later ones beside the best so far, and keeps the model that comes nearest to what Retrain should be.
What that is, validation samples say, which the original never saw: its error on them, and what a membership attack (a
threshold on confidences) says of them, stand for the forget set's (of samples of its classes in its shares, and of its
group where one is forgotten); 100 stands for a class's, and the original's accuracies for those to keep. Neither the test
set nor a retrained model is looked at. Fields that are given as flags stay as given. Where no trial comes nearer than the
model as it came, a note says so. An interrupted command goes on after its last finished trial; record and report list all
of them. A checkpoint of yours that was trained on the validation samples too has nothing to choose by: draw them as they
were drawn for it, or leave the trials out.

`expunge bench GRID --tune` ([grids.md](grids.md)) gives each method of a grid its trials in the same way: on one seed of
their own (`[tune] seed = 100`), or, dearer, for every run by itself (`seed = "own"`).
"""


def line(name: str) -> str:
    """The table's row of a method."""
    kind = find(name)
    cells = [
        f"[{name}](#{name})",
        help_of(kind),
        ", ".join(kind.tasks),
        forgets(kind),
        needs(kind),
        masked(kind),
    ]
    return "| " + " | ".join(cells) + " |"


def forgets(kind: type[Method]) -> str:
    """The forget sets a method serves, by how they are drawn."""
    return ", ".join(kind.scenarios) or "all"


def needs(kind: type[Method]) -> str:
    """The samples a method is given."""
    return ", ".join(kind.data) or "nothing"


def masked(kind: type[Method]) -> str:
    """Whether a mask can be laid over a method: "yes" or "no"."""
    return "yes" if issubclass(kind, GradientMethod) and not kind.exact else "no"


def help_of(kind: type[Method]) -> str:
    """The class's line of help, without a full stop."""
    return (kind.__doc__ or "").strip().splitlines()[0].removesuffix(".")


def section(name: str) -> str:
    """A method's own text, and its settings: defaults, and what tuning tries."""
    kind = find(name)
    text = (sys.modules[kind.__module__].__doc__ or "").strip()
    rows = [
        f"| `{f.name}` | `{getattr(kind(), f.name)!r}` | {tried(kind, f.name)} | {_cell(field_help(kind, f.name))} |"
        for f in fields(kind)
    ]
    head = ["| setting | default | tuning tries | meaning |", "| --- | --- | --- | --- |"]
    return "\n".join([f"## {name}", "", text, "", *head, *rows, ""])


def _cell(text: str) -> str:
    """Text in a cell of a Markdown table."""
    return text.replace("|", "\\|")


def tried(kind: type[Method], field: str) -> str:
    """The values that tuning may give a field, as text."""
    return ", ".join(f"{v:g}" if isinstance(v, float) else str(v) for v in kind.search.get(field, ()))


def page() -> str:
    """The whole page."""
    table = [
        "| method | what it does | models | forget sets | needs | mask |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    return "\n".join([HEAD, *table, *map(line, names()), "", *map(section, names())])


def main(args: Sequence[str] | None = None) -> int:
    """Write the page, or with `--check` say whether the one that is there is current (exit code 1 if it is not)."""
    given = list(sys.argv[1:] if args is None else args)
    check = "--check" in given
    target = Path(next((a for a in given if not a.startswith("-")), PAGE))
    if check:
        current = target.is_file() and target.read_text(encoding="utf-8") == page()
        print(
            f"{target} is current"
            if current
            else f"{target} is out of date; run python -m expunge.cli.methods_page"
        )
        return 0 if current else 1
    write_text(target, page())
    print(f"wrote {target}: {len(names())} methods")
    return 0


if __name__ == "__main__":
    sys.exit(main())
