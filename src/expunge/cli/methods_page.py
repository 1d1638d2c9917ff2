"""Write docs/methods.md from the method files: `python -m expunge.cli.methods_page [FILE]`; `--check` only compares."""

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

`python -m expunge.cli.methods_page` writes this page from the files in `src/expunge/methods/`. A test checks that it is
current. The text of each method says what is published and what is ours. `expunge methods --verbose` prints the same text, and
`expunge unlearn METHOD --help` prints the flags.

*Needs* names the samples that a method is given. *Forget sets* names the ways of drawing a forget set that it serves. A *mask*
(`--density`, `--mask`) works with every method that takes gradient steps. Methods that edit parameters directly take no mask.
Exact methods start from fresh parameters, so a mask has nothing to hold.

## Choosing settings

How strongly a method forgets depends on its learning rate, over several decades. The right rate depends on the model and the
data, so the defaults are only a start. With `--trials 4`, `expunge unlearn METHOD` tries four settings and keeps the best (in
Python: `experiment(..., trials=4)` or `expunge.tuning.trials.tune`):

1. The first trial runs the method with its own settings.
2. Later trials take values from the column *tuning tries* of the method's table below, first coarse, then near the best so far.
3. The model with the smallest estimated gap to Retrain is kept.

The gap is estimated from validation samples, which the original never saw. The original's error on them stands for UA, and the
share of them that a membership attack (a threshold on confidences) calls non-members stands for MIA. They are weighted by the
classes of the forget set, and by its group if a group is forgotten. For a forgotten class both are 100. The original's
accuracies stand for RA and TA. Neither the test set nor a retrained model is used.

- Fields that you give as flags stay fixed.
- If no trial improves on the original model, a note says so.
- An interrupted command goes on after its last finished trial. Record and report list all trials.
- If your checkpoint was trained on the validation samples, they cannot choose anything. Draw the validation set as it was drawn
  for the checkpoint, or do not use trials.

`expunge bench GRID --tune` ([grids.md](grids.md)) gives each method of a grid its trials in the same way: on one separate seed
(`[tune] seed = 100`), or for every run separately (`seed = "own"`), which takes longer.
"""


def row(name: str) -> str:
    """Return the row of a method in the table."""
    method = find(name)
    cells = [
        f"[{name}](#{name})",
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


def section(name: str) -> str:
    """Return the section of a method: the documentation of its file, and the table of its settings."""
    method = find(name)
    text = (sys.modules[method.__module__].__doc__ or "").strip()
    defaults = method()
    rows = [
        f"| `{f.name}` | `{getattr(defaults, f.name)!r}` | {tried_values(method, f.name)} | {_cell(field_help(method, f.name))} |"
        for f in fields(method)
    ]
    header = ["| setting | default | tuning tries | meaning |", "| --- | --- | --- | --- |"]
    return "\n".join([f"## {name}", "", text, "", *header, *rows, ""])


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
    return "\n".join([HEADER, *table, *map(row, names()), "", *map(section, names())])


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
