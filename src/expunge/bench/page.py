"""Make the results page: Markdown tables and figures from the result files of grids."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import ExpungeError
from ..records.atomic_files import write_text
from ..records.statistics import grouped
from .checks import SCENARIOS
from .plots import plot_gap_by_seconds, plot_gap_by_size, plot_gap_by_varied
from .results import Entry
from .tables import markdown, published_tables, rows, two_by_two

INTRODUCTION = (
    "# Benchmarks\n\nMade by `expunge bench --make-page docs/benchmarks.md` from the files of `benchmarks/results`. "
    "Scores are in percent: mean ± sample standard deviation over seeds (n), with the mean gap to Retrain in brackets. "
    "RTE is the time of unlearning alone, in seconds. A method is good if its gap is small. No score is good by itself.\n"
)


def page(folder: Path, out: Path) -> None:
    """Make the results page of all grid results in a folder.

    The page adds the text of `<result>.md` below the heading of a result, and the text of `_pending.md` at the end.

    Args:
        folder: Folder with result files.
        out: The Markdown page to write. Figures go to `figures/` beside it.

    Raises:
        ExpungeError: If the folder has no grid results.

    Example:
        >>> page(Path("benchmarks/results"), Path("docs/benchmarks.md"))
    """
    results = []
    for path in sorted(folder.glob("*.json")):
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise ExpungeError(
                f"{path} cannot be read as a result: {error}; remove it, or run its grid again."
            ) from error
        about = values.get("about") if isinstance(values, dict) else None
        if isinstance(about, dict) and "title" in about and isinstance(values.get("runs"), list):
            results.append((path, values))
    if not results:
        raise ExpungeError(f"{folder} has no grid results; run `expunge bench GRID.toml` first.")
    text = [INTRODUCTION]
    for path, values in results:
        text += [_heading(values["about"])]
        remarks = path.with_suffix(".md")
        if remarks.exists():
            text.append(remarks.read_text(encoding="utf-8"))
        text += _splits(path.stem, values, out.parent / "figures")
    pending = folder / "_pending.md"
    if pending.exists():
        text.append(pending.read_text(encoding="utf-8"))
    write_text(out, "\n".join(text))


def _heading(about: dict[str, Any]) -> str:
    """Return the title of a result, with its command, date, machine and note."""
    kept = ("arch", "cores", "threads", "gpu", "python", "torch")
    where = {k: v for k, v in about["machine"].items() if k in kept}
    if about.get("revision"):
        where["revision"] = about["revision"]
    machine = ", ".join(f"{k} {v}" for k, v in where.items())
    return f"## {about['title']}\n\n`{about['command']}`, {about['date']}, {machine}.\n\n{about.get('note', '')}\n"


def _splits(name: str, values: dict[str, Any], figures: Path) -> list[str]:
    """Return the tables and figures of each split of a result."""
    text = []
    for number, entries in enumerate(grouped(values["runs"], _setting)):
        first = entries[0]
        title = f"### {first['data']}, {first['model']}, {describe_split(first['split'])}"
        text.append(f"{title}\n\n{markdown(entries)}\n")
        text += [t for t in (published_tables(values["about"], first["split"]), two_by_two(entries)) if t]
        if sum(e["kind"] == "unlearn" for e in entries) > 2:
            file = figures / f"{name}-{number}.svg"
            plot_gap_by_seconds(rows(entries), file)
            text.append(f"![gap against RTE](figures/{file.name})\n")
        file = figures / f"{name}-{number}-varied.svg"
        if axes := plot_gap_by_varied(entries, file):
            text.append(f"![gap against {', '.join(axes)}](figures/{file.name})\n")
    shares = [e for e in values["runs"] if e["split"].get("forget_share")]
    for number, entries in enumerate(grouped(shares, lambda e: _setting(e, without="forget_share"))):
        file = figures / f"{name}-sizes{f'-{number}' if number else ''}.svg"
        if plot_gap_by_size(entries, file):
            text.append(f"![gap against the size of the forget set](figures/{file.name})\n")
    return text


def _setting(entry: Entry, without: str = "") -> tuple[str, str, str]:
    """Return a key of data, model and split. Ignore the entry `without` of the split."""
    split = {k: v for k, v in entry["split"].items() if k != without}
    return entry["data"], entry["model"], json.dumps(split, sort_keys=True)


def describe_split(split: dict[str, Any]) -> str:
    """Describe a split by every entry that the grid file gives, so that two splits never read alike."""
    classes = ", ".join(map(str, split.get("forget_class") or []))
    share = split.get("class_share", 1)
    part = "" if share == 1 else f"{100 * share:g} % of "
    if split.get("forget_share") is not None:
        text = f"forget {100 * split['forget_share']:g} % at random"
    elif classes == "seed":
        text = f"forget {part}one class, another for each seed"
    elif classes:
        text = f"forget {part}class {classes}"
    elif split.get("forget_ids"):
        text = f"forget the ids of {split['forget_ids']}"
    else:
        text = f"forget the group {split.get('forget_group')}"
    described = ("class_share", *SCENARIOS)
    return text + "".join(f", {k} {v}" for k, v in sorted(split.items()) if k not in described)
