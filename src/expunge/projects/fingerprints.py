"""Fingerprints of all samples of a project: an id names the same sample, with the same contents and label, for ever."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from ..data.copy_hashes import CHANGING, SampleHashes, hashes_of
from ..data.samples import Data, Samples
from ..errors import ExpungeError
from ..records.part_files import private_file
from ..sources.archives import read_arrays
from ..sources.source import Source

# columns of a table of fingerprints; those from COPIED on are the hashes by which copies are found
NAME, CONTENT, SAMPLE, COPIED = range(4)


@dataclass(frozen=True, eq=False)
class Fingerprints:
    """Hold the fingerprints of the training and test samples of a project.

    A table has a row (uint64) per sample: keyed hashes of its id, of id and contents, of id, contents and label, and of its
    contents alone: the inputs, and the normalised text if the data has texts. The last ones are 0 where there is nothing to
    copy. The file shows no id and no contents. With the key, it shows whether a known sample was in the data.

    Args:
        key: Random key of the hashes, 32 bytes.
        train: Table (N, 4 or 5) of the training samples. A project of an earlier version has 3 columns.
        test: Table (M, 4 or 5) of the test samples.
        without_contents: Names of the tables whose contents are not compared, because each reading gives other ones.
        labels: Keyed hashes (K,) of part, id and label of all samples. A project of an earlier version has none.
    """

    key: bytes
    train: np.ndarray
    test: np.ndarray
    without_contents: frozenset[str] = frozenset()
    labels: np.ndarray = field(default_factory=lambda: np.empty(0, np.uint64))

    @classmethod
    def of(cls, source: Source, like: Fingerprints | None = None) -> Fingerprints:
        """Compute the fingerprints of data. Every sample is read once, together with the search for copies.

        Args:
            source: The data.
            like: Fingerprints to compare with: the key is theirs.
        """
        key = secrets.token_bytes(32) if like is None else like.key
        parts = {"train": source.train, "test": source.test}
        without = (
            frozenset(name for name, data in parts.items() if _has_no_contents(data))
            if like is None
            else like.without_contents
        )
        tables = {name: _table(data, key, name not in without) for name, data in parts.items()}
        labels = np.unique(np.concatenate([label_hashes(data, name, key) for name, data in parts.items()]))
        return cls(key, **tables, without_contents=without, labels=labels)

    def extended(self, current: Fingerprints) -> Fingerprints:
        """Return these fingerprints with those of the samples that are new in the data."""
        train, test = _joined(self.train, current.train), _joined(self.test, current.test)
        return replace(self, train=train, test=test, labels=np.union1d(self.labels, current.labels))

    def has_more_than(self, other: Fingerprints) -> bool:
        """Return whether these fingerprints have rows or columns that others lack."""
        names = ("train", "test", "labels")
        return any(getattr(self, name).shape != getattr(other, name).shape for name in names)

    def which(self, ids: Iterable[str]) -> np.ndarray:
        """Return which training samples have one of these ids, bool (N,)."""
        return np.isin(self.train[:, NAME], id_hashes(ids, self.key))

    def copied_of(self, ids: Iterable[str]) -> np.ndarray:
        """Return the hashes (n,) of the contents of the training samples with these ids, as far as they are known."""
        return np.unique(self.train[self.which(ids), COPIED:])

    def __len__(self) -> int:
        return len(self.train) + len(self.test)

    def save(self, path: Path) -> None:
        """Write the file, readable by its owner only."""
        private_file(path)
        with path.open("wb") as file:
            without = np.array(sorted(self.without_contents), dtype="U8")
            key = np.frombuffer(self.key, np.uint8)
            np.savez(
                file,
                key=key,
                train=self.train,
                test=self.test,
                without_contents=without,
                labels=self.labels,
            )

    @classmethod
    def load(cls, path: Path) -> Fingerprints:
        """Read the file. Raises `ExpungeError` if it is damaged."""
        try:
            file = read_arrays(path)
        except ExpungeError as error:
            raise ExpungeError([*error.problems, f"Restore {path} from a backup."]) from error
        # a file of an earlier version has no labels
        file = {"labels": np.empty(0, np.uint64), **file}
        forms = {
            "key": ("u", 1),
            "train": ("u", 2),
            "test": ("u", 2),
            "without_contents": ("U", 1),
            "labels": ("u", 1),
        }
        found = {name: (array.dtype.kind, array.ndim) for name, array in file.items()}
        if found != forms or min(file["train"].shape[1], file["test"].shape[1]) < COPIED:
            raise ExpungeError(f"{path} holds no fingerprints of samples; restore it from a backup.")
        without = frozenset(map(str, file["without_contents"]))
        return cls(file["key"].tobytes(), file["train"], file["test"], without, file["labels"])


def _has_no_contents(data: Data) -> bool:
    hashes = hashes_of(data)
    return CHANGING in hashes.limits or (bool(hashes.limits) and not hashes.exact.any())


def _joined(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Return a table with the rows of new ids, and with the hashes of contents that it lacks."""
    width = max(old.shape[1], new.shape[1])
    joined, new = (np.pad(table, ((0, 0), (0, width - table.shape[1]))) for table in (old, new))
    if old.shape[1] < width:
        rows = {sample: k for k, sample in enumerate(new[:, SAMPLE].tolist())}
        at = np.array([rows.get(sample, -1) for sample in joined[:, SAMPLE].tolist()], np.int64)
        joined[at >= 0, COPIED:] = new[at[at >= 0], COPIED:]
    return np.concatenate([joined, new[~np.isin(new[:, NAME], joined[:, NAME])]])


def _named(name: str, key: bytes) -> hashlib.blake2b:
    """Return the state of a hash that has read an id. Its length comes first: no id can pass for an id and contents."""
    encoded = str(name).encode()
    return hashlib.blake2b(len(encoded).to_bytes(8, "big") + encoded, digest_size=8, key=key)


def id_hashes(ids: Iterable[str], key: bytes) -> np.ndarray:
    """Return the keyed hashes (n,) of ids."""
    return np.frombuffer(b"".join(_named(name, key).digest() for name in ids), np.uint64)


def _copied(hashes: SampleHashes, key: bytes) -> np.ndarray:
    """The keyed hashes (N, K) by which copies are found; 0 for samples that hold nothing that can be copied."""
    count, kinds = hashes.exact.shape[:2]
    rows = np.ascontiguousarray(hashes.exact).reshape(count * kinds, -1)
    digests = (
        hashlib.blake2b(row.tobytes(), digest_size=8, key=key, person=b"contents").digest() for row in rows
    )
    table = np.frombuffer(b"".join(digests), np.uint64).reshape(count, kinds)
    return np.where(hashes.blank[:, None], np.uint64(0), table)


def _table(data: Data, key: bytes, with_contents: bool) -> np.ndarray:
    """The table of a data set. Without ids, the position is the id."""
    count, hashes = len(data), hashes_of(data)
    contents = np.ascontiguousarray(hashes.exact.reshape(count, -1))
    labels = np.ascontiguousarray(data.labels.numpy().reshape(count, -1))
    digests = bytearray()
    for at, name in enumerate(all_ids(data)):
        state = _named(name, key)
        digests += state.digest()
        for part in (contents[at].tobytes() if with_contents else b"", labels[at].tobytes()):
            state.update(part)
            digests += state.digest()
    table = np.frombuffer(bytes(digests), np.uint64).reshape(count, COPIED)
    return np.concatenate([table, _copied(hashes, key)], axis=1)


def all_ids(data: Data) -> list[str]:
    """The ids of all samples. Without ids, the position is the id."""
    return Samples(data, torch.arange(len(data))).ids


def label_hashes(data: Data, part: str, key: bytes) -> np.ndarray:
    """The keyed hashes (N,) of part, id and label of the samples of a data set."""
    values = np.ascontiguousarray(data.labels.numpy().reshape(len(data), -1))
    digests = bytearray()
    for at, name in enumerate(all_ids(data)):
        state = _named(f"label {part} {name}", key)
        state.update(values[at].tobytes())
        digests += state.digest()
    return np.frombuffer(bytes(digests), np.uint64)


def moved(pinned: Fingerprints, current: Fingerprints) -> Mapping[str, np.ndarray]:
    """Return which samples are now in the other part than at first: bool arrays "train" (N,) and "test" (M,).

    Sources without a test set of their own draw it anew when samples are added or removed.
    """
    known = {"train": pinned.train, "test": pinned.test}
    return {
        part: np.isin(table[:, SAMPLE], known[other][:, SAMPLE])
        & ~np.isin(table[:, NAME], known[part][:, NAME])
        for part, other, table in (("train", "test", current.train), ("test", "train", current.test))
    }
