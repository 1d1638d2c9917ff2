"""Search files for a secret in every form in which a program may have written it."""

from __future__ import annotations

import base64
import gzip
import io
import json
import sqlite3
import zipfile
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote, quote_plus

# characters of base64 that depend on what stands before and after the secret
EDGE = 4


def forms(secret: str) -> dict[str, bytes]:
    """The secret as text, escaped, in percent-encoding, hexadecimal and in base64 at each of the three offsets."""
    raw = secret.encode()
    found = {
        "text": raw,
        "utf-16": secret.encode("utf-16-le"),
        "json": json.dumps(secret)[1:-1].encode(),
        "repr": repr(raw)[2:-1].encode(),
        "percent": quote(secret, safe="").encode(),
        "percent, lower": quote(secret, safe="").lower().encode(),
        "form": quote_plus(secret).encode(),
        "path": quote(secret).encode(),
        "hex": raw.hex().encode(),
        "reversed": raw[::-1],
    }
    for offset in range(3):
        for name, encode in (("base64", base64.b64encode), ("url base64", base64.urlsafe_b64encode)):
            found[f"{name} {offset}"] = encode(b"\0" * offset + raw)[EDGE:-EDGE]
        found[f"base32 {offset}"] = base64.b32encode(b"\0" * offset + raw)[8:-8]
    return found


def contents(path: Path) -> list[bytes]:
    """The bytes of a file, and those of the members of archives, of gzip, and of the values of a database."""
    data = path.read_bytes()
    found = [data, path.name.encode()]
    with suppress(OSError, EOFError, ValueError):
        found.append(gzip.decompress(data))
    with suppress(zipfile.BadZipFile, OSError), zipfile.ZipFile(io.BytesIO(data)) as archive:
        found += [archive.read(name) for name in archive.namelist()]
    if data.startswith(b"SQLite format 3"):
        with sqlite3.connect(path) as database:
            found.append("\n".join(database.iterdump()).encode())
    return found


def leaks(place: Path | str, secrets: dict[str, str]) -> list[str]:
    """Where a secret is: "secret NAME in FILE as FORM". `place` is a folder, hidden files included, or a text."""
    if isinstance(place, str):
        texts = [("the text", [place.encode()])]
    else:
        texts = [(str(p.relative_to(place)), contents(p)) for p in sorted(place.rglob("*")) if p.is_file()]
    return [
        f"secret {name} in {where} as {form}"
        for where, parts in texts
        for name, secret in secrets.items()
        for form, value in forms(secret).items()
        if any(value in part for part in parts)
    ]
