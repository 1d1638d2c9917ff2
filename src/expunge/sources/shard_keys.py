"""The ids of WebDataset samples: their keys, with the shard before them where shards share keys."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

# shared keys that a warning names
SHOWN_KEYS = 3


def shard_names(files: Sequence[Path]) -> list[str]:
    """Return the shortest names that tell shards apart: the file name, or as many folders before it as all of them need.

    They depend neither on the order of the shards, nor on the folder that holds all of them, nor on how its path is written.

    Args:
        files: Paths of different files.

    Example:
        >>> shard_names([Path("a/0.tar"), Path("b/1.tar")])
        ['0.tar', '1.tar']
        >>> shard_names([Path("/x/a/0.tar"), Path("/x/b/0.tar")])
        ['a/0.tar', 'b/0.tar']
    """
    parts = [Path(os.path.abspath(file)).parts for file in files]
    length = 1
    while len({of_file[-length:] for of_file in parts}) < len(set(parts)):
        length += 1
    return ["/".join(of_file[-length:]) for of_file in parts]


def distinct(files: Sequence[Path]) -> list[Path]:
    """Return each file once, in the order of `shard_names`, so that a pattern in another order gives the same samples."""
    once = list({os.path.abspath(file): file for file in files}.values())
    return [file for _, file in sorted(zip(shard_names(once), once, strict=True))]


def sample_ids(keys: Sequence[str], owners: Sequence[int], files: Sequence[Path]) -> list[str]:
    """Return the ids of samples: their keys, or SHARD/KEY for all if shards share keys. A warning names a few shared keys.

    Args:
        keys: The key of each sample.
        owners: The number of the shard of each sample.
        files: The shards.
    """
    if len(set(keys)) == len(keys):
        return list(keys)
    names = shard_names(files)
    _warn_shared(keys, [names[n] for n in owners])
    return [f"{names[n]}/{key}" for n, key in zip(owners, keys, strict=True)]


def _warn_shared(keys: Sequence[str], names: Sequence[str]) -> None:
    """Warn of a few keys that shards share: all ids change for their sake. Shards that number anew share most of their keys.

    Args:
        keys: The key of each sample.
        names: The name of its shard.
    """
    places: dict[str, list[str]] = {}
    for key, name in zip(keys, names, strict=True):
        places.setdefault(key, []).append(name)
    shared = {key: where for key, where in places.items() if len(where) > 1}
    if 2 * len(shared) > len(places):
        return
    first = [f"{key} in {' and '.join(where)}" for key, where in shared.items()][:SHOWN_KEYS]
    more = f" and {len(shared) - SHOWN_KEYS:,} more" if len(shared) > SHOWN_KEYS else ""
    warnings.warn(
        f"{len(shared):,} of {len(places):,} keys are in several shards ({'; '.join(first)}{more}), so all ids are SHARD/KEY. "
        "If the ids were the keys before, rename these samples, or ids of earlier requests name nothing.",
        stacklevel=5,
    )


def image_endings(endings: Mapping[str, int], readable: frozenset[str]) -> list[str]:
    """Return endings such as `img.png` whose last part is that of an image, the most frequent first.

    Args:
        endings: {ending: number of files}.
        readable: Endings of images, without the dot.
    """
    return [ending for ending, _ in Counter(endings).most_common() if ending.rpartition(".")[2] in readable]
