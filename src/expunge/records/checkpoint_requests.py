"""The requests that a checkpoint says it has answered, compared with the private request file of its owner."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from ..data.past_requests import Goal, PastRequest
from ..data.split_sets import SplitSets
from ..errors import CheckpointError
from .checkpoint import Checkpoint
from .checkpoint_totals import KEY_ID
from .file_names import existing_beside
from .keyed import agrees, is_plain, keyed, without_key
from .request_entries import CONTENTS
from .request_file import SUFFIX, read_key, read_requests, requests_path


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


def key_of(checkpoint: Checkpoint, history: Path | None = None) -> bytes | None:
    """Return the key of the hashes in the metadata of a checkpoint. None if they are plain, or if no file has the key.

    Args:
        checkpoint: The checkpoint.
        history: The request file. The one beside the checkpoint is read too.

    Raises:
        CheckpointError: A file is broken, or has the key of another checkpoint.
    """
    if not (expected := checkpoint.metadata.get(KEY_ID)):
        return None
    files = [
        f
        for f in (history, existing_beside(checkpoint.path, SUFFIX))
        if f and f.suffix == ".json" and f.exists()
    ]
    others = []
    for file in files:
        if (key := read_key(file)) and agrees(expected, KEY_ID, KEY_ID, key):
            return key
        others += [file] if key else []
    if others:
        raise CheckpointError(
            f"{others[0]} has another key than {checkpoint.path} was written with; give the request file that was written with it."
        )
    return None


def answers(entry: dict[str, Any], split: SplitSets, key: bytes | None) -> bool | None:
    """Return whether a request of the metadata is the one of a split. None if it may be, and only the key would tell.

    Without the key, requests for the same classes are the same: they are public.
    """
    known = agrees(entry["request"], split.request, "request", key)
    if known is not None:
        return known
    classes = list(split.forget_classes) if split.goal == "unlearn" else []
    if entry.get("classes") or classes:
        return entry.get("classes") == classes
    stated = tuple(entry.get(name) for name in ("scenario", "goal", "count"))
    return None if stated == (split.scenario, split.goal, len(split.forget)) else False


def answered_requests(
    checkpoint: Checkpoint,
    history: Path | None = None,
    current: SplitSets | None = None,
    *,
    assume: bool = False,
) -> list[PastRequest]:
    """Return the requests that the model of a checkpoint has answered, with the ids of their samples.

    Args:
        checkpoint: The checkpoint.
        history: The request file, or a text file with ids. By default the request file beside the checkpoint.
        current: The split of a request whose ids are known already, so that no file is needed for it.
        assume: Whether a request that may be the current one is taken as it, where only the key would tell. Nothing must be trained
            then.

    Raises:
        CheckpointError: The file is missing or belongs to another model. Requests for whole classes need no file.
    """
    if history is not None and history.suffix != ".json":
        # ids that another tool removed, besides what the checkpoint has answered itself
        return [*answered_requests(checkpoint, None, current, assume=assume), *read_requests(history)]
    public, key = public_requests(checkpoint), key_of(checkpoint, history)
    path = history or requests_path(checkpoint.path)
    if history is None and "requests" in checkpoint.metadata:
        path = existing_beside(checkpoint.path, SUFFIX)
    if history is not None or path.exists():
        requests = read_requests(path)
        if path.suffix == ".json" and "requests" in checkpoint.metadata:
            _check_belongs(path, checkpoint, requests, public, key)
        return [_with_hash(past, current) for past in requests]
    known = [answers(entry, current, key) if current is not None else False for entry in public]
    own = known.index(True) if True in known else known.index(None) if assume and None in known else -1
    others = [entry for at, entry in enumerate(public) if at != own]
    unknown = [e for e in others if not e.get("classes")]
    if unknown:
        kinds = ", ".join(f"{e.get('scenario')} with {e.get('count', '?')} samples" for e in unknown)
        raise CheckpointError(
            f"{checkpoint.path} has answered earlier requests ({kinds}), and {path.name} with their ids is missing; give it with "
            "--history, so that no later run learns these samples again."
        )
    return [
        PastRequest(
            request=without_key(entry["request"]),
            scenario=str(entry.get("scenario")),
            goal=entry.get("goal", "unlearn"),
            ids=(),
            classes=tuple(int(k) for k in entry.get("classes", ())),
            method=str(entry.get("method", "")),
            record=str(entry.get("record", "")),
            receipt=str(entry.get("receipt", "")),
            commitment=str(entry.get("commitment", "")),
        )
        for entry in others
    ]


def _with_hash(past: PastRequest, current: SplitSets | None) -> PastRequest:
    """Return a request for classes whose hash is not known with that of the current one, if it is for the same classes."""
    if current is None or is_plain(past.request) or not answers(past.public(), current, None):
        return past
    return replace(past, request=current.request)


def _check_belongs(
    path: Path,
    checkpoint: Checkpoint,
    requests: Sequence[PastRequest],
    public: Sequence[dict[str, Any]],
    key: bytes | None,
) -> None:
    """Raise `CheckpointError` if a request file lacks requests, or ids of requests, that the metadata lists."""
    listed = listed_as(requests, public, key)
    if missing := len(public) - len(listed):
        without = key is None and any(not is_plain(e["request"]) for e in public)
        raise CheckpointError(
            f"{path} lacks {'the key of the hashes in' if without else f'{missing} of the {len(public)} requests that'} {checkpoint.path}"
            f"{'' if without else ' has answered'}; give the file that was written with it."
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


def listed_as(
    requests: Sequence[PastRequest], public: Sequence[dict[str, Any]], key: bytes | None
) -> dict[str, dict[str, Any]]:
    """Return {hash of a request: its entry in the metadata} of the requests that the metadata lists."""
    names = {past.request: past.request for past in requests}
    if key is not None:
        names |= {keyed(key, "request", past.request): past.request for past in requests}
    known = [(names.get(e["request"]) or names.get(without_key(e["request"])), e) for e in public]
    return {name: entry for name, entry in known if name}
