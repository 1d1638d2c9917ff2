"""Labelled texts in a table (CSV, TSV, JSON lines or parquet), as the token numbers of a tokenizer of transformers."""

from __future__ import annotations

import csv
import json
import re
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..data import TensorData
from ..errors import ExpungeError, MissingExtra, raise_all
from .source import Source, held_out, shape_of

KINDS = (".csv", ".tsv", ".jsonl", ".parquet")
HASHED = 8192  # numbers that words are hashed to without a tokenizer: the vocabulary of `text_transformer`
SHOWN = 20  # broken rows that are named one by one
Row = Mapping[str, Any]


def texts(path: Path, options: dict[str, str]) -> Source:
    """The rows of `path`, each with a text and a label; a fixed fifth of each class, or the file `test`, is the test set.

    `tokenizer` is a folder that `save_pretrained` wrote; its `config.json`, where there is one, says which name has which
    number. Without it words are hashed. `length` tokens are kept of a text. `text`, `label` and `id` name the columns; every
    other column is a group. Raises `ExpungeError` with every problem.
    """
    columns = {k: options.get(k, k) for k in ("text", "label", "id")}
    length, folder = int(options.get("length", 128)), options.get("tokenizer")
    files = [path, *([Path(options["test"]).expanduser()] if "test" in options else [])]
    tables = [_rows(file) for file in files]
    raise_all(
        [p for f, rows in zip(files, tables, strict=True) for p in _problems(f, rows, columns, options)]
    )
    names = [[str(row[columns["label"]]) for row in rows] for rows in tables]
    place = None if folder is None else Path(folder).expanduser()
    classes, numbers = _classes(names[0], place)
    if unknown := sorted({n for some in names for n in some} - set(numbers)):
        raise ExpungeError(
            f"{files[-1]} has the labels {unknown[:5]}, which {path} has not; every class needs training texts."
        )
    encode = _hashed if place is None else _tokenizer(place)
    parts = []
    for rows, labels in zip(tables, names, strict=True):
        x = encode([str(row[columns["text"]]) for row in rows], length)
        parts.append((x, torch.tensor([numbers[n] for n in labels]), rows))
    if len(parts) == 1:
        x, y, rows = parts[0]
        out = held_out(y.numpy(), len(classes))
        parts = [
            ({k: v[keep] for k, v in x.items()}, y[keep], [rows[n] for n in np.flatnonzero(keep)])
            for keep in (~out, out)
        ]
    train, test = (
        TensorData(x, y, ids=_ids(rows, columns["id"]), groups=_groups(rows, columns), classes=classes, name=path.stem)
        for x, y, rows in parts
    )  # fmt: skip
    for data in (train, test):
        data.read_as = f"length={length}"
    return Source(train, test, classes, shape_of(train), path.stem)


def _rows(file: Path) -> list[Row]:
    if file.suffix not in KINDS:
        raise ExpungeError(
            f"{file} is none of {', '.join(KINDS)}; write the texts in a file of one of these."
        )
    try:
        if file.suffix == ".parquet":
            return _parquet(file)
        with file.open(encoding="utf-8-sig", newline="") as lines:
            if file.suffix == ".jsonl":
                found = [json.loads(line) for line in lines if line.strip()]
            else:
                csv.field_size_limit(2**31 - 1)  # of Python's 131,072 characters, a long text has more
                found = list(
                    csv.DictReader(lines, delimiter="\t" if file.suffix == ".tsv" else ",", strict=True)
                )
    except (OSError, ValueError, csv.Error) as error:
        raise ExpungeError(f"{file} cannot be read: {type(error).__name__}: {error}.") from error
    if wrong := [n for n, row in enumerate(found, 1) if not isinstance(row, dict)]:
        raise ExpungeError(f"{file}: entry {wrong[0]} is no object with names; write a JSON object a line.")
    return found


def _parquet(file: Path) -> list[Row]:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtra("reading parquet files", "images") from error
    return parquet.read_table(file).to_pylist()


def _problems(
    file: Path, rows: Sequence[Row], columns: Mapping[str, str], options: Mapping[str, str]
) -> list[str]:
    """What is wrong with a table, a sentence each."""
    if not rows:
        return [f"{file} has no rows; give texts with labels."]
    there = sorted({str(k) for row in rows for k in row})
    needed = [columns["text"], columns["label"], *([columns["id"]] if "id" in options else [])]
    found = [
        f"{file} has the columns {there}, not '{n}'; name those that you have: text=COLUMN&label=COLUMN."
        for n in needed
        if n not in there
    ]
    if found:
        return found
    broken = [
        f"{file}: row {k} has no {'text' if n == columns['text'] else 'label' if n == columns['label'] else 'id'}; "
        "complete it or remove it."
        for k, row in enumerate(rows, 1)
        for n in needed
        if row.get(n) is None or not str(row[n]).strip()
    ]
    return broken[:SHOWN] + [f"{file}: and {len(broken) - SHOWN} more."] * (len(broken) > SHOWN)


def _classes(labels: Sequence[str], folder: Path | None) -> tuple[list[str], dict[str, int]]:
    """The class names in their order, and the number that each label stands for."""
    config = _config(folder)
    own = {int(k): str(v) for k, v in config.get("id2label", {}).items()}
    there = set(labels)
    if all(t.isascii() and t.isdigit() for t in there):
        count = max(map(int, there)) + 1
        names = (
            [own[k] for k in range(len(own))]
            if len(own) >= count and set(own) == set(range(len(own)))
            else []
        )
        return names or [str(k) for k in range(count)], {t: int(t) for t in there} | {
            str(k): k for k in range(max(count, len(names)))
        }
    if there <= set(own.values()) and set(own) == set(
        range(len(own))
    ):  # the order that the checkpoint was trained with
        names = [own[k] for k in range(len(own))]
    else:
        names = sorted(there)
    return names, {n: k for k, n in enumerate(names)}


def _config(folder: Path | None) -> dict[str, Any]:
    file = None if folder is None else folder / "config.json"
    if file is None or not file.is_file():
        return {}
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ExpungeError(f"{file} cannot be read: {type(error).__name__}: {error}.") from error
    return found if isinstance(found, dict) else {}


def _tokenizer(folder: Path) -> Any:
    """A function from texts and a length to the inputs of a model, each (N, T)."""
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise MissingExtra("tokenizing texts", "text") from error
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # transformers raises many kinds for what is no tokenizer
        raise ExpungeError(
            f"{folder} holds no tokenizer ({type(error).__name__}); name a folder that tokenizer.save_pretrained wrote."
        ) from error
    if tokenizer.pad_token is None:
        raise ExpungeError(
            f"the tokenizer in {folder} has no padding token; set tokenizer.pad_token and save it again."
        )

    def encode(some: list[str], length: int) -> dict[str, Tensor]:
        found = tokenizer(some, truncation=True, max_length=length, padding="max_length", return_tensors="pt")
        return dict(found)

    return encode


def _hashed(some: list[str], length: int) -> dict[str, Tensor]:
    """Words as numbers from 1 on, 0 for padding: (N, T) each."""
    tokens = torch.zeros(len(some), length, dtype=torch.int64)
    for n, text in enumerate(some):
        words = re.findall(r"\w+", text.lower())[:length]
        tokens[n, : len(words)] = torch.tensor(
            [zlib.crc32(w.encode()) % (HASHED - 1) + 1 for w in words]
        ).long()
    return {"input_ids": tokens, "attention_mask": (tokens != 0).long()}


def _ids(rows: Sequence[Row], column: str) -> list[str] | None:
    return [str(row[column]) for row in rows] if all(column in row for row in rows) else None


def _groups(rows: Sequence[Row], columns: Mapping[str, str]) -> dict[str, list[str]]:
    names = {k for row in rows for k in row} - set(columns.values())
    return {
        str(n): ["" if row.get(n) is None else str(row[n]) for row in rows] for n in sorted(map(str, names))
    }
