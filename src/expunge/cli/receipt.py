"""The commands about receipts: verify, sign, keygen; and the flags of the receipt that `unlearn` writes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from ..errors import ExpungeError, raise_all
from ..masks.mask_file import Mask
from ..receipts.keys import load_private, make_key, read_passphrase
from ..receipts.merkle import Proof, Secret
from ..receipts.receipt import Receipt, issue, signed
from ..receipts.verify import Check
from ..receipts.verify import verify as verify_receipt
from ..records.hashing import model_hash
from ..records.record import Record
from .flags import check_outputs, notice

Place = tyro.conf.Positional[Path]


def verify(
    receipt: Place,
    *,
    model: Path | None = None,
    original: Path | None = None,
    record: Path | None = None,
    mask: Path | None = None,
    key: str | None = None,
    prove: str | None = None,
    secret: Path | None = None,
    write_proof: Path | None = None,
    proof: Path | None = None,
    parent: Path | None = None,
) -> None:
    """Check a receipt and what belongs to it; exit code 1 if anything fails. It shows what was run, not that
    data is forgotten.

    Args:
        receipt: The receipt (JSON).
        model: Checkpoint that the run wrote.
        original: Checkpoint that the run started from.
        record: The run's record (JSON).
        mask: The run's mask (a file of Mask.save); with both checkpoints, no weight outside it may have changed.
        key: Public key of the signer you trust: its .pub file or 64 hex digits.
        prove: Id to show among the forgotten ones; needs the secret.
        secret: The secret file of the receipt; looked for beside the receipt if left out.
        write_proof: With --prove, file to write the proof to, for the person whose id it is.
        proof: A proof that was handed to you; needs no secret.
        parent: Receipt of the run before this one.
    """
    if prove is not None and proof is not None:
        raise ExpungeError("--prove makes a proof from the secret and --proof checks one: give one of them.")
    if write_proof is not None and prove is None:
        raise ExpungeError("--write-proof needs --prove ID: whose proof is to be written?")
    files = (receipt, model, original, record, mask, secret, proof, parent)
    raise_all([f"{f} is no file; name one." for f in files if f is not None and not f.is_file()])
    check_outputs({"--write-proof": write_proof}, *files)
    path = secret_path(receipt, secret, prove is not None)
    kept = Secret.load(path) if path is not None else None
    shown = Proof.load(proof) if proof is not None else prove
    checks = verify_receipt(
        receipt,
        model,
        record,
        shown,
        key,
        original=original,
        mask=Mask.load(mask) if mask is not None else None,
        secret=kept,
        parent=parent,
    )
    good = show_checks(checks)
    if good and write_proof is not None and kept is not None and prove is not None:
        kept.prove(prove).save(write_proof)
        print(f"proof: {write_proof}")
    if not good:
        raise SystemExit(1)
    print("This shows what was run. It does not show that the data is forgotten: see the audit for that.")


def sign(receipt: Place, *, key: Path, passphrase_file: Path | None = None, out: Path | None = None) -> None:
    """Sign a receipt, or sign it anew with another key. Its id stays; date and key in its envelope are new.

    Args:
        receipt: The receipt to sign; it must hold.
        key: Private key file, made by `expunge keygen`.
        passphrase_file: File whose first line opens the key, if it is locked; EXPUNGE_PASSPHRASE if left out.
        out: File to write; in place by default.
    """
    raise_all([f"{f} is no file; name one." for f in (receipt, key) if not f.is_file()])
    check_outputs({"--out": out}, key, passphrase_file)
    if not all(check.ok for check in verify_receipt(receipt)):
        raise ExpungeError(f"{receipt} does not hold as it is, so it is not signed: see `expunge verify`.")
    new = signed(Receipt.load(receipt), key, _passphrase(passphrase_file))
    print(f"receipt: {new.save(out or receipt)} ({new.id}, signed by {new.envelope['key']['fingerprint']})")


def keygen(out: Place, *, passphrase_file: Path | None = None) -> None:
    """Make a key pair for receipts: the private key in OUT (keep it), the public one in OUT.pub (give it
    away).

    Args:
        out: File of the private key, readable by you only; existing files are not replaced.
        passphrase_file: File whose first line locks the private key; EXPUNGE_PASSPHRASE if left out, and no lock without.
    """
    passphrase = read_passphrase(passphrase_file)
    name = make_key(out, passphrase)
    lock = "not locked" if passphrase is None else "locked with the passphrase"
    print(f"private key: {out} ({lock})\npublic key: {out}.pub\nfingerprint: {name}")


def _passphrase(file: Path | None) -> bytes | None:
    """What the file says; without one the key itself decides whether the environment is asked."""
    return read_passphrase(file) if file is not None else None


@dataclass(frozen=True, kw_only=True)
class ReceiptFlags:
    """The receipt of a run."""

    receipt: bool = True  # write one beside the checkpoint, and the secret that shows what was forgotten
    sign_key: Path | None = None  # private key (`expunge keygen`) to sign the receipt with; unsigned without
    # file whose first line opens that key, if it is locked; EXPUNGE_PASSPHRASE if left out
    passphrase_file: Path | None = None
    parent: Path | None = None  # receipt of the run that made the input checkpoint, to name it in the new

    def check(self, checkpoint: Path) -> None:
        """Raise `ExpungeError` for a key or a parent that could not be used after a run that begins with `checkpoint`."""
        if not self.receipt and (self.sign_key is not None or self.parent is not None):
            raise ExpungeError("--no-receipt leaves nothing to sign or to name a parent in: drop a flag.")
        if self.passphrase_file is not None and self.sign_key is None:
            raise ExpungeError("--passphrase-file opens the key of --sign-key, which is not given.")
        if self.sign_key is not None:
            load_private(self.sign_key, _passphrase(self.passphrase_file))
        if self.parent is not None:
            ended_with = Receipt.load(self.parent).statement.get("model_after")
            if checkpoint.is_file() and model_hash(checkpoint) != ended_with:
                raise ExpungeError(
                    f"{self.parent} is the receipt of a run that ended with another model than {checkpoint}; give the receipt "
                    "of the run that made it, or leave --parent out."
                )

    def written(self, out: Path) -> dict[str, Path]:
        """What is written beside the checkpoint `out`, but for the secret, whose name no other file has."""
        return {"the receipt": receipt_paths(out, "")[0]} if self.receipt and out.name else {}

    def write(
        self, record: Path, before: Path, after: Path, forget_ids: Sequence[str] | None, mask: Any = None
    ) -> None:
        """Write the receipt of a run beside the checkpoint `after`, and its secret: `receipt_paths`."""
        if not self.receipt:
            return
        parent = Receipt.load(self.parent) if self.parent is not None else None
        run = Record.load(record)
        if run.model.get("hash_after") and run.model.get("hash_before") == run.model["hash_after"]:
            notice("no receipt was written: the run ended with the model that it began with.")
            return
        made, secret = issue(
            run,
            forget_ids,
            before=before,
            after=after,
            mask=mask,
            parent=parent,
            key=self.sign_key,
            passphrase=_passphrase(self.passphrase_file),
        )
        path, beside = receipt_paths(after, made.id)
        if secret is not None:
            secret.save(beside)  # first: a receipt whose commitment nobody can open is worth little
        made.save(path)
        print(f"receipt: {path} ({made.id}, {'signed' if made.signature else 'unsigned'})")
        if secret is not None:
            print(f"secret: {beside} (keep it private; it proves which ids were forgotten)")


def receipt_paths(checkpoint: Path, name: str) -> tuple[Path, Path]:
    """Where the receipt called `name` of a checkpoint lies, and its secret. The secret's file carries the
    receipt's name: another run to the same checkpoint must not lose the secret of a receipt handed out."""
    return checkpoint.with_suffix(".receipt.json"), checkpoint.with_suffix(f".{name[:11]}.secret.json")


def secret_path(receipt: Path, given: Path | None, needed: bool) -> Path | None:
    """The secret's file: the one given, else, where one is needed, the one beside the receipt."""
    if given is not None or not needed:
        return given
    try:
        name = Receipt.load(receipt).id
    except ExpungeError:
        return None  # the checks will say so
    for path in sorted(receipt.parent.glob(f"*.{name[:11]}.secret.json")):
        return path
    raise ExpungeError(f"no secret of this receipt lies beside {receipt}: name it with --secret.")


def show_checks(checks: Sequence[Check]) -> bool:
    """One line a check, and whether all held."""
    for check in checks:
        print(f"{'ok    ' if check.ok else 'FAILED'} {check.name}: {check.words}")
    failed = sum(not check.ok for check in checks)
    print(f"{failed} of {len(checks)} checks failed" if failed else f"all {len(checks)} checks hold")
    return not failed


COMMANDS: dict[str, Callable[..., Any]] = {"verify": verify, "sign": sign, "keygen": keygen}
