"""The seal of `state.json`: an authentication tag of every entry, so that a change by hand is found and named.

The key is derived from the random name that the ledger of the project got when it was made. It never leaves the folder,
except with an export of the ledger. A person who has the ledger can compute a new seal.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..receipts.ledger_name import ledger_name

# entry of `state.json` with the tags
SEAL = "seal"
_USE = b"expunge-project-state/v1"
# hex digits of the tag of one entry
_SHORT = 32


def seal_key(ledger: str) -> bytes:
    """Return the key (32 bytes) that belongs to the random name of a ledger."""
    return hmac.digest(ledger.encode(), _USE, "sha256")


def sealed(state: Mapping[str, Any], key: bytes) -> dict[str, Any]:
    """Return a state with its seal."""
    # the values as JSON gives them back: tuples become lists
    plain = json.loads(json.dumps({k: v for k, v in state.items() if k != SEAL}))
    tags = {name: _tag(key, name, value)[:_SHORT] for name, value in _parts(plain).items()}
    return {**plain, SEAL: {"entries": tags, "all": _tag(key, "all", list(tags.items()))}}


def seal_problems(state: Mapping[str, Any], key: bytes) -> list[str]:
    """Return which entries of a state were changed, added or removed since it was sealed, a phrase each."""
    seal = state.get(SEAL)
    if not isinstance(seal, dict) or not isinstance(seal.get("entries"), dict):
        return ["it has no seal, which earlier versions did not write"]
    parts, tags = _parts({k: v for k, v in state.items() if k != SEAL}), seal["entries"]
    changed = [n for n in parts if n in tags and _tag(key, n, parts[n])[:_SHORT] != tags[n]]
    problems = [
        *(f"{name} was changed" for name in changed),
        *(f"{name} was added" for name in parts if name not in tags),
        *(f"{name} was removed" for name in tags if name not in parts),
    ]
    if not problems and seal.get("all") != _tag(key, "all", list(tags.items())):
        return ["entries were removed or put in another order, together with their seals"]
    return problems


def _parts(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return {name: value} of what is sealed: each entry, and each request on its own."""
    requests = state.get("requests", ())
    parts = {f"the entry {name}": value for name, value in sorted(state.items()) if name != "requests"}
    return parts | {f"request {r['number']}": r for r in requests}


def _tag(key: bytes, name: str, value: Any) -> str:
    text = json.dumps([name, value], sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hmac.digest(key, text.encode(), "sha256").hex()


def broken_seal(path: Path, state: Mapping[str, Any], ledger: Path) -> list[str]:
    """Return what `path`, the file of a state, has that Expunge did not write, as a sentence. A missing ledger has no key.

    Raises:
        ExpungeError: The ledger cannot be read.
    """
    changes = seal_problems(state, seal_key(ledger_name(ledger))) if ledger.is_file() else []
    if not changes:
        return []
    return [
        f"{path} was changed outside of Expunge: {'; '.join(changes)}; restore it from a backup, or "
        "compare it with the ledger and accept it as it is with `expunge status --accept`."
    ]
