"""The requests and the plan of a project, for a terminal."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import date
from typing import TYPE_CHECKING, TextIO

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from ..receipts.limits import visible
from ..summaries import numbers_text
from .console import table_console

# longest subject that surely stays on one line
SUBJECT = 12
UNRELIABLE = "* MIA and MIA_entropy contradict each other in its audit: MIA is unreliable"
OF_OTHERS = "(no. N) UA and MIA of all samples of request N, whose run answers this one too"

if TYPE_CHECKING:
    from ..projects.plan import Plan
    from ..projects.requests import ProjectRequest
    from ..projects.shown_status import ProjectStatus


def print_requests(requests: Sequence[ProjectRequest], today: date) -> None:
    """Print requests with their states in the ledger, and their scores then and now, in 80 columns if subjects are short."""
    from ..projects.requests import IN_LEDGER

    table = Table(
        *("no.", "subject", "asks for", "due", "state", "UA", "MIA"),
        padding=(0, 1, 0, 0),
        box=SIMPLE_HEAD,
        show_edge=False,
        caption="UA and MIA in percent: in the request's own audit > in the latest audit",
        caption_justify="left",
    )
    short = all(len(visible(r.subject)) <= SUBJECT for r in requests)
    for column in table.columns:
        column.no_wrap = column.header != "state" and (short or column.header != "subject")
    for r in requests:
        state = f"{r.shown_state}, overdue" if r.is_overdue(today) else r.shown_state
        scores = [
            f"{r.then[k]:.1f} > {r.now[k]:.1f}" if k in r.then and k in r.now else "" for k in ("UA", "MIA")
        ]
        if r.unreliable_mia and scores[1]:
            scores[1] += "*"
        if r.scores_of:
            scores = [f"{text} (no. {r.scores_of})" if text else "" for text in scores]
        asked = r.kind if r.kind == IN_LEDGER else f"{r.kind}, {r.samples:,}"
        words = (r.subject, asked, r.due, state)
        table.add_row(str(r.number), *(escape(visible(word)) for word in words), *scores)
    table_console().print(table)
    if any(r.unreliable_mia for r in requests):
        print(UNRELIABLE)
    if any(r.scores_of for r in requests):
        print(OF_OTHERS)


def on_requests(remarks: Iterable[tuple[int, str]], stream: TextIO) -> None:
    """Print remarks on requests, each with its number. Requests with the same remark share a line.

    Args:
        remarks: Number of a request, and the remark. It begins with a verb, or with a colon.
        stream: Standard output or error.
    """
    numbers: dict[str, list[int]] = {}
    for number, remark in remarks:
        numbers.setdefault(remark, []).append(number)
    for remark, own in numbers.items():
        several, colon = len(own) > 1, remark.startswith(":")
        link = ("" if colon else " ") if not several else ", each" if colon else ": each "
        print(f"request{'s' * several} {numbers_text(own)}{link}{visible(remark)}", file=stream)


def print_status_json(found: ProjectStatus) -> None:
    """Print the status of a project as one JSON object. It names subjects, and no ids of samples."""
    from ..projects.status import status_values

    print(json.dumps(status_values(found), indent=2))


def _seconds(plan: Plan) -> str:
    if plan.seconds is None:
        return "unknown: the method has no training loop"
    (least, most), (fewest, highest) = plan.seconds, plan.trials
    if fewest == highest:
        runs = f"{fewest} trials of {plan.steps:,} steps" if fewest > 1 else f"a run of {plan.steps:,} steps"
        return f"{least:.1f} ({runs}, masks and audit)"
    return f"{least:.1f} (1 trial of {plan.steps:,} steps) to {most:.1f} ({highest} trials), with masks and audit"


def print_plan(plan: Plan) -> None:
    """Print a plan, one line for each figure."""
    # here, so that the help of a command does not import NumPy
    from ..data.row_ids import NOTE

    each = ", ".join(f"{n:,}" for n in plan.samples)
    if plan.by_runs:
        runs = numbers_text(plan.by_runs)
        several = len(plan.by_runs) > 1
        print(
            f"requests: {len(plan.samples)} ({each} samples)\nplan: no run is to be made, as run{'s' * several} {runs} removed all of them "
            "already. Without --dry-run, the requests are entered and answered at once, and the model stays as it is."
        )
        return
    lines = {
        "requests": f"{len(plan.samples)} ({each} samples), {plan.forget:,} different samples to forget",
        "retained samples": f"{plan.retain:,} (earlier requests removed {plan.earlier:,})",
        "copies": " ".join(plan.copies) or "none outside of the samples to forget",
        "method": plan.method,
        "estimated seconds": _seconds(plan),
        "estimated memory": "unknown" if plan.memory is None else f"{plan.memory / 1e6:,.0f} MB",
        "disk space": f"{plan.disk / 1e6:,.1f} MB needed, {plan.free / 1e6:,.0f} MB free",
        # not part of the run, also with a reference: its seconds are in the estimate
        "retraining instead": f"{plan.retrain_seconds:.1f} seconds for a new model without the samples"
        + (", which is cheaper than the method may be" if plan.retraining_is_cheaper else "")
        + f" (by {plan.recipe})",
    }
    lines |= {"ids": NOTE} if plan.by_row else {}
    print("\n".join(f"{name}: {visible(text)}" for name, text in lines.items()))
