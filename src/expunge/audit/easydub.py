"""Read predictions of model populations in the format of EasyDUB ("Easy Data Unlearning Bench", arXiv:2602.16400).

The published folder has margins, and logits of the same layout, of models with and without a forget set Z:

    margins/cifar10/pretrain/{retain,val}/resnet9/id_X_epoch_23.npy   original X; its "retain" has all training samples
    margins/cifar10/pretrain/forget_Z/resnet9/id_X_epoch_23.npy
    margins/cifar10/oracle/forget_Z/{retain,forget,val}/resnet9/id_X_epoch_23.npy   retrained model X
    forget_sets/cifar10/forget_set_Z.npy   positions of the forget set in the training set

Unlearned models are not part of it. Here they stand beside "oracle", in a folder of the same layout, or in a file .npz
with the arrays `forget`, `retain` and `val` of margins (models, samples), or of logits (models, samples, classes).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..errors import ExpungeError, raise_all
from ..sources.archives import read_arrays, read_numbers
from .lira import scaled_logit
from .population_figures import Values
from .populations import Floats

# The names of the sets in the format, and here.
SETS = {"forget": "forget", "retain": "retain", "val": "test"}
RETRAINED, ORIGINAL = "oracle", "pretrain"
FILE = re.compile(r"id_(\d+)_epoch_\d+\.npy")
# Halves of a population are compared, and each half needs two models.
FEWEST = 4


def read_easydub(
    folder: Path,
    forget_set: int,
    *,
    unlearned: str = ORIGINAL,
    models: int | None = None,
    labels: Path | None = None,
) -> Values:
    """Read the margins of retrained, original and unlearned models from a folder in the format of EasyDUB.

    Args:
        folder: The folder, with "margins" or "logits" and "forget_sets".
        forget_set: Number of the forget set.
        unlearned: Name of the folder of the unlearned models beside "oracle", or a file .npz. The default, "pretrain",
            takes the originals themselves.
        models: Number of models of each population. By default as many as all populations have.
        labels: File .npz with the class numbers `train` (N,) and `val` (M,). Only logits need it.

    Returns:
        {"retrained", "original", "unlearned": {"forget", "retain", "test": margins (models, samples)}}. Model k of
        "unlearned" comes from model k of "original".

    Raises:
        ExpungeError: With every problem: missing or broken files, wrong shapes, NaN, too few models.

    Example:
        >>> values = read_easydub(Path("EasyDUB-dataset"), 1, models=100)  # doctest: +SKIP
    """
    if models is not None and models < FEWEST:
        raise ExpungeError(f"models is {models}; give {FEWEST} or more: halves of a population are compared.")
    names = {"retrained": RETRAINED, "original": ORIGINAL}
    archive = Path(unlearned) if unlearned.endswith(".npz") else None
    if archive is None:
        names["unlearned"] = unlearned
    reader = _Reader(folder, forget_set)
    reader.open(labels)
    files = {p: {s: reader.files(name, s) for s in SETS} for p, name in names.items()}
    raise_all(reader.problems, ExpungeError)
    shared = sorted(set.intersection(*(set(f) for row in files.values() for f in row.values())))[:models]
    values = {
        p: {s: reader.stack([f[k] for k in shared]) for s, f in row.items()} for p, row in files.items()
    }
    if archive is not None:
        values["unlearned"] = reader.archive(archive, models)
    raise_all(reader.problems, ExpungeError)
    margins: Values = {
        p: {SETS[s]: reader.margins(f"{names.get(p, archive)}, {s}", s, v) for s, v in row.items()}
        for p, row in values.items()
    }
    raise_all(reader.problems or _population_problems(margins, models), ExpungeError)
    count = min(len(v) for row in margins.values() for v in row.values())
    return {p: {s: v[:count] for s, v in row.items()} for p, row in margins.items()}


@dataclass
class _Reader:
    """Read the files of one forget set, and collect the problems."""

    folder: Path
    forget_set: int
    problems: list[str] = field(default_factory=list)
    root: Path = Path()
    labels: dict[str, np.ndarray] = field(default_factory=dict)
    indices: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def open(self, labels: Path | None) -> None:
        """Find the predictions of the folder, and read the positions of the forget set and the labels."""
        quantity = next((q for q in ("margins", "logits") if (self.folder / q).is_dir()), None)
        if quantity is None:
            raise ExpungeError(
                f"{self.folder} has neither a folder 'margins' nor 'logits'; name a folder in the format of EasyDUB."
            )
        self.root = _only_folder(self.folder / quantity)
        path = self.folder / "forget_sets" / self.root.name / f"forget_set_{self.forget_set}.npy"
        indices = self._load(path)
        if indices is not None and indices.ndim == 1 and indices.dtype.kind in "iu":
            self.indices = indices.astype(np.int64)
        if indices is not None and np.unique(self.indices).size != indices.size:
            self.problems.append(
                f"{path} is {indices.dtype} of shape {indices.shape}; it must hold different whole numbers, shape (n,)."
            )
        if labels is not None:
            self._read_labels(labels)
        elif quantity == "logits":
            self.problems.append(
                f"{self.folder} has logits and no margins, so the labels are needed; give a file .npz with `train` and `val`."
            )

    def _read_labels(self, path: Path) -> None:
        arrays = read_arrays(path)
        wrong = [
            f"{path} has no array `{name}` of whole numbers, shape (N,); write the class numbers of the samples."
            for name in ("train", "val")
            if name not in arrays or arrays[name].ndim != 1 or arrays[name].dtype.kind not in "iu"
        ]
        self.problems += wrong
        if wrong:
            return
        train, inside = arrays["train"], self.indices[self.indices < len(arrays["train"])]
        self.labels = {"forget": train[inside], "retain": np.delete(train, inside), "val": arrays["val"]}

    def files(self, population: str, name: str) -> dict[int, Path]:
        """Return {model number: file} of a population on one set."""
        forget = f"forget_{self.forget_set}"
        parent = self.root / population / forget / name
        if population == ORIGINAL:
            parent = self.root / population / (forget if name == "forget" else name)
        try:
            parent = _only_folder(parent)
        except ExpungeError as error:
            self.problems += error.problems
            return {}
        files: dict[int, Path] = {}
        for path in sorted(parent.glob("*.npy")):
            if match := FILE.fullmatch(path.name):
                if int(match[1]) in files:
                    self.problems.append(
                        f"{parent} has two files of model {match[1]}; leave one epoch of each."
                    )
                files[int(match[1])] = path
        if not files:
            self.problems.append(f"{parent} has no files id_X_epoch_Y.npy, one for each model X.")
        return files

    def stack(self, files: list[Path]) -> Floats:
        """Return the arrays of some models as one array (models, ...)."""
        rows = {path: row for path in files if (row := self._load(path)) is not None}
        shapes = [row.shape for row in rows.values()]
        usual = max(set(shapes), key=shapes.count, default=())
        unequal = [path for path, row in rows.items() if row.shape != usual]
        self.problems += [
            f"{path} has shape {rows[path].shape}, and the files beside it {usual}; all models need the same samples."
            for path in unequal
        ]
        return np.zeros((0, 0)) if unequal or not rows else np.stack(list(rows.values()))

    def archive(self, path: Path, models: int | None) -> dict[str, Floats]:
        """Return the arrays of an archive with the predictions of the unlearned models."""
        arrays = read_arrays(path)
        if missing := [name for name in SETS if name not in arrays]:
            self.problems.append(
                f"{path} has the arrays {sorted(arrays)} and lacks {missing}; name them forget, retain and val."
            )
        return {name: arrays[name][:models] for name in SETS if name in arrays}

    def margins(self, place: str, name: str, values: Floats) -> Floats:
        """Return margins (models, samples) of margins or logits, without forget samples in "retain"."""
        if values.ndim not in (2, 3) or values.dtype.kind != "f":
            self.problems.append(
                f"{place}: {values.dtype} of shape {values.shape}; give margins (models, samples) or logits (models, samples, "
                "classes) as floats."
            )
            return np.zeros((0, 0))
        if name == "retain" and self._has_all_training(place, values.shape[1]):
            values = np.delete(values, self.indices, axis=1)
        if np.isnan(values).any():
            models = np.isnan(values).reshape(len(values), -1).any(1).sum()
            self.problems.append(f"{place}: {models} models have NaN; leave out the models that diverged.")
        if values.ndim == 2:
            return values
        labels = self.labels.get(name)
        if labels is None or len(labels) != values.shape[1] or labels.max(initial=0) >= values.shape[2]:
            given = "none" if labels is None else f"{len(labels)} up to {labels.max(initial=0)}"
            self.problems.append(
                f"{place}: logits of shape {values.shape} need one label from 0 for each sample, and there are {given}."
            )
            return np.zeros((0, 0))
        return scaled_logit(values, labels)

    def _has_all_training(self, place: str, samples: int) -> bool:
        """Return whether predictions on "retain" are those on all training samples, as those of the originals are."""
        if place.startswith(f"{ORIGINAL},"):
            if (self.indices >= samples).any():
                self.problems.append(
                    f"the forget set has the position {self.indices.max()}, but {place} has {samples} samples."
                )
                return False
            return True
        return bool(self.labels) and samples == sum(len(self.labels[s]) for s in ("forget", "retain"))

    def _load(self, path: Path) -> np.ndarray | None:
        try:
            return read_numbers(path)
        # a broken file can raise nearly anything
        except Exception as error:
            text = f"{path} cannot be read: {error}; write it with np.save, without objects."
            self.problems += error.problems if isinstance(error, ExpungeError) else [text]
        return None


def _only_folder(parent: Path) -> Path:
    folders = sorted(p for p in parent.glob("*") if p.is_dir())
    if len(folders) != 1:
        names = ", ".join(p.name for p in folders) or "none"
        raise ExpungeError(f"{parent} must have one folder inside; it has {names}.")
    return folders[0]


def _population_problems(margins: Values, models: int | None) -> list[str]:
    problems = []
    for name in SETS.values():
        sizes = {population: row[name].shape[1] for population, row in margins.items()}
        if len(set(sizes.values())) > 1:
            listed = ", ".join(f"{population} {size}" for population, size in sizes.items())
            problems.append(f"the populations have different numbers of {name} samples: {listed}.")
    for population, row in margins.items():
        count = min(len(v) for v in row.values())
        if count < (models or FEWEST):
            wanted = models or FEWEST
            problems.append(
                f"there are {count} {population} models for all sets; at least {wanted} are needed."
            )
    return problems
