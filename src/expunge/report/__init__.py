"""The report: any number of records as one self-contained HTML page. It needs neither torch nor a network."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ..errors import ExpungeError
from ..records.atomic_files import write_text
from ..records.record import Record
from . import (
    audit_details,
    class_bars,
    erasure,
    figures,
    glossary,
    request_history,
    scatter,
    sentences,
    strong_audit,
    tables,
)
from .group import Group
from .number_text import listed
from .study import Study, studies

__all__ = ["page", "write_report"]

# Sorts the table by the column whose title is pressed, and opens the method that a link points to.
# Without scripts, the rows are in the order of the worse of both gaps, and readers open the methods themselves.
SCRIPT = """
for (const title of document.querySelectorAll('th[data-sort]')) {
  const button = document.createElement('button');
  button.append(...title.childNodes); title.append(button);
  button.onclick = () => {
    const body = title.closest('table').tBodies[0], column = title.cellIndex;
    const ascending = title.ariaSort !== 'ascending';
    for (const other of title.parentNode.cells) other.removeAttribute('aria-sort');
    title.ariaSort = ascending ? 'ascending' : 'descending';
    const value = row => parseFloat(row.cells[column].dataset.value);
    const movable = [...body.rows].filter(row => !row.dataset.fixed);
    movable.sort((a, b) => isNaN(value(a)) - isNaN(value(b)) || (value(a) - value(b)) * (ascending ? 1 : -1));
    body.append(...movable);
  };
}
const show = () => {
  const target = document.getElementById(location.hash.slice(1));
  if (target && 'open' in target) target.open = true;
};
addEventListener('hashchange', show); show();
"""


def page(records: Sequence[Record], title: str | None = None) -> str:
    """Return the records as one HTML page. Parts without data in the records are left out.

    Args:
        records: At least one record.
        title: Title of the page. Default: made from the names of the data.

    Raises:
        ExpungeError: There are no records.
    """
    if not records:
        raise ExpungeError(
            "there are no records to report on; a report needs at least one. "
            "Give records as `expunge unlearn` and `expunge demo` write them."
        )
    sorted_studies = studies(records)
    runs = [record for study in sorted_studies for record in study.records]
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    return (
        _templates()
        .get_template("page.html")
        .render(
            title=title or _title(runs),
            studies=[_study_parts(study, i) for i, study in enumerate(sorted_studies)],
            script=Markup(SCRIPT),
            digest=digest,
            version=_version(),
            style=Markup(files(__name__).joinpath("style.css").read_text(encoding="utf-8")),
            count=len(runs),
            heat_maps=request_history.heat_maps(runs),
            dates=_dates(runs),
        )
    )


def write_report(path: str | os.PathLike[str], records: Sequence[Record], title: str | None = None) -> Path:
    """Write the report of some records as one HTML file.

    Args:
        path: The file to write. It appears whole or not at all.
        records: At least one record.
        title: Title of the page. Default: made from the names of the data.

    Returns:
        The path.

    Raises:
        ExpungeError: There are no records, or the file cannot be written.

    Example:
        >>> write_report("report.html", [Record.load("demo/retrain.json"), Record.load("demo/salun.json")])
    """
    write_text(path, page(records, title))
    return Path(path)


@cache
def _templates() -> Environment:
    """Return the templates. They are compiled once in a process, which takes longer than to fill them."""
    templates = Environment(
        loader=PackageLoader("expunge.report", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    templates.globals.update(swatch=figures.swatch)
    return templates


def _version() -> str:
    try:
        return version("expunge")
    except PackageNotFoundError:
        return ""


def _title(records: Sequence[Record]) -> str:
    names = list(dict.fromkeys(str(r.data.get("name")) for r in records if r.data.get("name")))
    return f"Unlearning on {listed(names)}" if names else "Unlearning report"


def _dates(records: Sequence[Record]) -> str:
    days = sorted({r.created[:10] for r in records if r.created})
    return "" if not days else days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"


def _study_parts(study: Study, index: int) -> dict[str, Any]:
    """Return the parts of a study for the template."""
    methods = [_method_parts(g, study, f"s{index}m{i}") for i, g in enumerate(study.methods)]
    opening = []
    text = erasure if study.erasure else sentences
    if study.erasure:
        # the pictures are the result, so they come first
        opening = erasure.opening([m.pop("images") for m in methods])
        methods = [{**m, "images": []} for m in methods]
    return {
        "id": f"s{index}",
        "study": study,
        "headline": text.headline(study),
        "standfirst": text.standfirst(study),
        "distances": figures.distances(study),
        "opening": opening,
        "columns": tables.columns(study),
        "rows": tables.main_rows(study),
        "extras": tables.extras(study),
        "extra_rows": tables.extra_rows(study),
        "limits": (erasure.limits(study) if study.erasure else []) + tables.limits(study),
        "meanings": glossary.meanings(study.generator) | glossary.extra_meanings(study.records),
        "figures": {k for m in methods for k in ("histograms", "bars", "features") if m[k]},
        "methods": methods,
        "runs": [(g.label, r, tables.run_facts(r)) for g in study.groups for r in g.runs],
    }


def _method_parts(group: Group, study: Study, name: str) -> dict[str, Any]:
    """Return the parts of a method for the template, from one of its runs."""
    record = group.shown
    details = record.details
    parts = [details.get(name) for name in ("changes", "notes", "limits")]
    bars = (class_bars.per_class(details, study), class_bars.redistribution(details, study))
    # Parts that hold nothing for this run are left out of the page.
    optional = {
        "curves": figures.curves(record, study.retrain),
        "histograms": figures.histograms(details, study),
        "bars": [figure for figure in bars if figure is not None],
        "features": scatter.features(details, study),
        "examples": audit_details.examples(details, study),
        "images": audit_details.image_grids(details),
        "before": audit_details.before_and_after(details, record.scores),
        "nhle": audit_details.nhle_table(details),
        "trials": audit_details.trials(record, study.before),
        "attacks": strong_audit.with_name(strong_audit.attack_table(details.get("attacks")), study.before),
        "feature_measures": strong_audit.with_name(
            strong_audit.feature_table(details.get("features")), study.before
        ),
        "own": request_history.own_table(record),
        "warnings": request_history.warnings(record),
        "earlier": request_history.earlier_table(record),
        "audit_verdict": strong_audit.verdict(details.get("verdict")),
    }
    return {
        "id": name,
        "group": group,
        "verdict": (erasure if study.erasure else sentences).verdict(group),
        "seed": record.seed,
        "limits": [str(v) for part in parts if isinstance(part, list) for v in part],
        "empty": not any(optional.values()),
        **optional,
    }
