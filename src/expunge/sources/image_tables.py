"""Tables (CSV, TSV, JSON lines or parquet) that list image files with their labels and any other columns."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..data.id_forms import encodable
from ..data.label_order import in_order
from ..errors import ExpungeError, raise_all
from .folders import TEXT, ImageFolder
from .images import image_data, image_resize
from .labels import label_names
from .source import Source
from .table_rows import check_same_labels, check_tables, groups_of, part_ids, row_parts
from .tables import Table, first_problems, tables_of

# Columns that may hold the path of an image. The first that exists is used.
IMAGE_COLUMNS = ("image", "path", "file", "filename", "file_name", "image_path", "filepath")


def read_image_table(path: Path, options: dict[str, str], known: Sequence[str] = ()) -> Source:
    """Read a table with the path of an image and a label in each row.

    Every other column is a group column. The id of an image is its path as the table has it, unless there is a column of ids.

    Args:
        path: The table.
        options: Options of the data spec: those of images, and

            - `image`: the column of the paths. Default: the first of `IMAGE_COLUMNS` that exists.
            - `label`, `id`: names of the columns. Default: `label` and `id`.
            - `root`: the folder that paths are relative to. Default: the folder of the table.
            - `test`: a table of test images. Default: a fixed fifth of each class.

        known: Classes that come first, in this order, also without samples.

    Raises:
        MissingExtra: pyarrow is needed for parquet and is not installed.
        ExpungeError: Files, columns or rows cannot be used. Lists every problem.
    """
    resize = image_resize(options)
    root = Path(options["root"]).expanduser() if "root" in options else path.parent
    files = [path, *([Path(options["test"]).expanduser()] if "test" in options else [])]
    tables = tables_of(files)
    image = options.get("image") or next(
        (c for c in IMAGE_COLUMNS if c in tables[0].columns), IMAGE_COLUMNS[0]
    )
    columns = {"image": image, "label": options.get("label", "label"), "id": options.get("id", "id")}
    check_tables(tables, columns, "id" in options, known)
    labels = [label_names([row[columns["label"]] for row in table.rows], known) for table in tables]
    classes = in_order(labels[0], known)
    number = {name: k for k, name in enumerate(classes)}
    check_same_labels(tables, labels, number)
    if len(classes) < 2:
        raise ExpungeError(f"{path} has one class, '{classes[0]}'; give images of two classes or more.")
    y = [np.array([number[label] for label in of_table]) for of_table in labels]
    # missing files are told with their lines, unless no file is to be opened
    names = [_file_names(table, image, root, options.get("check") != "0") for table in tables]
    has_ids = columns["id"] in tables[0].columns
    problems = [] if has_ids else [p for table in tables for p in _repeated(table, image)]
    raise_all(problems)
    parts = row_parts(y, len(classes))
    given = part_ids(tables, parts, columns["id"], image)
    data = []
    for part, ids in zip(parts, given, strict=True):
        rows = [tables[part.table].rows[k] for k in part.rows]
        if columns["id"] not in tables[part.table].columns:
            ids = [str(row[image]) for row in rows]
        paths = np.array([names[part.table][k] for k in part.rows], TEXT)
        images = ImageFolder(root, paths, y[part.table][part.rows], resize)
        groups = groups_of(rows, set(columns.values()))
        data.append(
            image_data(images, classes, encodable(path.stem), ids, groups, int(options.get("workers", 0)))
        )
    root_of_ids = "" if has_ids else str(root)
    return Source(data[0], data[1], classes, resize.shape, encodable(path.stem), root=root_of_ids)


def _repeated(table: Table, image: str) -> list[str]:
    """One sentence per path that occurs more than once: it is the id of a sample."""
    seen: set[str] = set()
    problems = []
    for k, row in enumerate(table.rows):
        if (path := str(row[image])) in seen:
            problems.append(
                f"{table.place(k)} names {path} again; remove the row, or give a column of ids (id=COLUMN)."
            )
        seen.add(path)
    return first_problems(table.file, problems)


def _file_names(table: Table, image: str, root: Path, check: bool) -> list[str]:
    """The paths of the images as the disk has them. Raises `ExpungeError` that lists those that do not exist."""
    names, problems = [], []
    for k, row in enumerate(table.rows):
        path = str(row[image])
        name = next((form for form in _forms(path) if os.path.isfile(root / form)), None) if check else path
        if name is None:
            problems.append(
                f"{table.place(k)}: there is no file {root / path}; correct it, or give root=FOLDER."
            )
        names.append(name or path)
    raise_all(first_problems(table.file, problems))
    return names


def _forms(path: str) -> list[str]:
    """Ways that the disk may write a path: other Unicode forms, and slashes for backslashes."""
    forms = [path, *(unicodedata.normalize(form, path) for form in ("NFC", "NFD"))]
    return list(dict.fromkeys([*forms, *(form.replace("\\", "/") for form in forms)]))
