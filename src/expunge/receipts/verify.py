"""Verification of a receipt and of the files that belong to it.

Each check says in words what it showed, and no more than that.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ExpungeError
from ..records.record import Record
from .checks import Check, check_equal, check_receipt
from .commitment import Proof, Secret
from .issue import file_hash, record_hash, split_commitment
from .kept import moved_outside, trusts_names
from .receipt import Receipt

if TYPE_CHECKING:
    from torch import Tensor

    from .issue import Model

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
    """Check a receipt and everything that you pass with it.

    A broken file is a failed check, not an exception. A model is a module, a state dict or a file.

    Args:
        receipt: The receipt, its file, or the bytes of its file.
        model: The model after the run. A torch file that holds other tensors too fails the check "contents".
        record: The record of the run, or its file.
        prove: A proof that an id is in the forget set, or that id. An id needs `secret`.
        public_key: Public key of the signer you trust: 32 bytes, 64 hex digits or a PEM file. Without it, the
            signature is checked with the key that the receipt carries. This shows that nothing changed since
            the receipt was signed, but not who signed it.
        original: The model before the run. Of a file with several models, any may be it.
        mask: The saliency mask of the run. With `model` and `original`, the parameters outside the mask are
            compared too.
        secret: The secret that belongs to the receipt.
        parent: The receipt of the run before this one.

    Returns:
        The checks. The receipt is valid if every check is `ok`.

    Example:
        >>> checks = verify("receipt.json", model=unlearned, public_key="office.pub")
        >>> all(check.ok for check in checks)
        True
    """
    checks, intact = check_receipt(receipt, public_key)
    if intact is None:
        return checks
    statement = intact.statement
    before, after, commitment = (statement[k] for k in ("model_before", "model_after", "forget_commitment"))
    of_original = partial(_hash_of_original, expected=before)
    hashed: list[tuple[str, str, Any, str | None, Callable[[Any], str]]] = [
        ("model", "the model after the run", model, after, partial(_hash_of_result, expected=after)),
        ("original", "the model before the run", original, before, of_original),
        ("record", "the record of the run", record, statement["record"], record_hash),
        ("mask", "the mask", mask, statement["mask"], _hash_of_mask),
        ("secret", "the secret of this receipt", secret, commitment, lambda s: s.commitment),
    ]
    checks += [
        _check_hash(name, what, value, expected, hasher)
        for name, what, value, expected, hasher in hashed
        if value is not None
    ]
    if isinstance(model, str | os.PathLike):
        checks += _check_contents(model)
    wrong = {check.name for check in checks if not check.ok}
    given = {name: path for name, path in (("model", model), ("record", record)) if name not in wrong}
    checks += _check_bytes(intact.envelope.get("files", {}), given)
    if secret is not None and record is not None and statement["split_commitment"] is not None:
        expected, hasher = statement["split_commitment"], lambda r: split_commitment(secret, _split_hash(r))
        checks.append(_check_hash("split", "the split of the run", record, expected, hasher))
    if mask is not None and model is not None and original is not None:
        checks.append(_guarded("kept", lambda: _check_kept(original, model, mask, statement)))
    if prove is not None:
        checks.append(_guarded("proof", lambda: _check_proof(intact, prove, secret)))
    if parent is not None:
        checks.append(_guarded("parent", lambda: _check_parent(intact, parent)))
    return checks


def _check_proof(receipt: Receipt, prove: str | Proof, secret: Secret | None) -> Check:
    if isinstance(prove, str):
        if secret is None:
            return Check("proof", False, f"to prove the id {prove!r}, the secret is needed: give the secret")
        if prove not in secret:
            return Check(
                "proof", False, f"the id {prove!r} is not among the {len(secret.leaves)} forgotten ids"
            )
        prove = secret.prove(prove)
    commitment, count = receipt.statement["forget_commitment"], receipt.statement["forget_count"]
    claim = f"that the id {prove.name!r} is among the {count} forgotten ids of this receipt"
    return Check.of(
        "proof",
        commitment is not None and prove.holds(commitment, count),
        f"the proof shows {claim}",
        f"the proof does not show {claim}",
    )


def _check_parent(receipt: Receipt, source: Receipt | str | os.PathLike[str]) -> Check:
    parent = source if isinstance(source, Receipt) else Receipt.load(source)
    statement = receipt.statement
    same_model = statement["model_before"] == parent.statement.get("model_after")
    return Check.of(
        "parent",
        statement["parent"] == parent.id and same_model,
        f"this run started from the model that {parent.id} ended with",
        f"{parent.id} is not the run before this one, or this run started from another model",
    )


# What reads models is imported where it is used: a receipt alone is verified without torch.


def _hash_of_model(source: Model) -> str:
    from ..records.hashing import model_hash

    return model_hash(source)


def _hash_of_result(source: Model, expected: str) -> str:
    """The expected hash if an exported file has it under the names of the model, else the hash of the state by its own names."""
    from ..records.surplus import check_divided, exported_state

    check_divided(source)
    return expected if exported_state(source, expected) is not None else _hash_of_model(source)


def _hash_of_mask(mask: Mapping[str, Tensor]) -> str:
    from ..records.hashing import mask_hash

    return mask_hash(mask)


def _hash_of_original(source: Model, expected: str) -> str:
    """The expected hash if any state in the file has it, else the hash of the state that is read by default."""
    from ..records.surplus import state_with_hash

    return expected if state_with_hash(source, expected) is not None else _hash_of_model(source)


def _check_contents(path: str | os.PathLike[str]) -> list[Check]:
    """Check that a torch file holds the model and no other tensors. The hash covers all tensors of a safetensors file."""
    from ..records.surplus import surplus, values_beside

    try:
        texts, beside = surplus(path), values_beside(path)
    except (ExpungeError, OSError):
        # the check of the model reports it
        return []
    if not texts and not beside and Path(path).suffix == ".safetensors":
        return []
    return [
        Check.of(
            "contents",
            not texts,
            f"the file holds this model and {f'{beside:,} values of' if beside else 'no'} other tensors",
            f"the file holds more than this model: {', '.join(texts)}; do not hand it over",
        )
    ]


def _check_bytes(expected: Mapping[str, str], given: Mapping[str, Any]) -> list[Check]:
    """Check that files are byte by byte those that were delivered: they may hold more than what the statement hashes.

    A file of another format, such as a converted model, is another file.
    """
    return [
        _guarded(
            f"{name} file",
            lambda name=name, path=path: check_equal(  # type: ignore[misc]
                f"{name} file",
                expected[name],
                file_hash(path),
                "every byte of the file is as delivered",
                "the bytes of the file are not those that were delivered",
            ),
        )
        for name, path in given.items()
        if name in expected and isinstance(path, str | os.PathLike) and Path(path).is_file()
    ]


def _check_kept(
    before: Model, after: Model, mask: Mapping[str, Tensor], statement: Mapping[str, Any]
) -> Check:
    """Check that the parameters outside the mask are bit-identical. Tensors that the mask does not name are not compared."""
    from ..records.hashing import load_weights
    from ..records.surplus import exported_state, state_with_hash

    first = state_with_hash(before, statement["model_before"]) or load_weights(before)
    second = exported_state(after, statement["model_after"]) or load_weights(after)
    stated = statement.get("mask_names")
    moved = moved_outside(first, second, mask, stated)
    unsure = stated is None and (trusts_names(mask, first) or trusts_names(mask, second))
    return Check.of(
        "kept",
        moved == 0,
        "no parameter outside the mask has changed"
        + "; which tensor is which, only the mask file says: the receipt does not state it" * unsure,
        f"parameters outside the mask that changed: {moved}",
    )


def _split_hash(record: Record | str | os.PathLike[str]) -> str:
    return (record if isinstance(record, Record) else Record.load(record)).split["hash"]


def _check_hash(
    name: str, what: str, value: Any, expected: str | None, hasher: Callable[[Any], str]
) -> Check:
    """Check that `value` has the hash that the receipt states."""
    if expected is None:
        return Check(name, False, f"the receipt states no hash of {what}")
    return _guarded(
        name, lambda: check_equal(name, expected, hasher(value), f"this is {what}", f"this is not {what}")
    )


def _guarded(name: str, check: Callable[[], Check]) -> Check:
    """Run the check. An error becomes a failed check with the message of the error."""
    try:
        return check()
    except (ExpungeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        return Check(name, False, f"could not be checked: {error}")
