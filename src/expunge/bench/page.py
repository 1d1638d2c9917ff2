"""What a finished grid leaves: one compact JSON to commit, and a page of tables and plots made from such files."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from ..errors import ExpungeError
from ..records.atomic_files import write_json, write_text
from ..records.record import Record, ended_from_status, machine, plain
from ..records.statistics import HEADLINE, TABLE_2X2, grouped, row_order, stat, stat_text
from .checks import SCENARIOS
from .plots import curves, plots, sizes

Entry = dict[str, Any]


def entry(record: Record, label: str, split: dict[str, Any], vary: dict[str, Any] | None = None) -> Entry:
    """What of a record is committed: scores, settings, seconds; no pictures, no curves."""
    kept = {k: record.details[k] for k in ("table2x2", "worst_class") if record.details.get(k)}
    return {"label": label, "kind": record.kind, "method": record.method, "data": record.data.get("name"),
            "model": record.model.get("name"), "split": split, "scenario": record.split.get("scenario"), "seed": record.seed,
            "scores": record.scores, "seconds": record.seconds, "peak_memory": record.peak_memory, "status": record.status,
            "ended": record.ended,
            "settings": record.settings, "details": kept, "vary": vary or {},
            "density": (record.details.get("mask") or {}).get("density")}  # fmt: skip


def write_result(
    path: Path,
    title: str,
    command: str,
    entries: Sequence[Entry],
    *,
    note: str = "",
    tuned: Any = None,
    failed: dict[str, str] | None = None,
    revised: str | None = None,
    published: Sequence[dict[str, Any]] = (),
) -> None:
    """The grid's result as one JSON file: machine, versions, revision, date and command beside every run."""
    about = {
        "title": title,
        "command": command,
        "date": date.today().isoformat(),
        "revision": revised,
        "machine": machine(),
        "note": note,
        "tuned": tuned,
        "failed": failed or {},
        **({"published": list(published)} if published else {}),
    }
    write_json(path, plain({"about": about, "runs": list(entries)}))


def revision() -> str | None:
    """The commit that this package's source is at, with a `+` where it was changed since; None outside a checkout."""
    here = Path(__file__).resolve().parents[1]
    ask = lambda *words: subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, timeout=30)  # noqa: E731
    try:
        at, changed = ask("rev-parse", "--short=10", "HEAD"), ask("status", "--porcelain", "--", ".")
    except (OSError, subprocess.TimeoutExpired):
        return None
    return at.stdout.strip() + ("+" if changed.stdout else "") if at.returncode == 0 else None


def rows(entries: Iterable[Entry]) -> list[list[Entry]]:
    """Entries of one label together (its seeds), by average gap; original and Retrain first."""
    groups = grouped(entries, lambda e: e["label"])
    return sorted(groups, key=lambda group: row_order(group[0]["kind"], [gap_of(e) for e in group]))


def gap_of(e: Entry, name: str = "avg") -> float | None:
    """The gap to Retrain of a score, or the average; None where there is none."""
    return (e["scores"].get("gap") or {}).get(name)


def markdown(entries: Sequence[Entry]) -> str:
    """The table of one split: mean ± sample standard deviation over seeds, the gap of each score in brackets."""
    lines = ["| method | UA | RA | TA | MIA | avg. gap | RTE s | n |", "| --- " * 8 + "|"]
    for group in rows(entries):
        cells = []
        for name in HEADLINE:
            gap = stat(gap_of(e, name) for e in group) if group[0]["kind"] == "unlearn" else None
            text = stat_text(e["scores"].get(name) for e in group)
            cells.append(text + (f" ({gap.mean:.2f})" if gap else ""))
        average = stat_text(gap_of(e) for e in group)
        if group[0]["kind"] == "retrain":
            average = "0"
        seconds = "–" if group[0]["kind"] == "original" else stat_text((e["seconds"] for e in group), 1)
        # results written before runs said how they ended have the words alone
        odd = sum((e.get("ended") or ended_from_status(e["status"])) == "diverged" for e in group)
        name = group[0]["label"] + (f" ({odd} diverged)" if odd else "")
        lines.append(f"| {name} | {' | '.join(cells)} | **{average}** | {seconds} | {len(group)} |")
    return "\n".join(lines)


def two_by_two(entries: Sequence[Entry]) -> str:
    """Accuracies with and without the training and the class weight masking, mean over seeds; empty without such runs."""
    tables = [e["details"]["table2x2"] for e in entries if e["details"].get("table2x2")]
    if not tables:
        return ""
    lines = [
        f"NHLE x class weight masking, accuracies in percent (n = {len(tables)}):\n",
        "| NHLE | masking | forget | retain | test, forgotten class | test, retained classes |",
        "| --- " * 6 + "|",
    ]
    for cell in zip(*tables, strict=True):
        marks = ["yes" if cell[0][k] else "no" for k in ("nhle", "masking")]
        lines.append("| " + " | ".join([*marks, *(stat_text(c[k] for c in cell) for k in TABLE_2X2)]) + " |")
    return "\n".join(lines) + "\n"


def others(about: dict[str, Any], split: dict[str, Any]) -> str:
    """Tables that others published for a split like this one, as the grid file has them; empty without any."""
    text = []
    for table in about.get("published", []):
        if table["split"] == split:
            text += [f"{table['source']}\n", "| method | UA | RA | TA | MIA | avg. gap |", "| --- " * 6 + "|"]
            text += [
                f"| {name} | " + " | ".join(f"{v:.2f}" for v in figures) + " |"
                for name, *figures in table["rows"]
            ]
            text.append("")
    return "\n".join(text)


def page(folder: Path, out: Path) -> None:
    """`out` (Markdown) and its figures from every grid result in `folder`."""
    found = []
    for path in sorted(folder.glob("*.json")):
        values = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(values, dict) and "runs" in values and "about" in values and "title" in values["about"]:
            found.append((path, values))
    if not found:
        raise ExpungeError(f"{folder} has no grid results; run `expunge bench GRID.toml` first.")
    text = [
        "# Benchmarks\n\nMade by `expunge bench --make-page docs/benchmarks.md` from the files of `benchmarks/results`. "
        "Scores in percent, mean ± sample "
        "standard deviation over seeds (n); in brackets the mean gap to Retrain. RTE: seconds of unlearning alone. A method is "
        "good if its gap is small; no score is good by itself.\n"
    ]
    for path, values in found:
        about = values["about"]
        where = {
            k: v
            for k, v in about["machine"].items()
            if k in ("arch", "cores", "threads", "gpu", "python", "torch")
        }
        if about.get("revision"):
            where["revision"] = about["revision"]
        text.append(f"## {about['title']}\n\n`{about['command']}`, {about['date']}, "
                    + ", ".join(f"{k} {v}" for k, v in where.items()) + f".\n\n{about.get('note', '')}\n")  # fmt: skip
        remarks = path.with_suffix(".md")  # what a person wrote about these figures
        if remarks.exists():
            text.append(remarks.read_text(encoding="utf-8"))
        for number, entries in enumerate(grouped(values["runs"], _place)):
            first = entries[0]
            text.append(
                f"### {first['data']}, {first['model']}, {_words(first['split'])}\n\n{markdown(entries)}\n"
            )
            text += [t for t in (others(about, entries[0]["split"]), two_by_two(entries)) if t]
            if sum(e["kind"] == "unlearn" for e in entries) > 2:
                figure = out.parent / "figures" / f"{path.stem}-{number}.svg"
                plots(rows(entries), figure)
                text.append(f"![gap against RTE](figures/{figure.name})\n")
            varied = out.parent / "figures" / f"{path.stem}-{number}-varied.svg"
            if axes := curves(entries, varied):
                text.append(f"![gap against {', '.join(axes)}](figures/{varied.name})\n")
        shares = [e for e in values["runs"] if e["split"].get("forget_share")]
        for number, entries in enumerate(grouped(shares, lambda e: _place(e, but="forget_share"))):
            whole = out.parent / "figures" / f"{path.stem}-sizes{f'-{number}' if number else ''}.svg"
            if sizes(entries, whole):
                text.append(f"![gap against the size of the forget set](figures/{whole.name})\n")
    pending = folder / "_pending.md"  # what is still to be run, as a person wrote it
    if pending.exists():
        text.append(pending.read_text(encoding="utf-8"))
    write_text(out, "\n".join(text))


def _place(e: Entry, but: str = "") -> tuple[str, str, str]:
    """The same for entries of one data set, model and split, whatever the split's entry `but`."""
    split = {k: v for k, v in e["split"].items() if k != but}
    return e["data"], e["model"], json.dumps(split, sort_keys=True)


def _words(split: dict[str, Any]) -> str:
    """A split in words, every entry that the grid file gives it: two splits never read alike."""
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
    worded = ("class_share", *SCENARIOS)
    return text + "".join(f", {k} {v}" for k, v in sorted(split.items()) if k not in worded)
