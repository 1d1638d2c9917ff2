"""The private file beside a checkpoint that keeps the requests the model has answered, with the ids of their samples.

A checkpoint that is handed over says that requests were answered, but not whose. The file stays with its owner: without
it, a later run could not know which samples it must not train on.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

from ..data.id_file import read_ids
from ..data.past_requests import Goal, PastRequest
from ..data.split_sets import hash_parts
from ..errors import CheckpointError, raise_all
from .atomic_files import atomic
from .checkpoint import Checkpoint
from .file_names import beside, existing_beside
from .record import plain
from .request_entries import CONTENTS, entry_problems

FORMAT = "expunge-requests/v1"
SUFFIX = ".requests.json"


def requests_path(checkpoint: Path) -> Path:
    """Return the path of the request file of a checkpoint: `model.requests.json` beside `model.safetensors`."""
    return beside(checkpoint, SUFFIX)


def write_requests(path: Path | str, requests: Sequence[PastRequest]) -> Path:
    """Write requests, atomically, readable by their owner only, and return the path.

    Raises:
        ExpungeError: Nothing can be written there.
    """
    content = {"format": FORMAT, "requests": plain(requests)}
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
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path} cannot be read as a file of requests: {error}; give the .requests.json file that a run wrote beside its checkpoint."
        ) from error
    entries = content.get("requests") if isinstance(content, dict) else None
    if not isinstance(entries, list) or content.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} is no file of requests in the format {FORMAT}; give the .requests.json file of a run."
        )
    problems = [text for at, entry in enumerate(entries, 1) for text in entry_problems(path, at, entry)]
    raise_all(problems, CheckpointError)
    names = {f.name for f in fields(PastRequest)}
    return [PastRequest(**{k: _tupled(v) for k, v in entry.items() if k in names}) for entry in entries]


def _tupled(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def public_requests(checkpoint: Checkpoint) -> list[dict[str, Any]]:
    """Return what a checkpoint's metadata says of the requests that its model answered, the first one first.

    A checkpoint of an earlier version names its last request only.
    """
    metadata = checkpoint.metadata
    try:
        listed = json.loads(metadata.get("requests", "null"))
        split = json.loads(metadata.get("split", "{}"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{checkpoint.path} has metadata that is no JSON: {error}; use an intact copy."
        ) from error
    if isinstance(listed, list) and all(map(_is_public, listed)):
        return listed
    if listed is not None:
        raise CheckpointError(
            f"{checkpoint.path} has a wrong list of requests in its metadata; use an intact copy."
        )
    if metadata.get("kind") != "unlearn" or not metadata.get("split_hash") or not isinstance(split, dict):
        return []
    whole, sizes = split.get("goal") == "unlearn", split.get("sizes", {})
    request = {
        "request": metadata["split_hash"],
        "scenario": split.get("scenario", "unknown"),
        "goal": split.get("goal", "untrain"),
        "classes": split.get("forget_classes", []) if whole else [],
        "method": metadata.get("method", "unknown"),
        "count": sizes.get("forget", 0) if isinstance(sizes, dict) else None,
    }
    if not _is_public(request):
        raise CheckpointError(
            f"{checkpoint.path} has a wrong description of its split in its metadata; use an intact copy."
        )
    return [request]


def _is_public(entry: Any) -> bool:
    """Whether an entry of the metadata names a request as `PastRequest.public` does."""
    if not isinstance(entry, dict) or not isinstance(entry.get("request"), str):
        return False
    classes = entry.get("classes", [])
    return (
        entry.get("goal", "unlearn") in get_args(Goal)
        and isinstance(classes, list)
        and CONTENTS["classes"](classes)
        and type(entry.get("count", 0)) is int
    )


def answered_requests(
    checkpoint: Checkpoint, history: Path | None = None, current: str = ""
) -> list[PastRequest]:
    """Return the requests that the model of a checkpoint has answered, with the ids of their samples.

    Args:
        checkpoint: The checkpoint.
        history: The request file, or a text file with ids. By default the request file beside the checkpoint.
        current: Hash of a request (`Split.request`) whose ids are known already, so that no file is needed for it.

    Raises:
        CheckpointError: The file is missing or belongs to another model. Requests for whole classes need no file.
    """
    if history is not None and history.suffix != ".json":
        # ids that another tool removed, besides what the checkpoint has answered itself
        return [*answered_requests(checkpoint, None, current), *read_requests(history)]
    public = public_requests(checkpoint)
    path = history or requests_path(checkpoint.path)
    if history is None and "requests" in checkpoint.metadata:
        path = existing_beside(checkpoint.path, SUFFIX)
    if history is not None or path.exists():
        requests = read_requests(path)
        if path.suffix == ".json" and "requests" in checkpoint.metadata:
            _check_belongs(path, checkpoint, requests, {e["request"]: e for e in public})
        return requests
    unknown = [e for e in public if not e.get("classes") and e["request"] != current]
    if unknown:
        kinds = ", ".join(f"{e.get('scenario')} with {e.get('count', '?')} samples" for e in unknown)
        raise CheckpointError(
            f"{checkpoint.path} has answered earlier requests ({kinds}), and {path.name} with their ids is missing; give it with "
            "--history, so that no later run learns these samples again."
        )
    return [
        PastRequest(
            request=entry["request"],
            scenario=str(entry.get("scenario")),
            goal=entry.get("goal", "unlearn"),
            ids=(),
            classes=tuple(int(k) for k in entry.get("classes", ())),
            method=str(entry.get("method", "")),
            record=str(entry.get("record", "")),
            receipt=str(entry.get("receipt", "")),
            commitment=str(entry.get("commitment", "")),
        )
        for entry in public
        if entry["request"] != current
    ]


def _check_belongs(
    path: Path, checkpoint: Checkpoint, requests: Sequence[PastRequest], listed: dict[str, Any]
) -> None:
    """Raise `CheckpointError` if a request file lacks requests, or ids of requests, that the metadata lists."""
    if missing := set(listed) - {r.request for r in requests}:
        raise CheckpointError(
            f"{path} lacks {len(missing)} of the {len(listed)} requests that {checkpoint.path} has answered; give the file "
            "that was written with it."
        )
    for number, request in enumerate(requests, 1):
        entry = listed.get(request.request, {})
        for name, value in (("goal", request.goal), ("classes", list(request.classes))):
            if entry.get(name, value) != value:
                raise CheckpointError(
                    f"{path}: request {number} has {name} {value}, and {checkpoint.path} has answered it with {name} "
                    f"{entry[name]}; give the file that was written with it."
                )
        # a request for whole classes may come from a checkpoint whose file is gone: it needs no ids
        if not request.classes and (count := entry.get("count")) not in (None, len(request.ids)):
            raise CheckpointError(
                f"{path} has {len(request.ids):,} ids for a request of {count:,} samples that {checkpoint.path} has answered; "
                "give the file that was written with it."
            )
