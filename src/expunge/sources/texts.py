"""Tables of labelled texts (CSV, TSV, JSON lines or parquet), tokenized by transformers or by hashing words."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from ..data.tensors import TensorData
from ..errors import ExpungeError, MissingExtra, raise_all
from .source import Source, held_out, input_shape
from .text_tables import Row, first_problems, read_rows

# the vocabulary of `text_transformer`: words are hashed to the numbers below it
VOCABULARY = 8192
# tokens of a text without the option `length`
DEFAULT_LENGTH = 128
# labels that a message shows
SHOWN_LABELS = 5

# rows with their numbers in the file
Part: TypeAlias = list[tuple[int, Row]]
Tokenize: TypeAlias = Callable[[list[str], int], dict[str, Tensor]]


def read_texts(path: Path, options: dict[str, str]) -> Source:
    """Read a table with a text and a label in each row.

    Every column but text, label and id is a group column. Without a column of ids, the id of a row is its number in the
    file, from 0.

    Args:
        path: The table.
        options: Options of the data spec:

            - `test`: table of test texts. Default: a fixed fifth of each class.
            - `tokenizer`: folder that `save_pretrained` wrote. If its `config.json` names the classes, their numbers are
              used. Default: hash the words.
            - `length`: tokens to keep of each text. Default 128.
            - `text`, `label`, `id`: names of the columns.

    Raises:
        MissingExtra: pyarrow or transformers is not installed and needed.
        ExpungeError: Files, columns or rows cannot be used. Lists every problem.
    """
    columns = {k: options.get(k, k) for k in ("text", "label", "id")}
    files = [path, *([Path(options["test"]).expanduser()] if "test" in options else [])]
    tables = [read_rows(file) for file in files]
    raise_all(
        [p for f, rows in zip(files, tables, strict=True) for p in _table_problems(f, rows, columns, options)]
    )
    labels = [[str(row[columns["label"]]) for row in rows] for rows in tables]
    folder = Path(options["tokenizer"]).expanduser() if "tokenizer" in options else None
    classes, numbers = _classes(labels[0], folder)
    if unknown := sorted({n for of_table in labels for n in of_table} - set(numbers)):
        raise ExpungeError(
            f"{files[-1]} has the labels {unknown[:SHOWN_LABELS]}, which {path} does not have; add training texts of these classes."
        )
    tokenize = _hash_words if folder is None else _tokenizer(folder)
    length = int(options.get("length", DEFAULT_LENGTH))
    parts = _parts(tables, np.array([numbers[label] for label in labels[0]]), len(classes))

    def data(part: Part, ids: list[str] | None) -> TensorData:
        rows = [row for _, row in part]
        texts = [str(row[columns["text"]]) for row in rows]
        return TensorData(
            tokenize(texts, length),
            torch.tensor([numbers[str(row[columns["label"]])] for row in rows]),
            ids=ids,
            groups=_groups(rows, columns),
            classes=classes,
            name=path.stem,
            read_as=f"length={length}",
            texts=texts,
        )

    train, test = (
        data(part, ids) for part, ids in zip(parts, _ids(tables, parts, columns["id"]), strict=True)
    )
    return Source(train, test, classes, input_shape(train), path.stem)


def _parts(tables: list[list[Row]], labels: np.ndarray, classes: int) -> list[Part]:
    """The training and the test rows, each with its number in its file."""
    numbered = [list(enumerate(rows)) for rows in tables]
    if len(tables) > 1:
        return numbered
    in_test = held_out(labels, classes)
    return [[numbered[0][k] for k in np.flatnonzero(in_test == test)] for test in (False, True)]


def _ids(tables: list[list[Row]], parts: list[Part], column: str) -> list[list[str] | None]:
    """The ids of the training and the test rows."""
    have_ids = [all(column in row for row in rows) for rows in tables]
    given = [[str(row.get(column)) for _, row in part] for part in parts]
    row_numbers = [[str(number) for number, _ in part] for part in parts]
    # In a test file, equal row numbers are other rows than in the training file.
    test_ids = row_numbers[1] if len(tables) == 1 else None
    return [given[0] if have_ids[0] else row_numbers[0], given[1] if all(have_ids) else test_ids]


def _table_problems(
    file: Path, rows: Sequence[Row], columns: Mapping[str, str], options: Mapping[str, str]
) -> list[str]:
    """One sentence per missing column, else per row without a text, label or id."""
    if not rows:
        return [f"{file} has no rows; give texts with labels."]
    existing = sorted({str(k) for row in rows for k in row})
    needed = {k: v for k, v in columns.items() if k != "id" or "id" in options}
    problems = [
        f"{file} has the columns {existing}, not '{name}'; name your columns: text=COLUMN&label=COLUMN."
        for name in needed.values()
        if name not in existing
    ]
    if problems:
        return problems
    problems = [
        f"{file}: row {number} has no {what}; complete or remove it."
        for number, row in enumerate(rows, 1)
        for what, name in needed.items()
        if row.get(name) is None or not str(row[name]).strip()
    ]
    return first_problems(file, problems)


def _classes(labels: Sequence[str], folder: Path | None) -> tuple[list[str], dict[str, int]]:
    """The class names in order, and the class number of each label."""
    config = _read_config(folder)
    id2label = {int(k): str(v) for k, v in config.get("id2label", {}).items()}
    # The order that the checkpoint in the folder was trained with.
    model_classes = (
        [id2label[k] for k in range(len(id2label))] if set(id2label) == set(range(len(id2label))) else []
    )
    existing = set(labels)
    are_numbers = all(t.isascii() and t.isdigit() for t in existing)
    if existing <= set(model_classes):
        names = model_classes
    elif are_numbers and max(map(int, existing)) < len(model_classes):
        by_number = {str(k): k for k in range(len(model_classes))}
        return model_classes, {t: int(t) for t in existing} | by_number
    else:
        # Of stars from 1 to 5, the first class is "1".
        names = sorted(existing, key=lambda t: (int(t), t)) if are_numbers else sorted(existing)
    return names, {name: k for k, name in enumerate(names)}


def _read_config(folder: Path | None) -> dict[str, Any]:
    """The `config.json` of a folder of transformers. Empty if there is none."""
    file = None if folder is None else folder / "config.json"
    if file is None or not file.is_file():
        return {}
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ExpungeError(
            f"{file} cannot be read: {type(error).__name__}: {error}; give a folder that save_pretrained wrote."
        ) from error
    return config if isinstance(config, dict) else {}


def _tokenizer(folder: Path) -> Tokenize:
    """A function that makes model inputs (N, T) of texts and a length T."""
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise MissingExtra("tokenizing texts", "text") from error
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    # transformers raises many types of errors for folders without a tokenizer.
    except Exception as error:
        raise ExpungeError(
            f"{folder} has no tokenizer ({type(error).__name__}); give a folder that tokenizer.save_pretrained wrote."
        ) from error
    if tokenizer.pad_token is None:
        raise ExpungeError(
            f"the tokenizer in {folder} has no padding token; set tokenizer.pad_token and save it again."
        )

    def tokenize(texts: list[str], length: int) -> dict[str, Tensor]:
        return dict(
            tokenizer(texts, truncation=True, max_length=length, padding="max_length", return_tensors="pt")
        )

    return tokenize


def _hash_words(texts: list[str], length: int) -> dict[str, Tensor]:
    """Model inputs (N, T): each word as a number from 1 to 8,191, and 0 for padding."""
    tokens = torch.zeros(len(texts), length, dtype=torch.int64)
    for n, text in enumerate(texts):
        words = re.findall(r"\w+", text.lower())[:length]
        numbers = [zlib.crc32(word.encode()) % (VOCABULARY - 1) + 1 for word in words]
        tokens[n, : len(words)] = torch.tensor(numbers).long()
    return {"input_ids": tokens, "attention_mask": (tokens != 0).long()}


def _groups(rows: Sequence[Row], columns: Mapping[str, str]) -> dict[str, list[str]]:
    """The group columns: all but text, label and id."""
    names = {k for row in rows for k in row} - set(columns.values())
    return {
        str(n): ["" if row.get(n) is None else str(row[n]) for row in rows] for n in sorted(map(str, names))
    }
