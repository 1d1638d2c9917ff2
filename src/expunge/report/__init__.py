"""The report: any number of records as one HTML page that needs nothing else: no torch, no network."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ..errors import ExpungeError
from ..records.atomic_files import write_text
from ..records.record import Record
from . import audits, bars, figures, glossary, scatter, strong, tables, words
from .study import Group, Study, studies

__all__ = ["page", "write_report"]

# Sorts the table by the column whose head is pressed, and opens the method that a link goes to.
# Without it the rows stand in the order that matters, by avg. gap, and methods open by hand.
SCRIPT = """
for (const head of document.querySelectorAll('th[data-sort]')) {
  const button = document.createElement('button');
  button.append(...head.childNodes); head.append(button);
  button.onclick = () => {
    const body = head.closest('table').tBodies[0], at = head.cellIndex, down = head.ariaSort !== 'ascending';
    for (const other of head.parentNode.cells) other.removeAttribute('aria-sort');
    head.ariaSort = down ? 'ascending' : 'descending';
    const value = row => parseFloat(row.cells[at].dataset.value);
    const free = [...body.rows].filter(row => !row.dataset.fixed);
    free.sort((a, b) => isNaN(value(a)) - isNaN(value(b)) || (value(a) - value(b)) * (down ? 1 : -1));
    body.append(...free);
  };
}
const show = () => {
  const at = document.getElementById(location.hash.slice(1));
  if (at && 'open' in at) at.open = true;
};
addEventListener('hashchange', show); show();
"""


def page(records: Sequence[Record], title: str | None = None) -> str:
    """The records as one HTML page. What a record lacks is left out; `title` is made from them if not given.

    Raises `ExpungeError` without records.
    """
    if not records:
        raise ExpungeError(
            "there are no records to report on; give at least one, as `expunge unlearn` and `expunge demo` write them."
        )
    found = studies(records)
    runs = [r for s in found for r in s.records]
    shown = [_study(s, i) for i, s in enumerate(found)]
    environment = Environment(
        loader=PackageLoader("expunge.report", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.globals.update(swatch=figures.swatch)
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    return environment.get_template("page.html").render(
        title=title or _title(runs),
        studies=shown,
        script=Markup(SCRIPT),
        digest=digest,
        version=_version(),
        style=Markup(files(__name__).joinpath("style.css").read_text(encoding="utf-8")),
        count=len(runs),
        when=_when(runs),
    )


def write_report(path: str | os.PathLike[str], records: Sequence[Record], title: str | None = None) -> Path:
    """Write `page(records)` to `path`, atomically, and return the path."""
    write_text(path, page(records, title))
    return Path(path)


def _version() -> str:
    try:
        return version("expunge")
    except PackageNotFoundError:
        return ""


def _title(records: Sequence[Record]) -> str:
    names = list(dict.fromkeys(str(r.data.get("name")) for r in records if r.data.get("name")))
    return f"Unlearning on {words.listed(names)}" if names else "Unlearning report"


def _when(records: Sequence[Record]) -> str:
    days = sorted({r.created[:10] for r in records if r.created})
    return "" if not days else days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"


def _study(study: Study, index: int) -> dict[str, Any]:
    """A setting as the template wants it."""
    methods = [_method(g, study, f"s{index}m{i}") for i, g in enumerate(study.methods)]
    return {
        "id": f"s{index}",
        "study": study,
        "headline": words.headline(study),
        "standfirst": words.standfirst(study),
        "distances": figures.distances(study),
        "columns": tables.columns(study),
        "rows": tables.main_rows(study),
        "extras": tables.extras(study),
        "extra_rows": tables.extra_rows(study),
        "limits": tables.limits(study),
        "meaning": glossary.meanings(study.lead.task) | glossary.extra_meanings(study.records),
        "drawn": {k for m in methods for k in ("histograms", "bars", "features") if m[k]},
        "methods": methods,
        "runs": [(g.label, r, tables.run_facts(r)) for g in study.groups for r in g.runs],
    }


def _method(group: Group, study: Study, name: str) -> dict[str, Any]:
    """A method's figures and tables, from one of its runs."""
    record = group.shown
    details = record.details
    each = (bars.per_class(details, study), bars.redistribution(details, study))
    found = {
        "id": name,
        "group": group,
        "verdict": words.verdict(group),
        "seed": record.seed,
        "curves": figures.curves(record, study.retrain),
        "histograms": figures.histograms(details),
        "bars": [f for f in each if f is not None],
        "features": scatter.features(details, study),
        "examples": audits.examples(details, study),
        "grids": audits.grids(details),
        "before": audits.before(details, record.scores),
        "two": audits.two_by_two(details),
        "trials": audits.trials(details),
        "attacks": strong.attacks(details.get("attacks")),
        "levels": strong.features(details.get("features")),
        "said": strong.verdict(details.get("verdict")),
        "limits": [str(v) for v in details["limits"]] if isinstance(details.get("limits"), list) else [],
    }
    drawn = (
        "curves",
        "histograms",
        "bars",
        "features",
        "examples",
        "grids",
        "before",
        "two",
        "trials",
        "attacks",
        "levels",
        "said",
    )
    found["empty"] = not any(found[k] for k in drawn)
    return found
