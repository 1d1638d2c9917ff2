"""Tables of labelled texts (CSV, TSV, JSON lines or parquet), tokenized by transformers or by hashing words."""

from __future__ import annotations

import re
import warnings
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from ..data.id_forms import encodable
from ..data.label_order import in_order
from ..data.tensors import TensorData
from ..errors import ExpungeError, MissingExtra
from .class_order import model_classes, read_config, spelled_as
from .labels import label_names
from .padding import set_padding
from .source import Source, input_shape
from .table_rows import Part, check_same_labels, check_tables, groups_of, part_ids, row_parts
from .tables import Table, tables_of

# the vocabulary of `text_transformer`: words are hashed to the numbers below it
VOCABULARY = 8192
# tokens of a text without the option `length`
DEFAULT_LENGTH = 128

# model inputs (N, T) of texts and a length T, and the number of texts that are longer
Tokenize: TypeAlias = Callable[[list[str], int], tuple[dict[str, Tensor], int]]


def read_texts(path: Path, options: dict[str, str], known: Sequence[str] = ()) -> Source:
    """Read a table with a text and a label in each row.

    Every column but text, label and id is a group column. Without a column of ids, the id of a row is its number in the
    file, from 0.

    Args:
        path: The table.
        options: Options of the data spec:

            - `test`: table of test texts. Default: a fixed fifth of each class.
            - `tokenizer`: folder that `save_pretrained` wrote. If its `config.json` names the classes, their numbers are
              used. Default: hash the words.
            - `length`: tokens to keep of each text. Default 128, with a warning if texts are longer.
            - `text`, `label`, `id`: names of the columns.

        known: Classes that come first, in this order, also without samples.

    Raises:
        MissingExtra: pyarrow or transformers is not installed and needed.
        ExpungeError: Files, columns or rows cannot be used. Lists every problem.
    """
    columns = {k: options.get(k, k) for k in ("text", "label", "id")}
    files = [path, *([Path(options["test"]).expanduser()] if "test" in options else [])]
    return texts_of(tables_of(files), columns, options, path.stem, known=known)


def texts_of(
    tables: Sequence[Table],
    columns: dict[str, str],
    options: dict[str, str],
    name: str,
    class_order: Sequence[str] | None = None,
    known: Sequence[str] = (),
) -> Source:
    """Return the texts of tables as a source.

    Args:
        tables: The training table, and possibly the test table.
        columns: {"text", "label" and "id": the column's name}.
        options: The options of `read_texts`.
        name: Name for records.
        class_order: Class names in the order of their numbers. Default: numerical or alphabetical order.
        known: Classes that come first, in this order, also without samples.

    Raises:
        MissingExtra: transformers is needed and not installed.
        ExpungeError: Columns or rows cannot be used. Lists every problem.
    """
    check_tables(tables, columns, "id" in options, known)
    labels = [label_names([row[columns["label"]] for row in table.rows], known) for table in tables]
    folder = Path(options["tokenizer"]).expanduser() if "tokenizer" in options else None
    classes, numbers = _classes(labels[0], folder, class_order, known)
    check_same_labels(tables, labels, numbers)
    tokenize = _hash_words if folder is None else _tokenizer(folder)
    length = int(options.get("length", DEFAULT_LENGTH))
    cut = []
    y = [np.array([numbers[label] for label in of_table]) for of_table in labels]
    parts = row_parts(y, len(classes))

    def data(part: Part, ids: list[str] | None) -> TensorData:
        rows = [tables[part.table].rows[k] for k in part.rows]
        texts = [row[columns["text"]] for row in rows]
        inputs, longer = tokenize(texts, length)
        cut.append(longer)
        return TensorData(
            inputs,
            torch.from_numpy(y[part.table][part.rows]),
            ids=ids,
            groups=groups_of(rows, set(columns.values())),
            classes=classes,
            name=encodable(name),
            read_as=f"length={length}",
            texts=texts,
        )

    train, test = (
        data(p, ids)
        for p, ids in zip(parts, part_ids(tables, parts, columns["id"], columns["text"]), strict=True)
    )
    if sum(cut) and "length" not in options:
        warnings.warn(
            f"{sum(cut):,} of {len(train) + len(test):,} texts are cut at {length} tokens, the default; give length=N as in the training "
            "of the model.",
            stacklevel=4,
        )
    by_row = columns["id"] not in tables[0].columns
    return Source(train, test, classes, input_shape(train), encodable(name), row_ids=by_row)


def _classes(
    labels: Sequence[str], folder: Path | None, class_order: Sequence[str] | None, known: Sequence[str]
) -> tuple[list[str], dict[str, int]]:
    """The class names in order, and the class number of each label."""
    if known and set(labels) <= set(known):
        return list(known), {name: k for k, name in enumerate(known)}
    # The order that the checkpoint in the folder was trained with.
    of_model = model_classes(folder)
    existing = set(labels)
    if of_model and (spelled := spelled_as(existing, of_model)) is not None:
        return spelled, {name: k for k, name in enumerate(spelled)}
    are_numbers = all(name.isascii() and name.isdigit() for name in existing)
    if are_numbers and max(map(int, existing)) < len(of_model):
        return of_model, {name: int(name) for name in existing | set(map(str, range(len(of_model))))}
    # Of stars from 1 to 5, the first class is "1".
    names = in_order(existing, known) if class_order is None else list(class_order)
    return names, {name: k for k, name in enumerate(names)}


def _tokenizer(folder: Path) -> Tokenize:
    """A function that tokenizes texts with the tokenizer in a folder."""
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
    set_padding(tokenizer, folder, read_config(folder))

    def tokenize(texts: list[str], length: int) -> tuple[dict[str, Tensor], int]:
        inputs = dict(
            tokenizer(texts, truncation=True, max_length=length, padding="max_length", return_tensors="pt")
        )
        full = inputs.get("attention_mask", inputs["input_ids"] != tokenizer.pad_token_id).bool().all(1)
        whole = [texts[k] for k in full.nonzero()[:, 0]]
        # `verbose` warns of texts that are too long for the model
        tokens = tokenizer(whole, verbose=False)["input_ids"] if whole else []
        return inputs, sum(len(of_text) > length for of_text in tokens)

    return tokenize


def _hash_words(texts: list[str], length: int) -> tuple[dict[str, Tensor], int]:
    """Number each word from 1 to 8,191; 0 is padding."""
    tokens, cut = torch.zeros(len(texts), length, dtype=torch.int64), 0
    for n, text in enumerate(texts):
        words = re.findall(r"\w+", text.lower())
        words, cut = words[:length], cut + (len(words) > length)
        numbers = [zlib.crc32(word.encode()) % (VOCABULARY - 1) + 1 for word in words]
        tokens[n, : len(words)] = torch.tensor(numbers).long()
    return {"input_ids": tokens, "attention_mask": (tokens != 0).long()}, cut
