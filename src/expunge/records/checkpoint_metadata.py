"""What a checkpoint's head says of the model in it, one form for every command: which kind of model it is, on which samples
it was trained, by which method with which settings; and what is asked of it before it is used."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any, Literal

from ..data.split import Split
from ..errors import CheckpointError
from .checkpoint import Checkpoint
from .record import plain

Kind = Literal["original", "retrain", "unlearn"]


def head(kind: Kind, split: Split, method: Any, seed: int) -> dict[str, str]:
    """The head of a checkpoint: of an original, of the retrained reference, or of an unlearned model.

    `train_hash` names the samples that the weights come from: forget and retain set for an original and for what was made
    of one, nothing for a retrained model. An original belongs to no forget set and so has no `split_hash`.
    """
    from .. import __version__

    if method.exact and kind == "unlearn":
        kind = "retrain"  # `expunge unlearn retrain`: what it ends with never saw the forget set
    return {
        "expunge": __version__,
        "kind": kind,
        "train_hash": "" if kind == "retrain" else split.train_hash,
        "split_hash": "" if kind == "original" else split.hash,
        "split": json.dumps(plain(split.to_dict())),
        "seed": str(seed),
        "inputs": split.retain.data.inputs_text,
        **({"recipe": _settings(method)} if kind != "unlearn" else {}),
        "method": method.name(),
        "settings": _settings(method),
    }


def check_original(checkpoint: Checkpoint, split: Split) -> str | None:
    """Raise `CheckpointError` for a model that was not trained on this split's forget + retain, and for one that has forgotten
    what this split would teach it again; a sentence for the person where the head does not say."""
    trained_on, path = checkpoint.metadata.get("train_hash"), checkpoint.path
    if trained_on is None:
        said = f"{path.name} does not say which samples it was trained on; "
        if len(split.validation):
            return said + "if it saw the whole training set, add --validation 0."
        tests = len(split.test) + len(split.test_forgotten)
        return (
            said
            + f"it is taken to have seen all {len(split.train):,} training and none of the {tests:,} test samples."
        )
    if not trained_on:
        raise CheckpointError(
            f"{path} was trained without a forget set: it is a retrained model, no original; give it to --retrained."
        )
    _check_inputs(checkpoint, split)
    if trained_on != split.train_hash:
        drawn = drawing(checkpoint)
        raise CheckpointError(
            f"{path} was trained on other samples than this split's forget + retain (its validation draw: "
            f"share {drawn.get('validation', '?')}, seed {drawn.get('seed', '?')}); use the same data, --validation and --split-seed "
            "(a function for --data must return the same samples at every call)."
        )
    return _forgotten_before(checkpoint, split)


def _forgotten_before(checkpoint: Checkpoint, split: Split) -> str | None:
    """Whether an unlearned model would learn again, from this split's retain set, what it was made to forget."""
    said, path, then = checkpoint.metadata, checkpoint.path, drawing(checkpoint)
    if said.get("kind") != "unlearn" or said.get("split_hash") in ("", split.hash):
        return None
    advice = "name what was forgotten then together with what is to be forgotten now"
    classes, now = set(then.get("forget_classes") or []), split.to_dict()
    if then.get("scenario") == "class" and classes:
        if classes & set(split.retain.labels.unique().tolist()):
            raise CheckpointError(
                f"{path} has forgotten the classes {sorted(classes)}, and samples of them are in this split's retain set, from "
                f"which they would be learned again; {advice}."
            )
        return None
    same_column = then.get("column") is not None and then.get("column") == now.get("column")
    if same_column and set(then.get("values", [])) <= set(now.get("values", [])):
        return None
    return (
        f"{path.name} has forgotten other samples before ({_told(then)}); where they are in this split's retain set they are "
        f"learned again: {advice}."
    )


def check_retrained(checkpoint: Checkpoint, split: Split) -> str | None:
    """Raise `CheckpointError` for a model that is no reference for this split: an original, an unlearned model, or one
    retrained without another forget set; a sentence for the person where the head does not say."""
    said, path = checkpoint.metadata, checkpoint.path
    if "train_hash" not in said:
        return (
            f"{path.name} does not say which samples it was trained on; every gap is measured from it, so be sure that "
            "it never saw the forget set."
        )
    if said["train_hash"]:
        what = "an unlearned model" if said.get("kind") == "unlearn" else "an original"
        raise CheckpointError(
            f"{path} is {what}, not trained without the forget set; make the reference with `expunge train --without-forget`."
        )
    _check_inputs(checkpoint, split)
    drawn = drawing(checkpoint)
    if drawn.get("hash") != split.hash:
        raise CheckpointError(
            f"{path} was retrained for another split ({_told(drawn)}) than this one ({_told(split.to_dict())}); give the "
            "same data, forget flags, --goal, --validation and --split-seed, or retrain for this split."
        )
    return None


def check_audited(checkpoint: Checkpoint, split: Split) -> None:
    """Raise `CheckpointError` for a model whose head names another forget set or other training samples."""
    said, path = checkpoint.metadata, checkpoint.path
    _check_inputs(checkpoint, split)
    if said.get("split_hash") not in (None, "", split.hash):
        raise CheckpointError(
            f"{path} was made for another split ({_told(drawing(checkpoint))}) than this one ({_told(split.to_dict())}); "
            "give the data, forget flags, --goal, --validation and --split-seed that it was made with."
        )
    if said.get("train_hash") not in (None, "", split.train_hash):
        check_original(checkpoint, split)


def _check_inputs(checkpoint: Checkpoint, split: Split) -> None:
    """Raise `CheckpointError` for a model that was trained on inputs of another size or normalisation than the data here."""
    then, now = checkpoint.metadata.get("inputs"), split.retain.data.inputs_text
    if then is not None and then != now:
        said = {t: f"with {t}" if t else "as they are" for t in (then, now)}
        raise CheckpointError(
            f"{checkpoint.path} was trained on images {said[then]} and the data came {said[now]}; give --data the same options."
        )


def drawing(checkpoint: Checkpoint) -> dict[str, Any]:
    """How the split of a checkpoint was drawn: `Split.to_dict`; empty where the head does not say."""
    try:
        found = json.loads(checkpoint.metadata.get("split", "{}"))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _settings(method: Any) -> str:
    return json.dumps(plain(asdict(method)))


def _told(drawn: dict[str, Any]) -> str:
    """A split in a few words."""
    shown = {
        k: v
        for k, v in drawn.items()
        if k in ("scenario", "forget_classes", "goal", "validation", "seed") and v != []
    }
    return ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in shown.items()) or "not said"
