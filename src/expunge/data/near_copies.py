"""Near copies: perceptual hashes of images, MinHash of texts and tokens, and a search that compares no sample with all others.

A signature is one row of numbers per sample. It is cut into bands. Two samples are compared only if they agree in a whole band
(locality-sensitive hashing), so the cost grows with the number of samples and not with its square.

The perceptual hash is pHash (Zauner, 2010) with 256 bits; MinHash is Broder's (1997) with 64 values. imagehash and datasketch
offer both for one image or text at a time. Here a batch of tensors is hashed at once, without another dependency.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

Kind = Literal["perceptual hash", "MinHash"]

# lowest share of equal bits of two perceptual hashes: 24 of 256 bits may differ
IMAGE_SIMILARITY = 1 - 24 / 256
# lowest estimated share of common word triples of two texts
TEXT_SIMILARITY = 0.7
# low frequencies per axis that a perceptual hash keeps
FREQUENCIES = 16
# Smaller images have no perceptual hash: the kept frequencies would be all there are, and the highest are noise.
SHORTEST_SIDE = 24
BANDS = 16
# MinHash values per text
HASHES = 64
# words that count as one unit of a text
SHINGLE = 3
# forget samples that a sample is compared with in one band; it bounds the cost where many samples are alike
MOST_PER_BAND = 32
# pairs or units of a text that are handled at a time
CHUNK = 1 << 16
LUMINANCE = (0.299, 0.587, 0.114)

_generator = np.random.default_rng(0)
# The bits of a band come from low and high frequencies alike: the low ones of many images agree.
_BIT_ORDER = _generator.permutation(FREQUENCIES**2)
_FACTORS = _generator.integers(1, 1 << 63, size=HASHES, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
_OFFSETS = _generator.integers(0, 1 << 63, size=HASHES, dtype=np.uint64)
_MIX = _generator.integers(1, 1 << 63, size=SHINGLE, dtype=np.uint64) * np.uint64(2) + np.uint64(1)


@dataclass(frozen=True, eq=False)
class NearPairs:
    """Hold the samples that have a near copy among the forget samples, each with the most similar one.

    Args:
        others: Rows (P,) of the samples, in ascending order.
        forget: Rows (P,) of the forget samples that they are near copies of.
        similarity: Similarity (P,), from 0 to 1.
    """

    others: np.ndarray
    forget: np.ndarray
    similarity: np.ndarray


def is_image(x: Tensor) -> bool:
    """Return whether inputs are images that a perceptual hash can tell apart: (n, C, H, W), 24 pixels or more a side."""
    return x.ndim == 4 and x.shape[1] in (1, 3, 4) and min(x.shape[2:]) >= SHORTEST_SIDE


def image_signatures(x: Tensor) -> np.ndarray:
    """Return perceptual hashes (n, 16) uint16 of images (n, C, H, W).

    A bit says whether one of the 16 x 16 lowest frequencies of the grey image is above their median.
    """
    pixels = x.detach().cpu().float()
    if pixels.shape[1] == 1:
        grey = pixels[:, 0]
    else:
        grey = (pixels[:, :3] * torch.tensor(LUMINANCE)[:, None, None]).sum(1)
    low = (_cosines(grey.shape[1]) @ grey @ _cosines(grey.shape[2]).T).flatten(1)
    bits = (low > low.median(dim=1, keepdim=True).values).numpy()
    return np.ascontiguousarray(np.packbits(bits[:, _BIT_ORDER], axis=1)).view(np.uint16)


def _cosines(length: int) -> Tensor:
    """The lowest 16 rows of the cosine transform (DCT-II) of a signal of this length."""
    frequency, position = torch.arange(FREQUENCIES).double(), torch.arange(length).double()
    return torch.cos(torch.pi * frequency[:, None] * (position + 0.5) / length).float()


def word_numbers(text: str) -> np.ndarray:
    """Return one number per word of a text, for `token_signature`."""
    return np.array([zlib.crc32(word.encode()) for word in re.findall(r"\w+", text)], np.uint64)


def token_signature(tokens: np.ndarray) -> np.ndarray:
    """Return the MinHash (64,) uint32 of a text, whose words or tokens are whole numbers (T,).

    The units are three words in a row. A shorter text is one unit.
    """
    numbers = tokens.astype(np.uint64) + np.uint64(1)
    if len(numbers) < SHINGLE:
        numbers = np.concatenate([numbers, np.zeros(SHINGLE - len(numbers), np.uint64)])
    last = len(numbers) - SHINGLE + 1
    mixed = sum(_scramble(numbers[k : last + k]) * _MIX[k] for k in range(SHINGLE))
    units = _scramble(np.unique(mixed))
    lowest = np.full(HASHES, np.iinfo(np.uint64).max, np.uint64)
    for start in range(0, len(units), CHUNK // HASHES):
        part = units[start : start + CHUNK // HASHES, None] * _FACTORS + _OFFSETS
        lowest = np.minimum(lowest, part.min(axis=0))
    return (lowest >> np.uint64(32)).astype(np.uint32)


def _scramble(numbers: np.ndarray) -> np.ndarray:
    """Spread numbers over 64 bits (the finaliser of SplitMix64)."""
    z = numbers.astype(np.uint64)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def near_pairs(forget: np.ndarray, others: np.ndarray, kind: Kind) -> NearPairs:
    """Find the samples that are near copies of forget samples.

    Args:
        forget: Signatures (F, L) of the forget samples.
        others: Signatures (n, L) of the samples to look at.
        kind: What the signatures are.
    """
    least = IMAGE_SIMILARITY if kind == "perceptual hash" else TEXT_SIMILARITY
    best, partner = np.zeros(len(others)), np.full(len(others), -1)
    for keys, other_keys in zip(_band_keys(forget), _band_keys(others), strict=True):
        for rows, candidates in _candidates(keys, other_keys):
            similarity = _similarity(forget[candidates], others[rows], kind)
            kept = np.flatnonzero((similarity >= least) & (similarity > best[rows]))
            # in ascending order, so that the most similar of several is written last
            kept = kept[np.argsort(similarity[kept], kind="stable")]
            best[rows[kept]], partner[rows[kept]] = similarity[kept], candidates[kept]
    where = np.flatnonzero(partner >= 0)
    return NearPairs(where, partner[where], best[where])


def _band_keys(signatures: np.ndarray) -> list[np.ndarray]:
    """One number per sample for each band."""
    bands = np.split(signatures.astype(np.uint64), BANDS, axis=1)
    return [sum(_scramble(band[:, k] + np.uint64(k)) for k in range(band.shape[1])) for band in bands]  # type: ignore[misc]


def _candidates(keys: np.ndarray, other_keys: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield rows of other samples and of forget samples (both (P,)) that agree in one band, some at a time."""
    order = np.argsort(keys, kind="stable")
    sorted_keys = keys[order]
    first = np.searchsorted(sorted_keys, other_keys, "left")
    count = np.minimum(np.searchsorted(sorted_keys, other_keys, "right") - first, MOST_PER_BAND)
    hits = np.flatnonzero(count)
    step = CHUNK // MOST_PER_BAND
    for start in range(0, len(hits), step):
        of = hits[start : start + step]
        rows = np.repeat(of, count[of])
        ends = np.cumsum(count[of])
        within = np.arange(len(rows)) - np.repeat(ends - count[of], count[of])
        yield rows, order[first[rows] + within]


def _similarity(a: np.ndarray, b: np.ndarray, kind: Kind) -> np.ndarray:
    """The share of equal bits of perceptual hashes, or of equal values of MinHashes: (P,)."""
    if kind == "perceptual hash":
        return 1 - np.bitwise_count(a ^ b).sum(axis=1, dtype=np.int64) / FREQUENCIES**2
    return (a == b).mean(axis=1)
