"""`python -m expunge.cli.methods_page [FILE]`: docs/methods.md, made of the method files; `--check` only compares."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from ..records.atomic_files import write_text
from ..training.method import GradientMethod, Method
from ..training.registry import find, names, served_tasks
from .field_help import field_help

PAGE = Path("docs/methods.md")
HEAD = """# Methods

This page lists every unlearning method: what it does, where it is from, what it needs, and its settings.

```
expunge unlearn salun --data digits --model cnn --checkpoint original.safetensors --forget-class 3 --out unlearned.safetensors
```

`python -m expunge.cli.methods_page` makes this page from the files in `src/expunge/methods/`; a test checks that it is current.
`expunge methods --verbose` prints the same text, and `expunge unlearn METHOD --help` lists the flags of a method.

- *Models* are the tasks that a method works on.
- *Forget sets* are the ways of drawing the forget set that a method accepts.
- *Needs* are the sets of samples that a method gets.
- *Mask* tells whether a mask (`--density`, `--mask`) can restrict the method. Methods with gradient steps accept one, except
  exact methods: they start from fresh weights, so there is nothing to protect. Methods that edit weights accept none.

## Choosing settings

How strongly a method forgets depends on its learning rate over orders of magnitude, and the right value depends on the model
and the data. So the defaults are only a start. Let trials choose:

```
expunge unlearn salun --data digits --model cnn --checkpoint original.safetensors --forget-class 3 --trials 4
```

In Python, use `experiment(..., trials=4)` or `expunge.tuning.tune`. The first trial uses the method's own settings. Later
trials take other values from the column *tuning tries* below; the last ones search near the best so far. The model
closest to Retrain's estimated scores is kept. Fields that you set as flags stay fixed.

If no trial improves on the original, a warning says so. An interrupted command continues after its last finished trial.
The record and the report list all trials.

### How the distance is estimated

Trials use neither the test set nor a retrained model. They use validation samples, which the original never saw:

| score | estimate of Retrain's score |
| --- | --- |
| UA | the original's error on validation samples; 100 for a forgotten class |
| MIA | the share of validation samples that an attack calls non-member; 100 for a forgotten class |
| RA, TA | the original's accuracies on the retain set and on validation samples; only a lower score counts |

The attack is a threshold on confidences. For UA and MIA, importance weights give the validation samples the class
distribution of the forget set. If a group is forgotten, only validation samples of this group count, if there are at
least 20.

A checkpoint that was trained on the validation samples too gives no estimate. Draw the split as it was drawn for the
checkpoint, or leave the trials out.

### Trials in a grid

`expunge bench GRID --tune` ([grids.md](grids.md)) gives each method of a grid its trials. They run on one separate seed
(`[tune] seed = 100`), or for every run on its own seed, which takes longer (`seed = "own"`).

## Overview
"""


def line(name: str) -> str:
    """The table's row of a method."""
    kind = find(name)
    cells = [
        f"[{name}](#{name})",
        help_of(kind),
        ", ".join(served_tasks(kind)) or "a task of your own",
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
