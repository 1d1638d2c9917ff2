"""What of a file must be the same after an undisturbed and after a disturbed run: no dates, seconds or random ids."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sqlite3
import tempfile
from pathlib import Path
from typing import Any

from expunge.records.hashing import state_hash
from expunge.records.torch_reading import read_torch_file

# ids of receipts and of runs are random
RANDOM = re.compile(r"ul-[A-Z2-7]{8,26}|[0-9a-f]{64}|[0-9a-f]{16}(?=\.)")
# entries of JSON files that depend on the clock, the machine, the folder or chance
FLEETING = {"seconds", "seconds_per_step", "time", "at", "peak_memory", "memory", "created", "finished", "date", "day", "received", "due",
            "machine", "versions", "salt", "secret", "seal", "stats", "files", "moves", "receipt", "record", "id", "sha256", "envelope",
            "envelope_sha256", "signature", "commitment", "forget_commitment", "split_commitment", "leaves", "key", "nonce", "progress",
            "command", "places", "owner", "images", "requests_sha256", "mib", "cost"}  # fmt: skip
SKIPPED = (".lock", "__pycache__")


def contents(folder: Path) -> dict[str, bytes]:
    """Return {file: bytes} of a folder. Folders without files count as empty files."""
    found = {}
    for file in sorted(folder.rglob("*")):
        if file.name in SKIPPED:
            continue
        name = file.relative_to(folder).as_posix()
        if file.is_file():
            found[name] = file.read_bytes()
        elif not any(file.iterdir()):
            found[f"{name}/"] = b""
    return found


def fingerprints(folder: Path) -> dict[str, str]:
    """Return {file: fingerprint of what it says}. A file that cannot be read has the fingerprint "broken: why"."""
    return {RANDOM.sub("*", name): fingerprint(folder / name) for name in contents(folder)}


def fingerprint(file: Path) -> str:
    """Return a short text that is equal for files that say the same."""
    if file.is_dir():
        return "empty folder"
    try:
        return _read(file)
    except Exception as error:
        return f"broken: {type(error).__name__}: {error}"


def _read(file: Path) -> str:
    data = file.read_bytes()
    if file.suffix in (".safetensors", ".pt") or file.name == "content":
        return _weights(file, data)
    if file.suffix == ".json":
        return _short(json.dumps(lasting(json.loads(data)), sort_keys=True))
    if file.suffix == ".db":
        return _ledger(file)
    if file.suffix == ".html":
        return "page" if data.rstrip().endswith(b"</html>") else "broken: the page has no end"
    if file.suffix in (".pub", "") or file.suffix == ".pem":
        return "whole" if data else "broken: empty"
    return _short(data.decode("utf-8", "replace"))


def _weights(file: Path, data: bytes) -> str:
    if data[:2] == b"PK":
        return state_hash({k: v for k, v in read_torch_file(file).items() if hasattr(v, "dtype")})
    from safetensors.torch import load

    return state_hash(load(data))


def _ledger(file: Path) -> str:
    """Return the rows of a ledger without what is random: kind, request, status."""
    # a copy: SQLite brings a database whose writer was killed back to its last whole state, and this must not change the folder
    with tempfile.TemporaryDirectory() as folder:
        for part in file.parent.glob(f"{file.name}*"):
            shutil.copy(part, folder)
        db = sqlite3.connect(Path(folder) / file.name)
        rows = db.execute("select kind, request, body from events order by seq").fetchall()
        db.close()
    # the first row names the ledger at random
    bodies = [[kind, request, json.loads(body) if kind != "ledger" else {}] for kind, request, body in rows]
    return f"{len(rows)} rows {_short(json.dumps(lasting(bodies), sort_keys=True))}"


def lasting(value: Any) -> Any:
    """Return JSON without the parts that depend on the clock, the machine or chance."""
    if isinstance(value, dict):
        return {k: lasting(v) for k, v in value.items() if k.lower() not in FLEETING}
    if isinstance(value, list):
        return [lasting(each) for each in value]
    return RANDOM.sub("*", value) if isinstance(value, str) else value


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
