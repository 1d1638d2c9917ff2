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
and the request. So a method that you give by its name alone chooses its settings (`--trials auto`, the default of `expunge
unlearn`, and of `unlearn`, `experiment` and `bench` in Python):

```
expunge unlearn salun --data digits --model cnn --checkpoint original.safetensors --forget-class 3
```

1. *Adapt.* A run gets at least 100 steps: a small request has few steps per epoch. SSD starts at alpha = n / (2 n_f).
2. *Search.* At most 8 trials change one field at a time, first the learning rate in steps of a factor 10, then of 3. The
   search ends when the estimated gap is below 1 point or within its sampling error. It uses no test data and no retrained model.
3. *Compare.* The untouched original is a candidate. If no trial improves on it by more than the sampling error, the result is
   the original, with the status "unchanged". The command then writes no checkpoint and ends with exit code 3. In Python, `unlearn` raises
   `UnlearningFailed`, and `experiment` returns the original. [defaults.md](defaults.md) has what each method reaches.

Fields that you set as flags stay fixed. `--trials 0` runs exactly the settings given; so does an instance such as
`experiment(model, split, SalUn(lr=0.01), task)`. `--trials 4` (`trials=4`) tries four settings, without step 1. The first trial
uses the method's own settings. Later trials take values from the column *tuning tries* below, the last ones near the best so far.
The record and the report list all trials. An interrupted command continues after its last finished trial. `execute`
in Python is the plain runner: it has no trials.

A run that ends further from the target than the original says so: its status begins with "worse", the table marks it, and
`expunge unlearn` ends with exit code 1 ([failures](failures.md)). The target is the retrained model, or without one the estimate below.

### Published settings

`--paper` (`paper=True`) has the same meaning for every method: fields that have their default take the published value, and
the method follows the released code where that differs. It runs without trials unless you ask for a number. A method whose
settings were not found refuses it. Its docstring below says what is published.

### Agreement with released code

`tests/test_released_code.py` compares our methods with numbers of the authors' code: same batches, same random draws, double
precision. `python tools/released_numbers.py DIR` records the numbers from clones of the repositories.

| code, commit | methods | agreement |
| --- | --- | --- |
| OPTML-Group/Unlearn-Saliency, a6e89fd | masks of SalUn at ten densities | exact |
| | SalUn, SalUn-soft, RL, GA, FT, l1-sparse, boundary shrink and expand, IU, Fisher forgetting, all with `paper` | rounding |
| | SalUn for diffusion, without a mask | float32 |
| meghdadk/SCRUB, 98ffb11 | SCRUB | rounding |
| if-loops/selective-synaptic-dampening, cdfdc0e | SSD with `paper` | rounding |
| vikram2000b/bad-teaching-unlearning, f1aa988 | gradient of bad teacher, times the number of classes | rounding |
| clear-nus/selective-amnesia, b736571 | Fisher information and steps of Selective Amnesia with `paper` | float32 |

"Rounding" is a relative difference below 1e-9. The loss of bad teacher is a mean over samples and classes in the code, and over
samples here; Adam takes the same steps with both. The code for diffusion also runs in double precision, but our diffusion task
predicts in float32. Not compared: data augmentation, learning-rate schedules and order of samples.

The Fisher information of the released Selective Amnesia is 1.9e5 times ours for the median parameter of a generator of digits, and
9.5e6 times for the sum over parameters (`python benchmarks/fisher_scale.py`, seed 0, one thread of a shared two-core CPU, 27
November 2026). So their lambda needs `paper=True`.

### How the distance is estimated

Trials use neither the test set nor a retrained model. They use validation samples, which the original never saw:

| score | estimate of Retrain's score |
| --- | --- |
| UA | the original's error on validation samples; 100 for a forgotten class |
| MIA | the share of validation samples that an attack calls non-member; 100 for a forgotten class |
| RA, TA | the original's accuracies on the retain set and on validation samples; only a lower score counts |

The attack is a threshold on confidences. For UA and MIA, importance weights give the validation samples the class
distribution of the forget set. If a group is forgotten, only validation samples of this group count, if there are at
least 20. If fewer than 30 validation samples are of the classes of the forget set, all validation samples together count as 10
more of them. The trial, the table and the record then name the standard error of the gap and the number of samples
([how many are needed](validation.md#how-many-are-needed)).

For `--trials auto`, the attack's part is replaced. For a forgotten class, it counts as at least as wrong as UA. For single
samples, it is the Kolmogorov-Smirnov distance between the confidences on the forget set and on validation samples, above what
chance gives: a retrained model treats both alike.

A checkpoint that was trained on the validation samples too gives no estimate. Draw the split as it was drawn for the
checkpoint. If it saw all training samples, add `--validation-from test` ([validation samples](validation.md)). With
`--validation 0`, only a forgotten class has an estimate: UA is 100, and RA stands for TA. MIA is then left out.

### Trials in a grid

`expunge bench GRID --tune` ([grids.md](grids.md)) gives each method of a grid its trials. They run on one separate seed
(`[tune] seed = 100`), or for every run on its own seed, which takes longer (`seed = "own"`).

## Overview
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
