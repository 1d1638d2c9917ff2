"""Which columns of a data set of the library `datasets` are the inputs, the labels and the ids."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import raise_all
from .column_advice import LOOKED_AT, advised, fitting

LABEL_COLUMNS = ("label", "labels", "fine_label", "target")
TEXT_COLUMNS = ("text", "sentence", "content", "review")


def chosen_columns(path: Path, data: Any, options: dict[str, str]) -> dict[str, str]:
    """Return the columns to read: {"image" or "text", "label", "id": the column's name}.

    Args:
        path: Name or folder of the data set, for messages.
        data: The training split.
        options: Options of the data spec, of which `image`, `text`, `label` and `id` name columns.

    Raises:
        ExpungeError: A column does not exist or is not known. The message names the columns that fit.
    """
    kinds = {name: type(feature).__name__ for name, feature in data.features.items()}
    images, classes = ([n for n, kind in kinds.items() if kind == k] for k in ("Image", "ClassLabel"))
    label = options.get("label") or _only(classes) or next((n for n in LABEL_COLUMNS if n in kinds), None)
    text = options.get("text") or next((n for n in TEXT_COLUMNS if n in kinds), None)
    chosen: dict[str, str | None] = {}
    if "text" in options or ("image" not in options and not images and text):
        chosen["text"] = text
    elif "image" in options or images or fitting(_first_rows(data), "image"):
        chosen["image"] = options.get("image") or _only(images)
    else:
        chosen["text"] = None
    chosen["label"] = label
    wrong = [what for what, name in chosen.items() if name not in kinds]
    listed = ", ".join(f"{name} ({kind})" for name, kind in kinds.items())
    problems = [
        f"hf:{path} has no column '{name}'; columns: {listed}."
        for name in [options.get("id")]
        if name and name not in kinds
    ]
    if wrong:
        advice = advised(_first_rows(data), chosen, wrong)
        problems += [
            f"hf:{path}: the column of the {what} is not known; name it: {advice}. Columns: {listed}."
            if chosen[what] is None
            else f"hf:{path} has no column '{chosen[what]}'; columns: {listed}. Name yours: {advice}."
            for what in wrong
        ]
    raise_all(problems)
    return {**{k: str(v) for k, v in chosen.items()}, "id": options.get("id", "id")}


def _first_rows(data: Any) -> list[dict[str, Any]]:
    """The first rows, without decoding images."""
    from datasets import Image

    for name, feature in data.features.items():
        if isinstance(feature, Image):
            data = data.cast_column(name, Image(decode=False))
    kept = [
        n
        for n, f in data.features.items()
        if isinstance(f, dict) or type(f).__name__ in ("Value", "ClassLabel", "Image")
    ]
    return data.with_format(None).select_columns(kept).select(range(min(LOOKED_AT, len(data)))).to_list()


def _only(names: list[str]) -> str | None:
    return names[0] if len(names) == 1 else None
