"""Data sets of the library `datasets` (Hugging Face): images or texts, with any columns as groups."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..data.id_forms import encodable
from ..data.label_order import in_order
from ..data.resize import Resize
from ..errors import ExpungeError, MissingExtra, raise_all
from ..hub_cache import repository_name, snapshot_of
from .hub_columns import chosen_columns
from .images import DecodedImages, image_data, image_resize
from .labels import label_names
from .source import Source
from .table_rows import check_same_labels, check_tables, groups_of, part_ids, row_parts
from .tables import Table
from .texts import texts_of

# Splits that may be the test set. The first that exists is used.
TEST_SPLITS = ("test", "validation", "valid", "val", "dev")


class HuggingFaceImages(DecodedImages):
    """The images of one column.

    Args:
        rows: The data set with that column alone, not decoded.
        column: The column.
        positions: Rows (N,) of the images.
        labels: Class numbers (N,).
        resize: Makes all images one size.
        name: Name of the split, for messages.
    """

    def __init__(
        self, rows: Any, column: str, positions: np.ndarray, labels: np.ndarray, resize: Resize, name: str
    ):
        super().__init__(labels, resize)
        self.rows, self.column, self.positions, self.name = rows, column, positions, name

    def open(self, index: int) -> Any:
        from PIL import Image

        cell = self.rows[int(self.positions[index])][self.column]
        if cell is None:
            raise ValueError("there is no image")
        return Image.open(io.BytesIO(cell["bytes"]) if cell["bytes"] is not None else cell["path"])

    def place(self, index: int) -> str:
        return f"{self.name}: row {int(self.positions[index]) + 1}"


def read_hugging_face(path: Path, options: dict[str, str], known: Sequence[str] = ()) -> Source:
    """Read a data set by its name on the Hub, from a folder of `save_to_disk`, or from a folder that `load_dataset` reads.

    Every column but image or text, label and id is a group column, if it holds texts or numbers. Without a column of ids, the id
    of a sample is its row in the split, from 0.

    Args:
        path: Name or folder.
        options: Options of the data spec: those of images or texts, and

            - `split`, `test_split`: names of the splits. Default: "train", and the first of `TEST_SPLITS` that exists. Without a
              test split, a fixed fifth of each class is held out.
            - `config`: the configuration ("subset") of the data set.
            - `image` or `text`: the column. Default: the only column of images, else "text".
            - `label`: the column. Default: the only one of type ClassLabel, else "label".
            - `id`: a column of ids. Default: `id` if it exists.

        known: Classes that come first, in this order, also without samples.

    Raises:
        MissingExtra: `datasets` or transformers is needed and not installed.
        ExpungeError: The data set cannot be read, or columns or rows cannot be used. Lists every problem.
    """
    # a folder of the cache may hold several states of the data
    path = (snapshot_of(path, "datasets") or path) if path.is_dir() else path
    splits = _loaded(path, options.get("config"))
    names = _split_names(path, splits, options)
    parts = [splits[name] for name in names]
    features = parts[0].features
    columns = chosen_columns(path, parts[0], options)
    raise_all(
        [
            f"{path}: the split {name} has the columns {sorted(part.features)}, the split {names[0]} {sorted(features)}; give "
            "both the same."
            for name, part in zip(names, parts, strict=True)
            if set(part.features) != set(features)
        ]
    )
    class_order = getattr(features[columns["label"]], "names", None)
    tables = [_table(path, name, part, columns, class_order) for name, part in zip(names, parts, strict=True)]
    if "text" in columns:
        return texts_of(tables, columns, options, repository_name(path), class_order, known)
    return _images(path, names, parts, tables, columns, class_order, options, known)


def _images(
    path: Path,
    names: list[str],
    splits: list[Any],
    tables: list[Table],
    columns: dict[str, str],
    class_order: Sequence[str] | None,
    options: dict[str, str],
    known: Sequence[str],
) -> Source:
    """The images of one or two splits."""
    from datasets import Image

    # `datasets` turns images by their EXIF orientation, so a model that was trained with it has seen them turned.
    resize = image_resize({"exif": "1", **options})
    image = columns["image"]
    cells = {k: v for k, v in columns.items() if k != "image"}
    check_tables(tables, cells, "id" in options, known)
    labels = [label_names([row[columns["label"]] for row in table.rows], known) for table in tables]
    classes = in_order(labels[0], known) if class_order is None else list(class_order)
    check_same_labels(tables, labels, dict.fromkeys(classes, 0))
    number = {name: k for k, name in enumerate(classes)}
    y = [np.array([number[label] for label in of_table]) for of_table in labels]
    rows = [
        s.select_columns([image]).cast_column(image, Image(decode=False)).with_format(None) for s in splits
    ]
    parts = row_parts(y, len(classes))
    data = []
    for part, ids in zip(parts, part_ids(tables, parts, columns["id"]), strict=True):
        where = f"{path}[{names[part.table]}]"
        of_part = y[part.table][part.rows]
        images = HuggingFaceImages(rows[part.table], image, part.rows, of_part, resize, where)
        cells_of = [tables[part.table].rows[k] for k in part.rows]
        groups = groups_of(cells_of, set(columns.values()))
        data.append(
            image_data(
                images, classes, encodable(repository_name(path)), ids, groups, int(options.get("workers", 0))
            )
        )
    by_row = columns["id"] not in tables[0].columns
    return Source(data[0], data[1], classes, resize.shape, encodable(repository_name(path)), row_ids=by_row)


def _loaded(path: Path, config: str | None) -> Mapping[str, Any]:
    """{split: data set}. Code in the data set's folder is never run."""
    try:
        import datasets
    except ImportError as error:
        raise MissingExtra("reading data sets of Hugging Face", "datasets") from error
    silent = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        if (path / "dataset_dict.json").is_file() or (path / "state.json").is_file():
            loaded = datasets.load_from_disk(str(path))
        else:
            loaded = _by_name(datasets, path, config)
    # The library raises many types of errors.
    except Exception as error:
        reason = (str(error).strip() or "no reason given").splitlines()[0][:300]
        raise ExpungeError(
            f"hf:{path} cannot be read: {type(error).__name__}: {reason}; give the name of a data set on the Hub, a folder of "
            "save_to_disk, or a folder that datasets.load_dataset reads."
        ) from error
    finally:
        if not silent:
            datasets.enable_progress_bars()
    return loaded if isinstance(loaded, Mapping) else {str(getattr(loaded, "split", None) or "train"): loaded}


def _by_name(datasets: Any, path: Path, config: str | None) -> Any:
    """What `load_dataset` gives for a name or folder. Where it reaches no hub, a name is looked up among downloaded snapshots."""
    try:
        return datasets.load_dataset(str(path), config)
    except Exception:
        snapshot = None if path.exists() else snapshot_of(path, "datasets")
        if snapshot is None:
            raise
        warnings.warn(
            f"hf:{path} is read from the snapshot {snapshot.name[:12]} in the cache of the hub, since the hub gave nothing.",
            stacklevel=6,
        )
        return datasets.load_dataset(str(snapshot), config)


def _split_names(path: Path, splits: Mapping[str, Any], options: dict[str, str]) -> list[str]:
    """The names of the training split and, if there is one, of the test split."""
    train = options.get("split", "train" if "train" in splits or len(splits) > 1 else next(iter(splits)))
    test = options.get("test_split", next((s for s in TEST_SPLITS if s in splits and s != train), None))
    names = [train, *([test] if test else [])]
    raise_all(
        [
            f"hf:{path} has the splits {sorted(splits)}, not '{name}'; name one: split=NAME&test_split=NAME."
            for name in names
            if name not in splits
        ]
        + [f"hf:{path}: split and test_split are both '{train}'; give two." for _ in (0,) if test == train]
    )
    return names


def _table(
    path: Path, split: str, data: Any, columns: dict[str, str], class_order: Sequence[str] | None
) -> Table:
    """The cells of the split that hold texts and numbers, with class names for class numbers."""
    kept = [n for n, f in data.features.items() if type(f).__name__ in ("Value", "ClassLabel")]
    rows = data.with_format(None).select_columns(kept).to_list()
    of_names = {n: f.names for n, f in data.features.items() if type(f).__name__ == "ClassLabel"}
    if class_order is not None and of_names.get(columns["label"]) != list(class_order):
        raise ExpungeError(
            f"{path}[{split}] has the classes {of_names.get(columns['label'])} and not {list(class_order)}; give both splits the same."
        )
    for row in rows:
        for name, names in of_names.items():
            # -1 says that a sample has no label
            row[name] = names[row[name]] if row[name] is not None and 0 <= row[name] < len(names) else None
    return Table(Path(f"{path}[{split}]"), rows, [], typed=True)
