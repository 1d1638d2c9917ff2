"""Change valid files: bytes of any file, and the structure of the formats that Expunge reads."""

from __future__ import annotations

import gzip
import io
import random
import re
import sqlite3
import warnings
import zipfile
import zlib
from collections.abc import Callable

from change_json import INTS, json_line, json_text
from change_ledger import database

# {name inside the folder: bytes}
Files = dict[str, bytes]
WORDS = (b"", b"0", b"-1", b"nan", b"inf", b"1e999", b"99999999999999999999", b"null", b"true", b"[]", b"{}", b"[[[[", b'"', b"'", b",", b"\t",
         b"\n", b"\r\n", b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"../../x", b"/dev/zero", b"digits", b"os:system", b"2026-02-30", b"%s%s", b"=",
         b"torch.float32", b"U4", b"F64")  # fmt: skip
BIGGEST = 1 << 22


def mutated(files: Files, others: list[Files], seed: int) -> Files:
    """Return a changed copy of an input. The same arguments give the same result.

    Args:
        files: The input.
        others: Valid inputs of the same kind, from which pieces are taken.
        seed: The seed.
    """
    chance, changed = random.Random(seed), dict(files)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 5))):
        if not changed:
            return changed
        name = chance.choice(sorted(changed))
        if chance.random() < 0.04:
            _whole_file(changed, name, chance)
        else:
            data = changed[name]
            ways = [_bytes, *structured(name, data)]
            other = chance.choice(others).get(name, b"")
            # a format's own changes come first: changed bytes mostly end at the first check
            way = chance.choice(ways[1:]) if len(ways) > 1 and chance.random() < 0.7 else _bytes
            try:
                changed[name] = way(data, chance, other)[:BIGGEST]
            except (ValueError, KeyError, IndexError, OSError, EOFError, RecursionError, zipfile.BadZipFile, zlib.error, sqlite3.Error,
                    NotImplementedError, OverflowError):  # fmt: skip
                changed[name] = _bytes(data, chance, other)[:BIGGEST]
    return changed


def structured(name: str, data: bytes) -> list[Callable[[bytes, random.Random, bytes], bytes]]:
    """Return the changes that know the format of a file."""
    ways: list[Callable[[bytes, random.Random, bytes], bytes]] = []
    if data[:2] == b"PK":
        ways += [_archive, _archive]
    if data[:2] == b"\x1f\x8b":
        ways.append(_gzipped)
    if data[:6] == b"SQLite":
        ways.append(database)
    if name.endswith(".safetensors") or data[8:9] == b"{":
        ways.append(_safetensors)
    if data[:1] in (b"{", b"["):
        ways.append(json_text)
    if name.endswith((".toml", ".csv", ".tsv", ".txt", ".jsonl", ".pub", ".json")):
        ways.append(_text)
    if name.endswith(".jsonl"):
        ways.append(json_line)
    if name.endswith((".npy",)) or data[:6] == b"\x93NUMPY":
        ways.append(_array)
    return ways


def _whole_file(files: Files, name: str, chance: random.Random) -> None:
    """Remove, empty, copy or swap a file."""
    what = chance.randrange(4)
    if what == 0:
        del files[name]
    elif what == 1:
        files[name] = b""
    elif what == 2:
        files[f"{name}.copy"] = files[name]
    else:
        files[name] = files[chance.choice(sorted(files))]


def _bytes(data: bytes, chance: random.Random, other: bytes) -> bytes:
    """Change any bytes."""
    value = bytearray(data)
    at = chance.randrange(len(value) + 1)
    end = min(len(value), at + chance.choice((1, 2, 4, 8, 64, 512)))
    what = chance.randrange(8)
    if what == 0 and value:
        value[min(at, len(value) - 1)] ^= 1 << chance.randrange(8)
    elif what == 1:
        return bytes(value[:at])
    elif what == 2:
        del value[at:end]
    elif what == 3:
        value[at:at] = value[at:end] * chance.choice((1, 2, 100))
    elif what == 4:
        size = chance.choice((1, 2, 4, 8))
        number = chance.choice(INTS) % (1 << 8 * size)
        value[at : at + size] = number.to_bytes(size, chance.choice(("little", "big")))
    elif what == 5:
        value[at:at] = chance.choice(WORDS)
    elif what == 6 and other:
        start = chance.randrange(len(other))
        value[at:end] = other[start : start + chance.choice((1, 4, 16, 256))]
    else:
        value[at:end] = chance.randbytes(end - at)
    return bytes(value)


def _text(data: bytes, chance: random.Random, other: bytes) -> bytes:
    """Replace, remove, double or swap words and lines."""
    lines = data.splitlines(keepends=True)
    k = chance.randrange(len(lines))
    what = chance.randrange(5)
    if what == 0:
        del lines[k]
    elif what == 1:
        lines.insert(k, chance.choice(lines))
    elif what == 2:
        j = chance.randrange(len(lines))
        lines[k], lines[j] = lines[j], lines[k]
    else:
        words = re.split(rb"(\W)", lines[k])
        words[chance.randrange(len(words))] = chance.choice(WORDS)
        lines[k] = b"".join(words)
    return b"".join(lines)


def _safetensors(data: bytes, chance: random.Random, other: bytes) -> bytes:
    """Change the JSON header, with the right length."""
    length = int.from_bytes(data[:8], "little")
    header = json_text(data[8 : 8 + length], chance, other)
    return len(header).to_bytes(8, "little") + header + data[8 + length :]


def _archive(data: bytes, chance: random.Random, other: bytes) -> bytes:
    """Change one entry of a zip archive (torch, NumPy), with a right checksum, or the list of entries."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = [(info.filename, archive.read(info)) for info in archive.infolist()]
    k = chance.randrange(len(entries))
    name, content = entries[k]
    what = chance.randrange(8)
    if what == 0:
        del entries[k]
    elif what == 1:
        entries.append((name, content))
    elif what == 2:
        entries[k] = (chance.choice(["../x", "/x", "", f"{name}x", name.upper(), "a/data.pkl"]), content)
    elif what == 3:
        entries.insert(0, (chance.choice(["x", "archive/data.pkl", "data.pkl"]), chance.randbytes(20)))
    else:
        inner = chance.choice([_bytes, *structured(name, content)])
        entries[k] = (name, inner(content, chance, content))
    out = io.BytesIO()
    # two entries of one name are meant
    with (
        warnings.catch_warnings(action="ignore"),
        zipfile.ZipFile(
            out, "w", chance.choice((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
        ) as archive,
    ):
        for name, content in entries:
            archive.writestr(zipfile.ZipInfo(name), content)
    return out.getvalue()


def _gzipped(data: bytes, chance: random.Random, other: bytes) -> bytes:
    inside = bytearray(gzip.decompress(data))
    if chance.random() < 0.7:
        inside[4 * chance.randrange(4) :][:4] = b""
        at = 4 * chance.randrange(4)
        inside[at : at + 4] = (chance.choice(INTS) % 2**32).to_bytes(4, "big")
    else:
        inside = bytearray(_bytes(bytes(inside), chance, b""))
    return gzip.compress(bytes(inside), mtime=0)


def _array(data: bytes, chance: random.Random, other: bytes) -> bytes:
    """Change the header of a NumPy array, with the right length."""
    length = int.from_bytes(data[8:10], "little")
    header = _text(data[10 : 10 + length], chance, b"")
    for word in (b"<f4", b"<i8", b"|u1"):
        if chance.random() < 0.3:
            header = header.replace(
                word, chance.choice((b"|O", b">f8", b"<M8[s]", b"<U9999", b"|V3", b"<c16", b"|b1", b"<f2"))
            )
    return data[:8] + len(header).to_bytes(2, "little") + header + data[10 + length :]
