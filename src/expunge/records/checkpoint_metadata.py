"""The metadata of a checkpoint: which model it holds, on which samples and by which method it was trained.

Commands write it with every checkpoint, and check it before they use a checkpoint.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from ..data.past_requests import answered_by
from ..data.split import Split
from ..errors import CheckpointError
from ..version import __version__
from .checkpoint import Checkpoint
from .checkpoint_requests import answers, key_of, public_requests
from .keyed import PRIVATE, agrees, public_entries, with_key
from .record import plain, settings_of
from .request_file import requests_path
from .split_words import flags_to_give, in_words, set_size, split_description

Role = Literal["original", "retrain", "unlearn"]

# what to do with an original that saw the samples that were drawn for validation
ADVICE = "add --validation-from test"


def metadata_for(role: Role, split: Split, method: Any, seed: int, *, key: bytes | None) -> dict[str, str]:
    """Return the metadata of a checkpoint, as text values.

    All hashes that depend on the forgotten samples are keyed: with plain ones, anyone who has the data could test each id.

    `train_hash` names the samples that the parameters come from: forget and retain set for an original and for a model that
    was unlearned from one; nothing for a retrained model. An original belongs to no forget set, so it has no `split_hash`.

    Args:
        role: What the model is: an original, the retrained reference, or an unlearned model.
        split: The split it was made on.
        method: The method that made it, for an original its recipe.
        seed: Seed of the run.
        key: The key of the file (`new_key`), which belongs into its request file. None leaves the hashes plain, for forget sets that
            everyone may know. The `train_hash` of an original is always plain: it names no forget set.
    """
    if method.exact and role == "unlearn":
        role = "retrain"  # the result of `expunge unlearn retrain` never saw the forget set
    texts = {
        "expunge": __version__,
        "kind": role,
        "train_hash": "" if role == "retrain" else split.train_hash,
        "split_hash": "" if role == "original" else split.hash,
        "split": json.dumps({k: v for k, v in plain(split.to_dict()).items() if k not in PRIVATE}),
        "seed": str(seed),
        "inputs": split.retain.data.input_options,
        **_request_metadata(role, split, method),
        **({"recipe": _settings(method)} if role != "unlearn" else {}),
        "method": method.name(),
        "settings": _settings(method),
    }
    return texts if key is None or (role == "original" and not split.earlier) else with_key(texts, key)


def _request_metadata(role: Role, split: Split, method: Any) -> dict[str, str]:
    """Return the requests that a model has answered, as text, and what a retrained model was trained on."""
    requests = [e.past for e in split.earlier] if role == "original" else answered_by(split, method.name())
    answered = {"requests": public_entries(requests, None)} if requests else {}
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


def check_original(
    checkpoint: Checkpoint, split: Split, *, same_data: bool = True, history: Path | None = None
) -> str | None:
    """Check that a checkpoint can be the original of a split.

    Args:
        checkpoint: The checkpoint.
        split: The split.
        same_data: Whether the model must have been trained on the split's forget and retain set.
        history: The request file of the checkpoint. By default the one beside it.

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
    same = (
        agrees(trained_on, split.train_hash, "train_hash", key_of(checkpoint, history)) if same_data else True
    )
    if same is False:
        drawn = split_description(checkpoint)
        raise CheckpointError(
            f"{path} was trained on other samples than this split's forget + retain (its validation draw: "
            f"share {drawn.get('validation', '?')} of the {'test' if 'validation_from' in drawn else 'training'} set, seed "
            f"{drawn.get('seed', '?')}); give {flags_to_give(drawn, split, forget=False)} (a function for --data must return the same "
            "samples at every call)."
        )
    return None if same else _unchecked(path, "on which samples the model was trained")


def check_retrained(checkpoint: Checkpoint, split: Split, *, history: Path | None = None) -> str | None:
    """Check that a checkpoint can be the reference of a split: a model retrained without its forget set.

    Args:
        checkpoint: The checkpoint.
        split: The split.
        history: The request file of the checkpoint. By default the one beside it.

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
    drawn, key = split_description(checkpoint), key_of(checkpoint, history)
    of_split = agrees(metadata.get("split_hash") or drawn.get("hash", ""), split.hash, "split_hash", key)
    # the reference of one request of a sequence is that of all: it never saw any of them
    of_retain = agrees(metadata.get("retain_hash", ""), split.retain_hash, "retain_hash", key)
    if of_split or of_retain:
        return None
    if None not in (of_split, of_retain) or set_size(checkpoint, "retain") != len(split.retain):
        raise CheckpointError(
            f"{path} was retrained for another split ({in_words(drawn)}) than this one ({in_words(split.to_dict())}); give "
            f"{flags_to_give(drawn, split)}, or retrain for this split."
        )
    return _unchecked(path, "that the model was retrained without this forget set")


def check_audited(checkpoint: Checkpoint, split: Split, *, history: Path | None = None) -> str | None:
    """Check that a checkpoint can be audited on a split.

    Args:
        checkpoint: The checkpoint.
        split: The split.
        history: The request file of the checkpoint. By default the one beside it.

    Returns:
        A sentence for the user if the check needs a key that is not there, else None.

    Raises:
        CheckpointError: The metadata names another forget set or other training samples.
    """
    metadata, path = checkpoint.metadata, checkpoint.path
    _check_inputs(checkpoint, split)
    drawn, key = split_description(checkpoint), key_of(checkpoint, history)
    made_for: bool | None = True
    if stored := metadata.get("split_hash"):
        found = [agrees(stored, split.hash, "split_hash", key)]
        if found == [None] and (drawn.get("scenario"), set_size(checkpoint, "forget")) != (
            split.scenario,
            len(split.forget),
        ):
            found = [False]
        found += [answers(entry, split, key) for entry in public_requests(checkpoint)]
        made_for = True if True in found else None if None in found else False
    if made_for is False:
        raise CheckpointError(
            f"{path} was made for another split ({in_words(drawn)}) than this one ({in_words(split.to_dict())}); give "
            f"{flags_to_give(drawn, split)}, with which it was made."
        )
    unknown = check_original(checkpoint, split, history=history) if metadata.get("train_hash") else None
    return _unchecked(path, "that the model was made for this forget set") if made_for is None else unknown


def _unchecked(path: Path, what: str) -> str:
    """Return that a check could not be made without the key of a checkpoint."""
    return (
        f"{path.name} has keyed hashes, and {requests_path(path).name} with their key is not there, so it was not checked {what}; "
        "the owner of the model has the file."
    )


def _check_inputs(checkpoint: Checkpoint, split: Split) -> None:
    """Raise `CheckpointError` for a model trained on inputs of another size or normalisation than this data."""
    trained_with, now = checkpoint.metadata.get("inputs"), split.retain.data.input_options
    if trained_with is not None and trained_with != now:
        texts = {t: f"with {t}" if t else "as they are" for t in (trained_with, now)}
        raise CheckpointError(
            f"{checkpoint.path} was trained on images {texts[trained_with]} and the data came {texts[now]}; give --data the same "
            "options."
        )


def _settings(method: Any) -> str:
    return json.dumps(settings_of(method))
