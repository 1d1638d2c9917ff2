"""The metadata of a checkpoint: which model it holds, on which samples and by which method it was trained.

Commands write it with every checkpoint, and check it before they use a checkpoint.
"""

from __future__ import annotations

import json
from typing import Any, Literal

from ..data.split import Split
from ..errors import CheckpointError
from ..version import __version__
from .checkpoint import Checkpoint
from .record import plain, settings_of
from .request_file import public_requests

Role = Literal["original", "retrain", "unlearn"]

# parts of a split's description that messages show
_SHOWN = ("scenario", "forget_classes", "goal", "validation", "validation_from", "unseen_ids", "seed", "copies",
          "copies_included")  # fmt: skip
# entries of a split's description -> their flags
_FLAGS = {"goal": "--goal", "validation": "--validation", "validation_from": "--validation-from", "unseen_ids": "--unseen-ids",
          "seed": "--split-seed", "copies": "--copies"}  # fmt: skip
_FORGET_FLAGS = ("scenario", "forget_classes", "share", "count", "column")
# what to do with an original that saw the samples that were drawn for validation
ADVICE = "add --validation-from test"


def metadata_for(role: Role, split: Split, method: Any, seed: int) -> dict[str, str]:
    """Return the metadata of a checkpoint, as text values.

    `train_hash` names the samples that the parameters come from: forget and retain set for an original and for a model that
    was unlearned from one; nothing for a retrained model. An original belongs to no forget set, so it has no `split_hash`.

    Args:
        role: What the model is: an original, the retrained reference, or an unlearned model.
        split: The split it was made on.
        method: The method that made it, for an original its recipe.
        seed: Seed of the run.
    """
    if method.exact and role == "unlearn":
        role = "retrain"  # the result of `expunge unlearn retrain` never saw the forget set
    return {
        "expunge": __version__,
        "kind": role,
        "train_hash": "" if role == "retrain" else split.train_hash,
        "split_hash": "" if role == "original" else split.hash,
        "split": json.dumps(
            {
                k: v
                for k, v in plain(split.to_dict()).items()
                if k not in ("group_values", "forget_hash", "copies_found", "waiting")
            }
        ),
        "seed": str(seed),
        "inputs": split.retain.data.input_options,
        **_request_metadata(role, split, method),
        **({"recipe": _settings(method)} if role != "unlearn" else {}),
        "method": method.name(),
        "settings": _settings(method),
    }


def _request_metadata(role: Role, split: Split, method: Any) -> dict[str, str]:
    """Return the requests that a model has answered, as text, and what a retrained model was trained on."""
    requests = [e.past for e in split.earlier]
    if role != "original":
        requests.append(split.as_request(method.name()))
    answered = {"requests": json.dumps(plain([r.public() for r in requests]))} if requests else {}
    return {**answered, **({"retain_hash": split.retain_hash} if role == "retrain" else {})}


def check_role(checkpoint: Checkpoint, role: Literal["original", "retrained"]) -> None:
    """Raise `CheckpointError` if the metadata says that a checkpoint has another role. No split is needed for this check.

    Args:
        checkpoint: The checkpoint.
        role: What it is used as: the original, or the retrained reference.
    """
    metadata, path = checkpoint.metadata, checkpoint.path
    trained_on = metadata.get("train_hash")
    if role == "original" and trained_on == "":
        raise CheckpointError(
            f"{path} was trained without a forget set: it is a retrained model, no original; give it to --retrained."
        )
    if role == "retrained" and trained_on:
        found = "an unlearned model" if metadata.get("kind") == "unlearn" else "an original"
        raise CheckpointError(
            f"{path} is {found}, not trained without the forget set; make the reference with `expunge train --without-forget`."
        )


def check_original(checkpoint: Checkpoint, split: Split, *, same_data: bool = True) -> str | None:
    """Check that a checkpoint can be the original of a split.

    Args:
        checkpoint: The checkpoint.
        split: The split.
        same_data: Whether the model must have been trained on the split's forget and retain set.

    Returns:
        A sentence for the user where the metadata does not settle the question, else None.

    Raises:
        CheckpointError: The model was not trained on this split's forget and retain set.
    """
    trained_on, path = checkpoint.metadata.get("train_hash"), checkpoint.path
    if trained_on is None:
        start = f"{path.name} does not say which samples it was trained on; "
        if len(split.unseen) and not split.validation_from_test and "unseen_ids" not in split.spec:
            return f"{start}if it saw the whole training set, {ADVICE}."
        # all of the data: sets of the split lack what earlier requests removed
        tests = len(split.test.data)
        return f"{start}it is taken to have seen all {len(split.train):,} training and none of the {tests:,} test samples."
    check_role(checkpoint, "original")
    _check_inputs(checkpoint, split)
    if same_data and trained_on != split.train_hash:
        drawn = split_description(checkpoint)
        raise CheckpointError(
            f"{path} was trained on other samples than this split's forget + retain (its validation draw: "
            f"share {drawn.get('validation', '?')} of the {'test' if 'validation_from' in drawn else 'training'} set, seed "
            f"{drawn.get('seed', '?')}); give {_flags_to_give(drawn, split, forget=False)} (a function for --data must return the same "
            "samples at every call)."
        )
    return None


def check_retrained(checkpoint: Checkpoint, split: Split) -> str | None:
    """Check that a checkpoint can be the reference of a split: a model retrained without its forget set.

    Returns:
        A sentence for the user where the metadata does not settle the question, else None.

    Raises:
        CheckpointError: The model is an original, an unlearned model, or retrained without another forget set.
    """
    metadata, path = checkpoint.metadata, checkpoint.path
    if "train_hash" not in metadata:
        return (
            f"{path.name} does not say which samples it was trained on; every gap is measured from it, so be sure that "
            "it never saw the forget set."
        )
    check_role(checkpoint, "retrained")
    _check_inputs(checkpoint, split)
    drawn = split_description(checkpoint)
    # the reference of one request of a sequence is that of all: it never saw any of them
    if metadata.get("retain_hash", split.retain_hash) == split.retain_hash and (
        "retain_hash" in metadata or drawn.get("hash") == split.hash
    ):
        return None
    if drawn.get("hash") != split.hash:
        raise CheckpointError(
            f"{path} was retrained for another split ({_in_words(drawn)}) than this one ({_in_words(split.to_dict())}); give "
            f"{_flags_to_give(drawn, split)}, or retrain for this split."
        )
    return None


def check_audited(checkpoint: Checkpoint, split: Split) -> None:
    """Raise `CheckpointError` for a model whose metadata names another forget set or other training samples."""
    metadata, path = checkpoint.metadata, checkpoint.path
    _check_inputs(checkpoint, split)
    answered = {entry["request"] for entry in public_requests(checkpoint)}
    if metadata.get("split_hash") not in (None, "", split.hash) and split.request not in answered:
        drawn = split_description(checkpoint)
        raise CheckpointError(
            f"{path} was made for another split ({_in_words(drawn)}) than this one ({_in_words(split.to_dict())}); give "
            f"{_flags_to_give(drawn, split)}, with which it was made."
        )
    if metadata.get("train_hash") not in (None, "", split.train_hash):
        check_original(checkpoint, split)


def _check_inputs(checkpoint: Checkpoint, split: Split) -> None:
    """Raise `CheckpointError` for a model trained on inputs of another size or normalisation than this data."""
    trained_with, now = checkpoint.metadata.get("inputs"), split.retain.data.input_options
    if trained_with is not None and trained_with != now:
        texts = {t: f"with {t}" if t else "as they are" for t in (trained_with, now)}
        raise CheckpointError(
            f"{checkpoint.path} was trained on images {texts[trained_with]} and the data came {texts[now]}; give --data the same "
            "options."
        )


def split_description(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return how the split of a checkpoint was drawn (`Split.to_dict`); empty where the metadata does not say it."""
    try:
        description = json.loads(checkpoint.metadata.get("split", "{}"))
    except (ValueError, RecursionError):
        return {}
    return description if isinstance(description, dict) else {}


def _flags_to_give(drawn: dict[str, Any], split: Split, *, forget: bool = True) -> str:
    """Return the flags in which a split differs from the one of a checkpoint, with the values of the checkpoint.

    Args:
        drawn: The description of the checkpoint's split. If it is empty, all flags are named.
        split: The split of this command.
        forget: Whether the forget sets must be the same. An original has none.
    """
    names = _FLAGS if forget else {k: v for k, v in _FLAGS.items() if k not in ("goal", "copies")}
    same = f"the same data{' and forget flags' if forget else ''}"
    if not drawn:
        return f"{same}, and the same {', '.join(names.values())}"
    now = plain(split.to_dict())
    parts = [
        _flag_text(flag, drawn.get(key)) for key, flag in names.items() if drawn.get(key) != now.get(key)
    ]
    if forget and any(drawn.get(key) != now.get(key) for key in _FORGET_FLAGS):
        parts = ["the same forget flags", *parts]
    return " and ".join(parts) or same


def _flag_text(flag: str, value: Any) -> str:
    """Return what to write for a flag. Of ids a split only knows the number."""
    if flag == "--unseen-ids" and value is not None:
        return f"{flag} with its file of {value:,} ids"
    return f"no {flag}" if value is None else f"{flag} {value}"


def _settings(method: Any) -> str:
    return json.dumps(settings_of(method))


def _in_words(description: dict[str, Any]) -> str:
    shown = {k: v for k, v in description.items() if k in _SHOWN and v != []}
    return ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in shown.items()) or "not said"
