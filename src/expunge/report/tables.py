"""The tables of the report as plain rows for the template: scores, NHLE x masking, strong audit, settings, limits."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from ..record import Record
from .study import METRICS, Group, Stat, Study, number, table
from .words import DASH, duration, fixed, listed, memory, ratio, setting_text, step_of, tied

SCORES = {"forget_accuracy": "Forget set", "retain_accuracy": "Retain set", "test_forgotten_accuracy": "Test, forgotten class",
          "test_retain_accuracy": "Test, other classes"}


def columns(study: Study) -> list[str]:
    """The scores with a column of their own: the four, as far as any run has them; for generators every figure."""
    found = [m for m in METRICS if any(g.score(m) for g in study.groups)]
    return found if study.lead.task == "classification" else found + extras(study)


def extras(study: Study) -> list[str]:
    """Further scores of the records, in their order."""
    names: dict[str, None] = {}
    for record in study.records:
        names.update({k: None for k, v in record.scores.items() if k not in METRICS and number(v) is not None})
    return list(names)


def main_rows(study: Study) -> list[dict[str, Any]]:
    """Original, Retrain, then the methods by avg. gap; each row with its cells, gap, seconds and memory."""
    best = study.judged[0] if study.judged else None
    level = tied(study) if best else []
    rows = []
    for group in study.groups:
        note = ""
        if group is best:
            note = "smallest gap"
        elif group in level:
            note = "level with it, within the spread"
        ended = [r.status for r in group.runs if r.status != "finished"]
        rows.append({"group": group, "note": note, "ended": setting_text(ended[0]) if ended else "",
                     "cells": [_cell(group, m) for m in columns(study)], "average": _average(group),
                     "n": len(group.runs), "seconds": _with_spread(group.seconds, duration), "memory": memory(group.memory.mean) if group.memory else DASH,
                     "ratio": _ratio(group, study)})
    return rows


def _ratio(group: Group, study: Study) -> str:
    own, there = group.seconds, study.retrain.seconds if study.retrain else None
    return ratio(own.mean, there.mean) if own and there and group.kind not in ("retrain", "original") else ""


def _with_spread(stat: Stat | None, text: Any) -> dict[str, str]:
    if stat is None:
        return {"value": DASH, "spread": ""}
    digits = 2 if text is duration and stat.mean < 1 else 1
    return {"value": text(stat.mean), "spread": f"± {fixed(stat.spread, digits)}" if stat.spread is not None else ""}


def _cell(group: Group, metric: str) -> dict[str, Any]:
    score = group.score(metric)
    gap = group.gap(metric) if group.kind != "retrain" and metric in METRICS else None
    why = "" if score else "not measured in this run"
    return {**_with_spread(score, fixed), "gap": fixed(gap.mean, sign=True) if gap else "", "step": step_of(gap.mean if gap else None),
            "why": why, "sort": score.mean if score else ""}


def _average(group: Group) -> dict[str, Any]:
    if group.kind == "retrain":
        return {"value": "0", "spread": "", "step": -1, "sort": 0.0, "why": "the reference itself"}
    stat = group.average
    if stat is None:
        return {"value": DASH, "spread": "", "step": -1, "sort": "", "why": "no retrained reference among these records"}
    left_out = f"without {listed(group.missing)}" if group.missing else ""
    return {"value": fixed(stat.mean, 2), "spread": f"± {fixed(stat.spread, 2)}" if stat.spread is not None else "",
            "step": step_of(stat.mean), "sort": stat.mean, "why": left_out}


def extra_rows(study: Study) -> list[tuple[str, list[str]]]:
    """The further scores, a row a group."""
    names = extras(study) if study.lead.task == "classification" else []
    found = [(g.label, [_joined(g.score(n)) for n in names]) for g in study.groups]
    return found if names else []


def _joined(stat: Stat | None) -> str:
    return DASH if stat is None else fixed(stat.mean) + (f" ± {fixed(stat.spread)}" if stat.spread is not None else "")


def two_by_two(details: dict[str, Any]) -> dict[str, Any]:
    """NHLE x masking: accuracies of the four combinations, with the columns there are."""
    rows = [r for r in details.get("table2x2") or [] if isinstance(r, dict)] if isinstance(details.get("table2x2"), list) else []
    keys = [k for k in SCORES if any(number(r.get(k)) is not None for r in rows)]
    return {"heads": [SCORES[k] for k in keys],
            "rows": [{"nhle": bool(r.get("nhle")), "masking": bool(r.get("masking")), "cells": [fixed(number(r.get(k))) for k in keys]}
                     for r in rows]} if keys else {}


def loose(value: Any) -> dict[str, Any]:
    """A table of whatever is given: a dict of dicts, a list of dicts, or a dict of figures. Empty where it is none of these.

    Nested dicts become columns of their own ("auc, retrained").
    """
    if isinstance(value, list):
        named = [(str(r.get("attack") or r.get("name") or i + 1), {k: v for k, v in r.items() if k not in ("attack", "name")})
                 for i, r in enumerate(value) if isinstance(r, dict)]
    elif isinstance(value, dict):
        named = [(str(k), v if isinstance(v, dict) else {"value": v}) for k, v in value.items()]
    else:
        return {}
    flat = [(name, _flat(row)) for name, row in named]
    heads: dict[str, None] = {}
    for _, row in flat:
        heads.update({k: None for k in row})
    return {"heads": [h.replace("_", " ") for h in heads],
            "rows": [(name.replace("_", " "), [_figure(row.get(h)) for h in heads]) for name, row in flat]} if heads else {}


def _flat(row: dict[Any, Any], before: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in row.items():
        name = f"{before}{key}"
        if isinstance(value, dict):
            found.update(_flat(value, f"{name}, "))
        else:
            found[name] = value
    return found


def _figure(value: Any) -> str:
    found = number(value)
    if isinstance(value, list) and len(value) > 8:
        return f"{len(value)} values"
    if found is None or isinstance(value, int):
        return setting_text(value)
    return fixed(found, 3 if abs(found) < 10 else 1)


def verdict_lines(details: dict[str, Any]) -> list[str]:
    """The audit's verdict in sentences, however it is kept: a sentence, a list of them, or a dict with reasons."""
    found = details.get("verdict")
    if isinstance(found, dict):
        return [s for v in found.values() for s in (v if isinstance(v, list) else [v]) if isinstance(s, str) and s]
    return [str(v) for v in found] if isinstance(found, list) else [str(found)] if found else []


def picture(data: Any) -> str:
    """A data address for base64 text that is a PNG; empty for anything else, which is then left out."""
    if not isinstance(data, str):
        return ""
    text = data.removeprefix("data:image/png;base64,")
    try:
        start = base64.b64decode(text, validate=True)[:8]
    except (binascii.Error, ValueError):
        return ""
    return f"data:image/png;base64,{text}" if start == b"\x89PNG\r\n\x1a\n" else ""


def examples(details: dict[str, Any], study: Study) -> list[dict[str, Any]]:
    """Forgotten samples with what each model says of them."""
    found = []
    for item in details.get("examples") or [] if isinstance(details.get("examples"), list) else []:
        if not isinstance(item, dict):
            continue
        said = [(name, study.class_name(table(item.get(key)).get("class")), _percent(table(item.get(key)).get("confidence")),
                 table(item.get(key)).get("class") == item.get("label"), key)
                for name, key in (("before", "original"), ("after", "unlearned"), ("Retrain", "retrained")) if item.get(key)]
        found.append({"src": picture(item.get("png")), "label": study.class_name(item.get("label")), "id": item.get("id"), "said": said})
    return found[:24]


def _percent(value: Any) -> str:
    found = number(value)
    return DASH if found is None else f"{100 * found:.0f} %"


def grids(details: dict[str, Any]) -> list[dict[str, Any]]:
    """Pictures of generators, before and after."""
    images = details.get("images")
    found = [{"title": str(i.get("title") or ""), "src": picture(i.get("png")), "note": str(i.get("note") or "")}
             for i in images if isinstance(i, dict)] if isinstance(images, list) else []
    return [g for g in found if g["src"]]


def run_facts(record: Record) -> list[tuple[str, str]]:
    """What a run depended on, name and value, for the last section."""
    split, model, machine = record.split, record.model, record.machine
    facts = [("seed", record.seed), ("goal", record.goal), ("ended", record.status), ("when", record.created),
             ("settings", record.settings), ("data", record.data.get("name")), ("model", model.get("name")),
             ("weights before", model.get("hash_before")), ("weights after", model.get("hash_after")),
             ("split", {k: v for k, v in split.items() if k not in ("hash", "train_hash", "sizes", "goal", "classes")}),
             ("split sizes", split.get("sizes")), ("split hash", split.get("hash")), ("training hash", split.get("train_hash")),
             ("machine", machine)]
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
        said.append("MIA here is one inexpensive attack on the true-class confidence. A model can pass it and still remember; "
                    "the strong audit asks harder questions.")
    said.append("A small gap means that the model behaves like a retrained one on these measures. It is no proof that nothing is left "
                "of the data, and no certificate.")
    machines = {setting_text({k: v for k, v in r.machine.items() if k in ("system", "arch", "cores", "gpu")}) for r in study.records}
    said.append("Seconds and memory hold for the machine named with each run" + (
        "; the runs compared here were made on different machines." if len(machines) > 1 else "."))
    stopped = [g.label for g in study.methods if any(r.status != "finished" for r in g.runs)]
    if stopped:
        said.append(f"Not every run went to its end: see the settings of {listed(stopped)}.")
    return said
