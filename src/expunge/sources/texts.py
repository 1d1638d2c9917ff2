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
    x = [encode([str(row[columns["text"]]) for row in rows], length) for rows in tables]
    y = [torch.tensor([numbers[n] for n in some]) for some in names]
    kept = [np.arange(len(rows)) for rows in tables]
    if len(files) == 1:
        out = held_out(y[0].numpy(), len(classes))
        tables, x, y, kept = tables * 2, x * 2, y * 2, [np.flatnonzero(~out), np.flatnonzero(out)]
    parts = []
    for k, at in enumerate(kept):
        rows = [tables[k][n] for n in at]
        ids: Any = (
            at.astype(str) if k == 0 or len(files) == 1 else None
        )  # in a test file it is another row's number
        if all(columns["id"] in row for some in tables[: k + 1] for row in some):
            ids = [str(row[columns["id"]]) for row in rows]
        inputs, groups = {name: v[at] for name, v in x[k].items()}, _groups(rows, columns)
        parts.append(TensorData(inputs, y[k][at], ids=ids, groups=groups, classes=classes, name=path.stem))
    train, test = parts
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
