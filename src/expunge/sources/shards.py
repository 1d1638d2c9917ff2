"""WebDataset shards: tar files in which `KEY.jpg`, `KEY.cls` and `KEY.json` are one sample.

The headers of a shard are read once. An image is read from its place in the shard when it is asked for.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..data.id_forms import encodable
from ..data.label_order import in_order
from ..data.resize import Resize
from ..errors import raise_all
from .image_walk import readable_suffixes
from .images import DecodedImages, image_data, image_resize, warn_unread
from .labels import label_names
from .shard_keys import distinct, image_endings, sample_ids
from .shard_patterns import expanded
from .source import Source
from .table_rows import check_same_labels, check_tables, groups_of, ids_of_test, row_parts
from .tables import Row, Table

# bytes of the longest label or metadata of a sample
LONGEST_TEXT = 1 << 20
LABEL = "cls"


@dataclass
class Shards:
    """Where the images of a set of shards are, and what else the samples hold.

    Args:
        files: The shards.
        rows: {column: value} of each sample: the label and the metadata.
        keys: The key of each sample.
        at: Shard, offset and size (N, 3) of each image.
        unread: {reason: names} of files that are not read.
    """

    files: list[Path]
    rows: list[Row] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    at: list[tuple[int, int, int]] = field(default_factory=list)
    unread: dict[str, list[str]] = field(default_factory=dict)


class ShardImages(DecodedImages):
    """Images at places of shards.

    Args:
        files: The shards.
        at: Shard, offset and size (N, 3) of each image.
        labels: Class numbers (N,).
        resize: Makes all images one size.
    """

    def __init__(self, files: list[Path], at: np.ndarray, labels: np.ndarray, resize: Resize):
        super().__init__(labels, resize)
        self.files, self.at = files, at

    def open(self, index: int) -> Any:
        from PIL import Image

        shard, offset, size = self.at[index].tolist()
        with self.files[shard].open("rb") as file:
            file.seek(offset)
            return Image.open(io.BytesIO(file.read(size)))

    def place(self, index: int) -> str:
        shard, offset, _ = self.at[index].tolist()
        return f"{self.files[shard]}, byte {offset:,}"


def read_shards(path: Path, options: dict[str, str], known: Sequence[str] = ()) -> Source:
    """Read WebDataset shards.

    The id of a sample is its key; if shards share keys, all ids begin with the name of the shard, with as many folders before it as tell
    equal names apart. Shards are read in the order of these names. Texts and numbers in `KEY.json` are group columns.

    Args:
        path: A folder of `.tar` files, one file, or a pattern such as `train-{000..004}.tar` or `train-*.tar`.
        options: Options of the data spec: those of images, and

            - `test`: shards of test images. Default: a fixed fifth of each class.
            - `image`: the ending of the images, such as `jpg`. Default: every ending that Pillow reads, of which a sample may have one.
            - `label`: the ending of the labels, or an entry of `KEY.json`. Default `cls`.

        known: Classes that come first, in this order, also without samples.

    Raises:
        ExpungeError: Shards are missing, compressed or cut off, or samples have no label. Lists every problem.
    """
    resize, label = image_resize(options), options.get("label", LABEL)
    patterns = [str(path), *([options["test"]] if "test" in options else [])]
    image = options["image"].lstrip(".").lower() if "image" in options else ""
    parts = [_read(pattern, image, label) for pattern in patterns]
    tables = [
        Table(Path(pattern), shards.rows, [], typed=label != LABEL, names=shards.keys)
        for pattern, shards in zip(patterns, parts, strict=True)
    ]
    columns = {"label": label, "id": ""}
    check_tables(tables, columns, needs_id=False, known=known)
    labels = [label_names([row[label] for row in table.rows], known) for table in tables]
    classes = in_order(labels[0], known)
    number = {name: k for k, name in enumerate(classes)}
    check_same_labels(tables, labels, number)
    y = [np.array([number[n] for n in of_table]) for of_table in labels]
    data = []
    for part in row_parts(y, len(classes)):
        shards = parts[part.table]
        rows = [shards.rows[k] for k in part.rows]
        images = ShardImages(shards.files, np.array(shards.at)[part.rows], y[part.table][part.rows], resize)
        ids = [shards.keys[k] for k in part.rows]
        # shards of another set may begin their keys anew
        ids = ids_of_test(parts[0].keys, ids) if part.table else ids
        workers = int(options.get("workers", 0))
        data.append(image_data(images, classes, encodable(path.stem), ids, groups_of(rows, {label}), workers))
    return Source(data[0], data[1], classes, resize.shape, encodable(path.stem))


def _read(pattern: str, image: str, label: str) -> Shards:
    """Read the headers of shards, and the labels and metadata of the samples. `image` is the ending of images; "" for all."""
    readable = frozenset(s.lstrip(".") for s in readable_suffixes())
    suffixes = {image} if image else readable
    shards, problems = Shards(distinct(expanded(pattern))), []
    endings, without = Counter[str](), list[str]()
    for number, file in enumerate(shards.files):
        samples: dict[str, dict[str, tuple[int, int]]] = {}
        try:
            _list_members(file, samples, shards.unread)
        except (tarfile.TarError, OSError, EOFError, ValueError) as error:
            problems.append(
                f"{file} cannot be read as a shard: {error}; give a tar file without compression."
            )
            continue
        found = {
            key: sorted(suffix for suffix in members if suffix in suffixes)
            for key, members in samples.items()
        }
        without += (bare := [key for key, images in found.items() if not images])
        endings.update(ending for key in bare for ending in samples[key])
        with file.open("rb") as opened:
            for key in (key for key, images in found.items() if len(images) == 1):
                try:
                    shards.rows.append(_row(opened, samples[key], label))
                except (ValueError, RecursionError) as error:
                    problems.append(f"{file}: sample {key} cannot be read: {error}; correct or remove it.")
                    continue
                shards.keys.append(key)
                shards.at.append((number, *samples[key][found[key][0]]))
        problems += _several_images(file, found)
    likely = image_endings(endings, readable)[:1]
    if without:
        remedy = f", image={likely[0]} reads these" if likely else ""
        shards.unread[f"without an image{remedy}"] = without
    # before the problems, whose cause may be that these files are not read
    warn_unread(pattern, shards.unread, len(shards.keys))
    if likely and not shards.keys:
        problems.append(_no_image(pattern, image, likely[0]))
    raise_all(problems)
    shards.keys = sample_ids(shards.keys, [number for number, *_ in shards.at], shards.files)
    return shards


def _no_image(pattern: str, image: str, likely: str) -> str:
    known = image or "jpg or another known ending"
    return f"{pattern} has no image that ends in .{known}, but some in .{likely}; give image={likely}."


def _several_images(file: Path, found: dict[str, list[str]]) -> list[str]:
    """Return which samples of a shard hold several images, one sentence for each set of endings. `found` is {key: endings}."""
    several: dict[str, list[str]] = {}
    for key, images in found.items():
        if len(images) > 1:
            several.setdefault(", ".join(images), []).append(key)
    return [
        f"{file}: {len(keys):,} samples hold several images, {endings} (first: {keys[0]}); name the ending of the inputs: "
        f"image={endings.partition(',')[0]}."
        for endings, keys in several.items()
    ]


def _list_members(
    file: Path, samples: dict[str, dict[str, tuple[int, int]]], unread: dict[str, list[str]]
) -> None:
    """Add {key: {ending: (offset, size)}} of the regular files of a shard."""
    length = file.stat().st_size
    # mode "r:" refuses compressed files, in which no place can be found
    with tarfile.open(file, "r:") as archive:
        for member in archive:
            folder, _, name = member.name.removeprefix("./").rpartition("/")
            key, dot, ending = name.partition(".")
            if member.isdir() or not key:
                continue
            shown = encodable(member.name)
            if not member.isreg() or member.issparse() or not dot:
                unread.setdefault("without an ending" if member.isreg() else "links or devices", []).append(
                    shown
                )
                continue
            if member.offset_data + member.size > length:
                raise ValueError(f"it is cut off in {shown}")
            endings = samples.setdefault(encodable(f"{folder}/{key}" if folder else key), {})
            if ending.lower() in endings:
                raise ValueError(f"{shown} occurs twice")
            endings[ending.lower()] = (member.offset_data, member.size)
        end = archive.offset
    with file.open("rb") as opened:
        opened.seek(end)
        # Python's tarfile takes a broken or missing header for the end. The end is a block of zeros.
        if opened.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise ValueError(f"it is cut off or broken at byte {end:,}")


def _row(file: Any, members: dict[str, tuple[int, int]], label: str) -> Row:
    """The label and the metadata of one sample."""
    texts = {ending: _text(file, *members[ending]) for ending in {label, "json"} & set(members)}
    metadata = json.loads(texts["json"]) if "json" in texts else {}
    if not isinstance(metadata, dict):
        raise ValueError("its json is no object with names")
    return {**metadata, **({label: texts[label].strip()} if label in texts else {})}


def _text(file: Any, offset: int, size: int) -> str:
    if size > LONGEST_TEXT:
        raise ValueError(f"its label or json has {size:,} bytes")
    file.seek(offset)
    return file.read(size).decode("utf-8")
