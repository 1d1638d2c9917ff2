"""Checks of a receipt and of what belongs to it: each with its outcome in words, and no more said than the check shows."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ..errors import ExpungeError
from ..records.hashing import load_weights, mask_hash, model_hash
from ..records.record import Record
from .checks import Check, check_alone, equal
from .merkle import Proof, Secret
from .receipt import Model, Receipt, record_hash
from .receipt import split_commitment as committed_split

__all__ = ["Check", "verify"]


def verify(
    receipt: Receipt | bytes | str | os.PathLike[str],
    model: Model | None = None,
    record: Record | str | os.PathLike[str] | None = None,
    prove: str | Proof | None = None,
    public_key: str | os.PathLike[str] | bytes | None = None,
    *,
    original: Model | None = None,
    mask: Mapping[str, Tensor] | None = None,
    secret: Secret | None = None,
    parent: Receipt | str | os.PathLike[str] | None = None,
) -> list[Check]:
    """Everything that can be checked of `receipt` (a file, or its bytes); it holds if every check is `ok`.

    `model` and `original`: the weights after and before (module, state dictionary or file). `record`: the
    run's record. `prove`: a proof, or an id, which needs `secret`. `public_key`: the key of the signer you
    trust (32 bytes, 64 hex digits or PEM file); without it only the key in the receipt can be used, which
    shows that nothing changed since signing but not who signed. `parent`: the receipt of the run before. A
    broken file is a failed check, not an exception.
    """
    checks, found = check_alone(receipt, public_key)
    if found is None:
        return checks
    said = found.statement
    hashed: list[tuple[str, str, Any, str | None, Callable[[Any], str]]] = [
        ("model", "the model after the run", model, said["model_after"], model_hash),
        ("original", "the model before the run", original, said["model_before"], model_hash),
        ("record", "the record of the run", record, said["record"], record_hash),
        ("mask", "the mask", mask, said["mask"], mask_hash),
        ("secret", "the secret of this receipt", secret, said["forget_commitment"], lambda s: s.commitment),
    ]
    checks += [
        _same(name, what, given, wanted, hasher)
        for name, what, given, wanted, hasher in hashed
        if given is not None
    ]
    if secret is not None and record is not None and said["split_commitment"] is not None:
        checks.append(
            _same(
                "split",
                "the split of the run",
                record,
                said["split_commitment"],
                lambda r: committed_split(secret, _split_hash(r)),
            )
        )
    if mask is not None and model is not None and original is not None:
        checks.append(_guarded("kept", lambda: _kept(original, model, mask)))
    if prove is not None:
        checks.append(_guarded("proof", lambda: _proof(found, prove, secret)))
    if parent is not None:
        checks.append(_guarded("parent", lambda: _parent(found, parent)))
    return checks


def _proof(receipt: Receipt, prove: str | Proof, secret: Secret | None) -> Check:
    if isinstance(prove, str):
        if secret is None:
            return Check("proof", False, f"to prove the id {prove!r} the holder's secret is needed: give it")
        if prove not in secret:
            return Check("proof", False, f"the id {prove!r} is not among the {len(secret.leaves)} forgotten")
        prove = secret.prove(prove)
    commitment, count = receipt.statement["forget_commitment"], receipt.statement["forget_count"]
    among = f"that the id {prove.name!r} is among the {count} forgotten ids of this receipt"
    return Check.of(
        "proof",
        commitment is not None and prove.holds(commitment, count),
        f"shown {among}",
        f"nothing shows {among}",
    )


def _parent(receipt: Receipt, source: Receipt | str | os.PathLike[str]) -> Check:
    parent, said = source if isinstance(source, Receipt) else Receipt.load(source), receipt.statement
    good = said["parent"] == parent.id and said["model_before"] == parent.statement.get("model_after")
    return Check.of(
        "parent",
        good,
        f"this run started from the model that {parent.id} ended with",
        f"{parent.id} is not the run before this one, or this one started from another model",
    )


def _kept(before: Model, after: Model, mask: Mapping[str, Tensor]) -> Check:
    """Whether the weights that the mask holds fixed are the same bits before and after."""
    old, new, moved = load_weights(before), load_weights(after), 0
    for name, free in mask.items():
        changed = (_bits(old[name]) != _bits(new[name])).any(1)
        moved += int(changed[~free.bool().cpu().reshape(-1)].sum())
    return Check.of(
        "kept",
        moved == 0,
        "no weight that the mask holds has changed",  # of tensors that it does not name nothing is said
        f"{moved} weights that the mask holds have changed",
    )


def _bits(tensor: Tensor) -> Tensor:
    """The bytes of each number of `tensor` (numel, bytes): NaN equals itself, -0.0 does not equal 0.0."""
    return tensor.detach().cpu().contiguous().reshape(-1, 1).view(torch.uint8)


def _split_hash(record: Record | str | os.PathLike[str]) -> str:
    return (record if isinstance(record, Record) else Record.load(record)).split["hash"]


def _same(name: str, what: str, given: Any, wanted: str | None, hasher: Callable[[Any], str]) -> Check:
    """Whether `given` has the hash that the receipt says."""
    if wanted is None:
        return Check(name, False, f"the receipt says nothing of {what}")
    return _guarded(
        name, lambda: equal(name, wanted, hasher(given), f"this is {what}", f"this is not {what}")
    )


def _guarded(name: str, check: Callable[[], Check]) -> Check:
    """The check, or a failed one in the words of the error that stopped it."""
    try:
        return check()
    except (ExpungeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        return Check(name, False, f"could not be checked: {error}")
