"""The tables of the report as plain rows for the template: scores, settings, limits."""

from __future__ import annotations

from typing import Any

from ..records.record import Record
from ..records.statistics import HEADLINE, Stat
from .study import Group, Study
from .values import number
from .words import DASH, duration, equal, fixed, free, listed, memory, ratio, setting_text, step_of, tied


def columns(study: Study) -> list[str]:
    """The scores with a column of their own: the four, where any run has them; all of them for generators."""
    found = [m for m in HEADLINE if any(g.score(m) for g in study.groups)]
    return found if study.lead.task == "classification" else found + extras(study)


def extras(study: Study) -> list[str]:
    """Further scores of the records, in their order."""
    names: dict[str, None] = {}
    for record in study.records:
        names.update(
            {k: None for k, v in record.scores.items() if k not in HEADLINE and number(v) is not None}
        )
    return list(names)


def main_rows(study: Study) -> list[dict[str, Any]]:
    """Original, Retrain, then the methods by avg. gap; each row with its cells, gap, seconds and memory."""
    same, level = (equal(study), tied(study)) if study.judged else ([], [])
    rows = []
    for group in study.groups:
        note = ""
        if group in same:
            note = "smallest gap"
        elif group in level:
            note = "level with it, within the spread"
        ended = [r.status for r in group.runs if r.ended != "finished"]
        rows.append(
            {
                "group": group,
                "note": note,
                "ended": ended[0] if ended else "",
                "diverged": any(r.ended == "diverged" for r in group.runs),
                "cells": [_cell(group, m) for m in columns(study)],
                "average": _average(group),
                "n": len(group.runs),
                "seconds": _with_spread(group.seconds, duration),
                "memory": memory(group.memory.mean) if group.memory else DASH,
                "ratio": _ratio(group, study),
            }
        )
    return rows


def _ratio(group: Group, study: Study) -> str:
    own, there = group.seconds, study.retrain.seconds if study.retrain else None
    if group.kind in ("retrain", "original"):
        return "of training" if own else ""
    return f"{ratio(own.mean, there.mean)} Retrain" if own and there and there.mean else ""


def _with_spread(stat: Stat | None, text: Any) -> dict[str, str]:
    if stat is None:
        return {"value": DASH, "spread": ""}
    spread = free if text is free else lambda v: fixed(v, 2 if text is duration and stat.mean < 1 else 1)
    return {
        "value": text(stat.mean),
        "spread": f"± {spread(stat.spread)}" if stat.spread is not None else "",
    }


def _cell(group: Group, metric: str) -> dict[str, Any]:
    score = group.score(metric)
    gap = group.gap(metric) if group.kind != "retrain" and metric in HEADLINE else None
    why = "" if score else "not measured in this run"
    return {
        **_with_spread(score, fixed if metric in HEADLINE else free),
        "gap": fixed(gap.mean, sign=True) if gap else "",
        "step": step_of(gap.mean if gap else None),
        "why": why,
        "sort": score.mean if score else "",
    }


def _average(group: Group) -> dict[str, Any]:
    if group.kind == "retrain":
        return {"value": "0", "spread": "", "step": -1, "sort": 0.0, "why": "the reference itself"}
    stat = group.average
    if stat is None:
        return {
            "value": DASH,
            "spread": "",
            "step": -1,
            "sort": "",
            "why": "no retrained reference among these records",
        }
    left_out = f"without {listed(group.missing)}" if group.missing else ""
    return {
        "value": fixed(stat.mean, 2),
        "spread": f"± {fixed(stat.spread, 2)}" if stat.spread is not None else "",
        "step": step_of(stat.mean),
        "sort": stat.mean,
        "why": left_out,
    }


def extra_rows(study: Study) -> list[tuple[str, list[str]]]:
    """The further scores, a row a group."""
    names = extras(study) if study.lead.task == "classification" else []
    found = [(g.label, [_joined(g.score(n)) for n in names]) for g in study.groups]
    return found if names else []


def _joined(stat: Stat | None) -> str:
    if stat is None or stat.spread is None:
        return free(stat.mean) if stat else DASH
    return f"{free(stat.mean)} ± {free(stat.spread)}"


def run_facts(record: Record) -> list[tuple[str, str]]:
    """What a run depended on, name and value, for the last section."""
    split, model, machine = record.split, record.model, record.machine
    facts = [
        ("seed", record.seed),
        ("goal", record.goal),
        ("ended", record.status),
        ("when", record.created),
        ("settings", record.settings),
        ("data", record.data.get("name")),
        ("model", model.get("name")),
        ("weights before", model.get("hash_before")),
        ("weights after", model.get("hash_after")),
        (
            "split",
            {k: v for k, v in split.items() if k not in ("hash", "train_hash", "sizes", "goal", "classes")},
        ),
        ("split sizes", split.get("sizes")),
        ("split hash", split.get("hash")),
        ("training hash", split.get("train_hash")),
        ("machine", machine),
    ]
    return [(name, setting_text(value)) for name, value in facts if value not in (None, "", {}, [])]


def limits(study: Study) -> list[str]:
    """What these figures cannot carry, in words."""
    said = []
    if study.retrain is None:
        said.append("No retrained reference: how close a method comes cannot be said, only what changed.")
    few = [g.label for g in study.methods if len(g.runs) < 3]
    if few:
        said.append(f"Fewer than three seeds for {listed(few)}: read differences of a point or two as noise.")
    if study.forgotten:
        said.append("The forgotten class is left out of TA and, where not said otherwise, of the test set.")
    if any(g.score("MIA") for g in study.groups):
        said.append(
            "MIA here is one inexpensive attack on the true-class confidence. "
            "A model can pass it and still remember; the strong audit asks harder questions."
        )
    said.append(
        "A small gap means that the model behaves like a retrained one on these measures. "
        "It is no proof that nothing is left of the data, and no certificate."
    )
    said.append(_machines(study))
    stopped = [g.label for g in study.methods if any(r.ended != "finished" for r in g.runs)]
    if stopped:
        said.append(f"Stopped before the last step, for the reason told with the run: {listed(stopped)}.")
    return said


def _machines(study: Study) -> str:
    found = {_machine(r) for r in study.records}
    if len(found) > 1:
        return f"Seconds and memory cannot be compared: the runs were made on {len(found)} machines."
    return f"Seconds and memory hold for the machine they were measured on ({found.pop() or 'not recorded'})."


def _machine(record: Record) -> str:
    """`Linux x86_64, 2 cores, torch 2.13.0`, as far as the record says."""
    made = {k: setting_text(v) for k, v in record.machine.items() if v}
    parts = [" ".join(made[k] for k in ("system", "arch") if k in made), made.get("gpu", "")]
    parts += [f"{made['cores']} cores" if "cores" in made else ""]
    parts += [f"torch {made['torch']}" if "torch" in made else ""]
    return ", ".join(p for p in parts if p)
