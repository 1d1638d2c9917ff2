"""The tables of the report as plain rows for the template: scores, run facts, limits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..records.record import Record
from ..records.statistics import HEADLINE, Stat
from .copies_found import copies_text
from .group import Group
from .number_text import DASH, compact, duration, fixed, gap_step, listed, memory, ratio, setting_text
from .sentences import equal, tied
from .study import Study
from .values import number


def columns(study: Study) -> list[str]:
    """Return the scores that have a column: the four headline scores, and for generators all others too."""
    names = [m for m in HEADLINE if any(g.score(m) for g in study.groups)]
    return names + extras(study) if study.generator else names


def extras(study: Study) -> list[str]:
    """Return the names of all other scores, in the order of the records."""
    names: dict[str, None] = {}
    for record in study.records:
        names.update(
            {k: None for k, v in record.scores.items() if k not in HEADLINE and number(v) is not None}
        )
    return list(names)


def main_rows(study: Study) -> list[dict[str, Any]]:
    """Return the rows of the main table: original, Retrain, then the methods by the worse of both gaps."""
    same, level = (equal(study), tied(study)) if len(study.ranked) > 1 else ([], [])
    rows = []
    for group in study.groups:
        note = ""
        if group in same:
            note = "smallest gap"
        elif group in level:
            note = "equal within the spread"
        unfinished = [r.status for r in group.runs if r.ended != "finished"]
        rows.append(
            {
                "group": group,
                "note": note,
                "ended": unfinished[0] if unfinished else "",
                "diverged": any(r.ended == "diverged" for r in group.runs),
                "cells": [_cell(group, m) for m in columns(study)],
                "average": _average(group, study.before),
                "features": _feature_gap(group),
                "n": len(group.runs),
                "seconds": _with_spread(group.seconds, duration),
                "memory": memory(group.memory.mean) if group.memory else DASH,
                "ratio": _ratio(group, study),
            }
        )
    return rows


def _ratio(group: Group, study: Study) -> str:
    seconds, reference = group.seconds, study.retrain.seconds if study.retrain else None
    if group.kind in ("retrain", "original"):
        return "of training" if seconds else ""
    if not (seconds and reference and reference.mean):
        return ""
    return f"{ratio(seconds.mean, reference.mean)} Retrain"


def _with_spread(stat: Stat | None, text: Callable[[float | None], str]) -> dict[str, str]:
    """Return a mean as `text` formats it, and its spread with matching decimals."""
    if stat is None:
        return {"value": DASH, "spread": ""}
    if text is compact:
        spread = compact(stat.spread)
    else:
        spread = fixed(stat.spread, 2 if text is duration and stat.mean < 1 else 1)
    return {"value": text(stat.mean), "spread": f"± {spread}" if stat.spread is not None else ""}


def _cell(group: Group, metric: str) -> dict[str, Any]:
    score = group.score(metric)
    gap = group.gap(metric) if group.kind != "retrain" and metric in HEADLINE else None
    return {
        **_with_spread(score, fixed if metric in HEADLINE else compact),
        "gap": fixed(gap.mean, sign=group.signed(metric)) if gap else "",
        "step": gap_step(gap.mean if gap else None),
        "why": "" if score else "not measured in this run",
        "sort": score.mean if score else "",
    }


def _average(group: Group, before: str) -> dict[str, Any]:
    if group.kind == "retrain":
        return {"value": "0", "spread": "", "step": -1, "sort": 0.0, "why": "Retrain is the reference"}
    stat = group.average
    if stat is None:
        return {
            "value": DASH,
            "spread": "",
            "step": -1,
            "sort": "",
            "why": f"the retrained model is not comparable with the {before}"
            if "reference" in group.grounds
            else "these records contain no retrained model",
        }
    return {
        "value": fixed(stat.mean, 2),
        "spread": f"± {fixed(stat.spread, 2)}" if stat.spread is not None else "",
        "step": gap_step(stat.mean),
        "sort": stat.mean,
        "why": f"without {listed(group.missing)}" if group.missing else "",
    }


def _feature_gap(group: Group) -> dict[str, Any]:
    stat = group.feature_gap
    if group.kind == "retrain":
        return {"value": "0", "spread": "", "step": -1, "sort": 0.0}
    step, sort = gap_step(stat.mean if stat else None), stat.mean if stat else ""
    return {**_with_spread(stat, lambda value: fixed(value, 2)), "step": step, "sort": sort}


def extra_rows(study: Study) -> list[tuple[str, list[str]]]:
    """Return the table of the scores without a column, one row per group."""
    names = [] if study.generator else extras(study)
    rows = [(g.label, [_joined(g.score(n)) for n in names]) for g in study.groups]
    return rows if names else []


def _joined(stat: Stat | None) -> str:
    if stat is None or stat.spread is None:
        return compact(stat.mean) if stat else DASH
    return f"{compact(stat.mean)} ± {compact(stat.spread)}"


def run_facts(record: Record) -> list[tuple[str, str]]:
    """Return what a run depended on, as names and values. Empty values are left out."""
    split, model = record.split, record.model
    # records of earlier versions hold values of groups and ids of copies, which name people; and whoever has the data can test ids
    # against the hashes of a split
    left_out = (
        "hash",
        "train_hash",
        "request",
        "earlier",
        "forget_hash",
        "sizes",
        "goal",
        "classes",
        "values",
        "copies_found",
    )
    facts = [
        ("seed", record.seed),
        ("goal", record.goal),
        ("status", record.status),
        ("date", record.created),
        ("settings", record.settings),
        ("data", record.data.get("name")),
        ("model", model.get("name")),
        ("model hash before", model.get("hash_before")),
        ("model hash after", model.get("hash_after")),
        ("split", {k: v for k, v in split.items() if k not in left_out}),
        ("split sizes", split.get("sizes")),
        ("copies found", copies_text(split)),
        ("machine", record.machine),
    ]
    return [(name, setting_text(value)) for name, value in facts if value not in (None, "", {}, [])]


def limits(study: Study) -> list[str]:
    """Return sentences on what these results do not show."""
    sentences = []
    if study.retrain is None and not study.erasure:
        sentences.append(
            "There is no retrained model. The report shows what changed, not how close a method comes to Retrain."
        )
    few = [g.label for g in study.methods if len(g.runs) < 3]
    if few:
        sentences.append(
            f"Fewer than three seeds ran for {listed(few)}. Differences of one or two points may be noise."
        )
    if study.forgotten and any(g.score("TA") for g in study.groups):
        sentences.append(
            "TA leaves out the forgotten class. So does the test set, except where the report says otherwise."
        )
    if any(g.score("MIA") for g in study.groups):
        sentences.append(
            "MIA is one inexpensive attack on the confidence in the true class. "
            "A model can pass it and still remember. The strong audit runs stronger attacks."
        )
    if not study.erasure:
        sentences.append(
            "A small gap means that the model behaves like a retrained model on these measures. "
            "It does not prove that nothing is left of the data, and it is no certificate."
        )
    sentences.append(_machines(study))
    worse = [g.label for g in study.methods if any(r.ended == "worse" for r in g.runs)]
    if worse:
        sentences.append(
            f"Further from the target than the {study.before}: {listed(worse)}. Their runs below give the numbers."
        )
    stopped = [g.label for g in study.methods if any(r.ended not in ("finished", "worse") for r in g.runs)]
    if stopped:
        sentences.append(
            f"Stopped before the last step: {listed(stopped)}. Their runs below state the reason."
        )
    return sentences


def _machines(study: Study) -> str:
    machines = {_machine(r) for r in study.records}
    if len(machines) > 1:
        return f"Do not compare seconds and memory: the runs were made on {len(machines)} machines."
    return f"Seconds and memory were measured on one machine ({machines.pop() or 'not recorded'})."


def _machine(record: Record) -> str:
    """Describe the machine, as far as the record does: `Linux x86_64, 2 cores, torch 2.13.0`."""
    machine = {k: setting_text(v) for k, v in record.machine.items() if v}
    parts = [" ".join(machine[k] for k in ("system", "arch") if k in machine), machine.get("gpu", "")]
    parts += [f"{machine['cores']} cores" if "cores" in machine else ""]
    parts += [f"torch {machine['torch']}" if "torch" in machine else ""]
    return ", ".join(p for p in parts if p)
