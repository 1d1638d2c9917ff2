"""What an audit found beyond the scores, as plain rows: pictures, NHLE x masking, attacks, verdict."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from ..records.statistics import TABLE_2X2
from .study import Study
from .values import number, table
from .words import DASH, fixed, free, setting_text


def two_by_two(details: dict[str, Any]) -> dict[str, Any]:
    """NHLE x masking: accuracies of the four combinations, with the columns there are."""
    rows = (
        [r for r in details.get("table2x2") or [] if isinstance(r, dict)]
        if isinstance(details.get("table2x2"), list)
        else []
    )
    keys = [k for k in TABLE_2X2 if any(number(r.get(k)) is not None for r in rows)]
    return (
        {
            "heads": [TABLE_2X2[k][1].capitalize() for k in keys],
            "rows": [
                {
                    "nhle": bool(r.get("nhle")),
                    "masking": bool(r.get("masking")),
                    "cells": [fixed(number(r.get(k))) for k in keys],
                }
                for r in rows
            ],
        }
        if keys
        else {}
    )


def before(details: dict[str, Any], scores: dict[str, Any]) -> dict[str, Any]:
    """The scores of an erasure beside the original's, and how often each concept's prompts show it; empty without."""
    pairs = {str(k): (v, scores.get(k)) for k, v in table(details.get("before")).items()}
    for word, told in table(details.get("prompts")).items():
        pairs[f"“{word}” shown when asked for"] = (table(told).get("before"), table(told).get("after"))
    rows = [
        (name.replace("_", " "), [free(v) if (v := number(x)) is not None else DASH for x in pair])
        for name, pair in pairs.items()
        if number(pair[0]) is not None
    ]
    return {"heads": ["before", "after"], "rows": rows} if rows else {}


def trials(details: dict[str, Any]) -> dict[str, Any]:
    """The settings that were tried before the run, in their order of distance: a column for each field."""
    found = details.get("trials")
    rows = (
        [(table(t.get("settings")), t) for t in found if isinstance(t, dict)]
        if isinstance(found, list)
        else []
    )
    heads = list(dict.fromkeys(str(k) for settings, _ in rows for k in settings))
    return (
        {
            "heads": heads,
            "untouched": fixed(number(details.get("trials_untouched"))),
            "rows": [
                {
                    "settings": [setting_text(settings.get(k)) for k in heads],
                    "distance": fixed(number(t.get("distance"))),
                    "status": str(t.get("status") or ""),
                }
                for settings, t in rows
            ],
        }
        if heads
        else {}
    )


def figure(value: Any) -> str:
    """Any figure as text: three digits where it is small; long lists by their length."""
    found = number(value)
    if isinstance(value, list) and len(value) > 8:
        return f"{len(value)} values"
    if found is None or isinstance(value, int):
        return setting_text(value)
    return fixed(found, 3 if abs(found) < 10 else 1) if found else "0"


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
        said = [
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
        found.append(
            {
                "src": picture(item.get("png")),
                "label": study.class_name(item.get("label")),
                "id": item.get("id"),
                "said": said,
            }
        )
    return found[:24]


def _percent(value: Any) -> str:
    found = number(value)
    return DASH if found is None else f"{100 * found:.0f} %"


def shape(src: str) -> tuple[int, int]:
    """Width and height of a picture in pixels, from the header of the PNG (bytes 16 to 24)."""
    head = base64.b64decode(src.partition(",")[2][:32])
    return (
        (int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big"))
        if len(head) >= 24
        else (0, 0)
    )


def grids(details: dict[str, Any]) -> list[dict[str, Any]]:
    """Pictures of generators, before and after; small ones enlarged by a whole factor."""
    images = details.get("images")
    found = []
    for item in images if isinstance(images, list) else []:
        src = picture(item.get("png")) if isinstance(item, dict) else ""
        width, height = shape(src) if src else (0, 0)
        if not 0 < width * height < 10**8:
            continue
        times = max(1, 480 // width)
        found.append(
            {
                "title": str(item.get("title") or ""),
                "note": str(item.get("note") or ""),
                "src": src,
                "width": times * width,
                "height": times * height,
                "small": times > 1,
            }
        )
    return found
