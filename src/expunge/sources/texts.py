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

from ..data.tensors import TensorData
from ..errors import ExpungeError, MissingExtra, raise_all
from .source import Source, held_out, input_shape
from .spec import TABLE_SUFFIXES

HASHED = 8192  # numbers that words are hashed to without a tokenizer: the vocabulary of `text_transformer`
SHOWN = 20  # broken rows that are named one by one
Row = Mapping[str, Any]


def read_texts(path: Path, options: dict[str, str]) -> Source:
    """The rows of `path`, each with a text and a label; a fixed fifth of each class, or the file `test`, is the test set.

    `tokenizer` is a folder that `save_pretrained` wrote; its `config.json`, where there is one, says which name has which
    number. Without it words are hashed. `length` tokens are kept of a text. `text`, `label` and `id` name the columns; every
    other column is a group. Without ids a row's number in its file, from 0, is its id: it is the same whatever is held out.
    Raises `ExpungeError` with every problem.
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
    own = [all(columns["id"] in row for row in rows) for rows in tables]
    parts = [list(enumerate(rows)) for rows in tables]
    if len(files) == 1:
        out = held_out(np.array([numbers[n] for n in names[0]]), len(classes))
        parts = [[parts[0][k] for k in np.flatnonzero(out == held)] for held in (False, True)]

    def data(part: list[tuple[int, Row]], ids: Any) -> TensorData:
        rows = [row for _, row in part]
        y = torch.tensor([numbers[str(row[columns["label"]])] for row in rows])
        x = encode([str(row[columns["text"]]) for row in rows], length)
        return TensorData(x, y, ids=ids, groups=_groups(rows, columns), classes=classes, name=path.stem,
                          read_as=f"length={length}")  # fmt: skip

    named = [[str(row.get(columns["id"])) for _, row in part] for part in parts]
    counted = [[str(k) for k, _ in part] for part in parts]
    unnamed = counted[1] if len(files) == 1 else None  # in a test file they are other rows' numbers
    train = data(parts[0], named[0] if own[0] else counted[0])
    test = data(parts[1], named[1] if all(own) else unnamed)
    return Source(train, test, classes, input_shape(train), path.stem)


def _rows(file: Path) -> list[Row]:
    if file.suffix not in TABLE_SUFFIXES:
        raise ExpungeError(
            f"{file} is none of {', '.join(TABLE_SUFFIXES)}; write the texts in a file of one of these."
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
    needed = {k: v for k, v in columns.items() if k != "id" or "id" in options}
    found = [
        f"{file} has the columns {there}, not '{n}'; name those that you have: text=COLUMN&label=COLUMN."
        for n in needed.values()
        if n not in there
    ]
    if found:
        return found
    broken = [
        f"{file}: row {k} has no {what}; complete it or remove it."
        for k, row in enumerate(rows, 1)
        for what, n in needed.items()
        if row.get(n) is None or not str(row[n]).strip()
    ]
    return broken[:SHOWN] + [f"{file}: and {len(broken) - SHOWN} more."] * (len(broken) > SHOWN)


def _classes(labels: Sequence[str], folder: Path | None) -> tuple[list[str], dict[str, int]]:
    """The class names in their order, and the number that each label stands for."""
    config = _config(folder)
    own = {int(k): str(v) for k, v in config.get("id2label", {}).items()}
    there = set(labels)
    # the order that the checkpoint was trained with
    of_model = [own[k] for k in range(len(own))] if set(own) == set(range(len(own))) else []
    numeric = all(t.isascii() and t.isdigit() for t in there)
    if there <= set(of_model):
        names = of_model
    elif numeric and max(map(int, there)) < len(of_model):
        return of_model, {t: int(t) for t in there} | {str(k): k for k in range(len(of_model))}
    else:  # of stars from 1 to 5 the first class is "1"
        names = sorted(there, key=lambda t: (int(t), t)) if numeric else sorted(there)
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


def _groups(rows: Sequence[Row], columns: Mapping[str, str]) -> dict[str, list[str]]:
    names = {k for row in rows for k in row} - set(columns.values())
    return {
        str(n): ["" if row.get(n) is None else str(row[n]) for row in rows] for n in sorted(map(str, names))
    }
