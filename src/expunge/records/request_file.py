"""The private file beside a checkpoint that keeps the requests the model has answered, with the ids of their samples.

A checkpoint that is handed over says that requests were answered, but not whose. The file stays with its owner: without
it, a later run could not know which samples it must not train on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from ..data.id_file import read_ids
from ..data.past_requests import PastRequest
from ..data.split_sets import hash_parts
from ..errors import CheckpointError, raise_all
from .atomic_files import atomic
from .file_names import beside
from .keyed import KEY_SIZE
from .record import plain
from .request_entries import entry_problems

FORMAT, EARLIER_FORMAT = "expunge-requests/v2", "expunge-requests/v1"
SUFFIX = ".requests.json"
_KEY = re.compile(rf"([0-9a-f]{{{2 * KEY_SIZE}}})?")


def requests_path(checkpoint: Path) -> Path:
    """Return the path of the request file of a checkpoint: `model.requests.json` beside `model.safetensors`."""
    return beside(checkpoint, SUFFIX)


def write_requests(path: Path | str, requests: Sequence[PastRequest], key: bytes | None = None) -> Path:
    """Write requests, atomically, readable by their owner only, and return the path.

    Args:
        path: The file.
        requests: The requests.
        key: The key of the hashes in the metadata of the checkpoint. None if it is not known, or if the hashes are plain.

    Raises:
        ExpungeError: Nothing can be written there.
    """
    content = {"format": FORMAT, "key": key.hex() if key else "", "requests": plain(requests)}
    with atomic(path, private=True) as part:
        part.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return Path(path)


def read_requests(path: Path | str) -> list[PastRequest]:
    """Read the requests of a file that `write_requests` wrote, or a text file with one id per line.

    A text file stands for one request. With it, a model that another tool changed can be given its history.

    Raises:
        CheckpointError: Lists every problem of the file.

    Example:
        >>> read_requests("unlearned.requests.json")  # doctest: +SKIP
        [PastRequest(class [3], 500 samples, goal unlearn, salun)]
    """
    path = Path(path)
    if path.suffix != ".json":
        ids = tuple(dict.fromkeys(read_ids(path, CheckpointError, strip=True)))
        if not ids:
            raise CheckpointError(f"{path} names no id; give one id per line.")
        return [PastRequest(hash_parts(*sorted(ids)), "ids", "untrain", ids, method="unknown")]
    entries = _content(path)["requests"]
    problems = [text for at, entry in enumerate(entries, 1) for text in entry_problems(path, at, entry)]
    raise_all(problems, CheckpointError)
    names = {f.name for f in fields(PastRequest)}
    return [PastRequest(**{k: _tupled(v) for k, v in entry.items() if k in names}) for entry in entries]


def read_key(path: Path) -> bytes | None:
    """Return the key of a request file. None for a file of an earlier version, and for one that says that its key is not known.

    Raises:
        CheckpointError: The file is broken, or its key is missing or wrong.
    """
    return bytes.fromhex(_content(path)["key"]) or None


def _content(path: Path) -> dict[str, Any]:
    """Return the content of a request file, with a list of requests and a sound key."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path} cannot be read as a file of requests: {error}; give the .requests.json file that a run wrote beside its checkpoint."
        ) from error
    is_file = isinstance(content, dict) and isinstance(content.get("requests"), list)
    if not is_file or content.get("format") not in (FORMAT, EARLIER_FORMAT):
        raise CheckpointError(
            f"{path} is no file of requests in the format {FORMAT}; give the .requests.json file of a run."
        )
    if content["format"] == EARLIER_FORMAT:
        return {**content, "key": ""}
    text = content.get("key")
    if not isinstance(text, str) or not _KEY.fullmatch(text):
        raise CheckpointError(
            f"{path} has a wrong or missing key: it is {2 * KEY_SIZE} hex digits, or an empty text if it is not known; restore the file."
        )
    return content


def _tupled(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
