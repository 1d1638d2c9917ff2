"""Details of an audit as plain rows for the template: pictures, samples, trials, the NHLE table."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from ..records.record import Record, used_trial
from ..records.statistics import TABLE_2X2
from .number_text import DASH, compact, fixed, setting_text
from .study import Study
from .values import number, table


def _dicts(value: Any) -> list[dict[str, Any]]:
    """Return the dicts in a list, or an empty list for anything else."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def nhle_table(details: dict[str, Any]) -> dict[str, Any]:
    """Return the accuracies of the four combinations of NHLE and class weight masking. Empty without any."""
    rows = _dicts(details.get("table2x2"))
    keys = [k for k in TABLE_2X2 if any(number(row.get(k)) is not None for row in rows)]
    if not keys:
        return {}
    return {
        "titles": [TABLE_2X2[k][1].capitalize() for k in keys],
        "rows": [
            {
                "nhle": bool(row.get("nhle")),
                "masking": bool(row.get("masking")),
                "cells": [fixed(number(row.get(k))) for k in keys],
            }
            for row in rows
        ],
    }


def before_and_after(details: dict[str, Any], scores: dict[str, Any]) -> dict[str, Any]:
    """Return the scores of an erased model beside the original's, and how often its images show each concept.

    Empty without any.
    """
    pairs = {str(k): (v, scores.get(k)) for k, v in table(details.get("before")).items()}
    for concept, counts in table(details.get("prompts")).items():
        pairs[f"images of “{concept}” that show it"] = (
            table(counts).get("before"),
            table(counts).get("after"),
        )
    rows = [
        (name.replace("_", " "), [compact(v) if (v := number(x)) is not None else DASH for x in pair])
        for name, pair in pairs.items()
        if number(pair[0]) is not None
    ]
    return {"titles": ["before", "after"], "rows": rows} if rows else {}


def trials(record: Record, before: str) -> dict[str, Any]:
    """Return the settings that tuning tried, in their order of distance, with a column for each field.

    Args:
        record: A run. The first trial with its settings is marked.
        before: What the model before the run is called.
    """
    details = record.details
    items = [(table(trial.get("settings")), trial) for trial in _dicts(details.get("trials"))]
    fields = list(dict.fromkeys(str(k) for settings, _ in items for k in settings))
    if not fields:
        return {}
    used = used_trial(record)
    return {
        "titles": fields,
        "why": _why(record, used, before),
        "untouched": fixed(number(details.get("trials_untouched"))),
        "rows": [
            {
                "settings": [setting_text(settings.get(k)) for k in fields],
                "distance": _with_error(trial),
                "status": str(trial.get("status") or ""),
                "used": i == used,
            }
            for i, (settings, trial) in enumerate(items)
        ],
    }


def _with_error(trial: dict[str, Any]) -> str:
    """Return the distance of a trial, with its standard error if it is estimated from samples."""
    error = number(trial.get("error"))
    return fixed(number(trial.get("distance"))) + (f" ± {fixed(error)}" if error else "")


def _why(record: Record, used: int | None, before: str) -> str:
    """Return why the run has the settings of the trial in row `used`."""
    if used == 0:
        return "Tuning chose the first row, the settings with the smallest estimated distance to Retrain."
    if used is not None:
        return (
            f"No trial was clearly closer to Retrain than the {before}, so tuning took the marked row: the first trial that "
            "is hardly further away."
        )
    first = "The first row has the smallest estimated distance to Retrain."
    kept = f"No trial was clearly closer than the {before}, so the run kept that model."
    return f"{first} {kept if record.ended == 'unchanged' else 'No row has the settings of this run.'}"


def value_text(value: Any) -> str:
    """Format any value of a strong audit: three decimals for small numbers, the length of long lists."""
    size = number(value)
    if isinstance(value, list) and len(value) > 8:
        return f"{len(value)} values"
    if size is None or isinstance(value, int):
        return setting_text(value)
    return fixed(size, 3 if abs(size) < 10 else 1) if size else "0"


def picture(data: Any) -> str:
    """Return the data URL of a PNG in base64, or an empty text for anything else."""
    if not isinstance(data, str):
        return ""
    text = data.removeprefix("data:image/png;base64,")
    try:
        start = base64.b64decode(text, validate=True)[:8]
    except (binascii.Error, ValueError):
        return ""
    return f"data:image/png;base64,{text}" if start == b"\x89PNG\r\n\x1a\n" else ""


def examples(details: dict[str, Any], study: Study) -> list[dict[str, Any]]:
    """Return up to 24 forgotten samples with the prediction of each model."""
    samples = []
    for item in _dicts(details.get("examples")):
        predictions = [
            (
                name,
                study.class_name(table(item.get(key)).get("class")),
                _percent(table(item.get(key)).get("confidence")),
                table(item.get(key)).get("class") == item.get("label"),
                key,
            )
            for name, key in (("before", "original"), ("after", "unlearned"), ("Retrain", "retrained"))
            if item.get(key)
        ]
        samples.append(
            {
                "src": picture(item.get("png")),
                "label": study.class_name(item.get("label")),
                "id": item.get("id"),
                "predictions": predictions,
            }
        )
    return samples[:24]


def _percent(value: Any) -> str:
    share = number(value)
    return DASH if share is None else f"{100 * share:.0f} %"


def picture_size(src: str) -> tuple[int, int]:
    """Return width and height of a PNG in pixels, from bytes 16 to 24 of its header. (0, 0) without a header."""
    header = base64.b64decode(src.partition(",")[2][:32])
    if len(header) < 24:
        return 0, 0
    return int.from_bytes(header[16:20], "big"), int.from_bytes(header[20:24], "big")


def image_grids(details: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the images of generators, before and after. Small ones are enlarged by a whole factor."""
    grids = []
    for item in _dicts(details.get("images")):
        src = picture(item.get("png"))
        width, height = picture_size(src) if src else (0, 0)
        if not 0 < width * height < 10**8:
            continue
        factor = max(1, 480 // width)
        grids.append(
            {
                "title": str(item.get("title") or ""),
                "note": str(item.get("note") or ""),
                "src": src,
                "width": factor * width,
                "height": factor * height,
                "small": factor > 1,
            }
        )
    return grids
