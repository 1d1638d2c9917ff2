"""`expunge verify`, `expunge sign` and `expunge keygen`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from ..errors import ExpungeError, raise_all
from ..receipts.limits import visible
from .output_checks import output_problems
from .settings_flags import REQUIRED, flag_group, with_help
from .shown_checks import show_checks
from .terminal import notice


@with_help
@dataclass(frozen=True, kw_only=True)
class EvidenceFlags:
    """What a receipt is compared with.

    Args:
        model: Checkpoint that the run wrote.
        original: Checkpoint that the run started from.
        record: Record of the run (JSON).
        mask: Mask of the run (written by --save-mask). With both checkpoints, no parameter outside it may have changed.
        key: Public key of the signer you trust: its .pub file or 64 hex digits.
        parent: Receipt of the run before this one.
    """

    model: Path | None = None
    original: Path | None = None
    record: Path | None = None
    mask: Path | None = None
    key: str | None = None
    parent: Path | None = None


@with_help
@dataclass(frozen=True, kw_only=True)
class ProofFlags:
    """A proof that an id was forgotten.

    Args:
        prove: Id to show among the forgotten ids. It needs the secret.
        secret: Secret of the receipt. By default the one beside the receipt.
        write_proof: With --prove: file for the proof, to give to the person whose id it is.
        proof: A proof that was handed to you. It needs no secret.
    """

    prove: str | None = None
    secret: Path | None = None
    write_proof: Path | None = None
    proof: Path | None = None


def verify(
    receipt: Path,
    /,
    *,
    evidence: Annotated[EvidenceFlags, flag_group("Evidence", 1)] = EvidenceFlags(),
    proofs: Annotated[ProofFlags, flag_group("Proof", 2)] = ProofFlags(),
) -> int:
    """Verify a receipt and the files that belong to it.

    Exit code 1 if any check fails. A receipt shows what was run. It does not show that the data is forgotten.

    Args:
        receipt: The receipt (JSON).
        evidence: What the receipt is compared with.
        proofs: A proof that an id was forgotten.
    """
    from ..masks.mask_file import Mask
    from ..receipts.commitment import Proof, Secret
    from ..receipts.verify import verify as verify_receipt
    from .receipt_flags import secret_path

    _check_files(receipt, evidence, proofs)
    path = secret_path(receipt, proofs.secret, proofs.prove is not None)
    secret = Secret.load(path) if path is not None else None
    checks = verify_receipt(
        receipt,
        evidence.model,
        evidence.record,
        Proof.load(proofs.proof) if proofs.proof is not None else proofs.prove,
        evidence.key,
        original=evidence.original,
        mask=Mask.load(evidence.mask) if evidence.mask is not None else None,
        secret=secret,
        parent=evidence.parent,
    )
    if not show_checks(checks):
        return 1
    if proofs.write_proof is not None and proofs.prove is not None and secret is not None:
        secret.prove(proofs.prove).save(proofs.write_proof)
        print(f"proof: {proofs.write_proof}")
    if proofs.prove is not None and (text := _declined(receipt, proofs.prove)):
        notice(text)
    print("This shows what was run. It does not show that the data is forgotten: see the audit for that.")
    return 0


def _declined(receipt: Path, name: str) -> str:
    """Return that a run did not answer for an id of its forget set, according to the request file beside its receipt; else empty."""
    from ..receipts.receipt import Receipt
    from ..records.request_file import SUFFIX, read_requests

    file = receipt.with_name(receipt.name.removesuffix(".receipt.json") + SUFFIX)
    if not file.is_file():
        return ""
    answered = [past for past in read_requests(file) if past.receipt == Receipt.load(receipt).id]
    if not answered or any(name in past.ids for past in answered):
        return ""
    return (
        f"{name!r} is in the forget set of the run, and {file} has no answered request for it: the run declined the request, so this "
        "proof is no answer to it."
    )


def _check_files(receipt: Path, evidence: EvidenceFlags, proofs: ProofFlags) -> None:
    """Raise `ExpungeError` with every problem of the flags and files."""
    problems = []
    if proofs.prove is not None and proofs.proof is not None:
        problems.append("--prove makes a proof from the secret and --proof checks one: give one of them.")
    if proofs.write_proof is not None and proofs.prove is None:
        problems.append("--write-proof needs --prove ID: whose proof is to be written?")
    files = (receipt, evidence.model, evidence.original, evidence.record, evidence.mask, proofs.secret, proofs.proof,
             evidence.parent)  # fmt: skip
    # a model may be a folder of transformers
    models = (evidence.model, evidence.original)
    problems += [
        f"{file} is no file; name one."
        for file in files
        if file is not None and not file.is_file() and not (file in models and file.is_dir())
    ]
    raise_all(problems + output_problems({"--write-proof": proofs.write_proof}, *files))


def sign(
    receipt: Path,
    /,
    *,
    key: Annotated[Path, REQUIRED],
    passphrase_file: Path | None = None,
    out: Path | None = None,
) -> None:
    """Sign a receipt.

    The id of the receipt stays the same. The date and the key in its envelope are new. The ledger of a project gets the signed receipt too:
    the key must be one that the ledger knows, if it has keys. A good signature by another key is not replaced.

    Args:
        receipt: The receipt to sign. It must pass its own checks.
        key: Private key file, made by `expunge keygen`.
        passphrase_file: File whose first line opens the key, if it is locked. By default EXPUNGE_PASSPHRASE.
        out: File to write. By default the receipt itself.
    """
    from ..projects.signing import project_of, sign_receipt
    from ..receipts.receipt import Receipt
    from ..receipts.signing import signed
    from ..receipts.verify import verify as verify_receipt
    from .receipt_flags import passphrase_of

    missing = [f"{file} is no file; name one." for file in (receipt, key) if not file.is_file()]
    raise_all(missing + output_problems({"--out": out}, key, passphrase_file))
    if not all(check.ok for check in verify_receipt(receipt)):
        raise ExpungeError(f"{receipt} does not hold as it is, so it is not signed: see `expunge verify`.")
    passphrase, told = passphrase_of(passphrase_file), list[str]()
    if (project := project_of(out or receipt)) is None:
        new = signed(Receipt.load(receipt), key, passphrase)
        _check_replaced(out or receipt, new.envelope["key"])
        new.save(out or receipt)
    elif out is not None and not out.samefile(receipt):
        raise ExpungeError(
            f"{out} is a receipt of the project {project.path}, and its state knows the file. Sign it there, without --out."
        )
    else:
        new, told = sign_receipt(project, receipt.resolve(), lambda old: signed(old, key, passphrase), notice)
    print(f"receipt: {out or receipt} ({new.id}, signed by {new.envelope['key']['fingerprint']})")
    for text in told:
        print(visible(text))


def _check_replaced(file: Path, key: dict[str, str]) -> None:
    """Raise `ExpungeError` if a file is a receipt with a good signature by another key than `key`."""
    from ..receipts.receipt import Receipt
    from ..receipts.verify import verify as verify_receipt

    if not file.is_file() or not all(check.ok for check in verify_receipt(file)):
        return
    old = Receipt.load(file)
    if old.signature and old.envelope["key"]["public"] != key["public"]:
        raise ExpungeError(
            f"{file} has a good signature by the key {old.envelope['key']['fingerprint']}, which would be lost; write the receipt with the "
            "new one to another file (--out), or move the old file away first."
        )


def keygen(out: Path, /, *, passphrase_file: Path | None = None) -> None:
    """Make a key pair for signing receipts.

    The private key is written to OUT: keep it. The public key is written to OUT.pub: give it away.

    Args:
        out: File of the private key, readable by you only. Existing files are not replaced.
        passphrase_file: File whose first line locks the private key. By default EXPUNGE_PASSPHRASE, or no lock.
    """
    from ..receipts.keys import make_key, read_passphrase

    passphrase = read_passphrase(passphrase_file)
    fingerprint = make_key(out, passphrase)
    lock = "not locked" if passphrase is None else "locked with the passphrase"
    print(f"private key: {out} ({lock})\npublic key: {out}.pub\nfingerprint: {fingerprint}")
