"""The flags of the receipt that `expunge unlearn` writes, and where receipts and their secrets lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import ExpungeError
from ..receipts.keys import load_private, read_passphrase
from ..receipts.receipt import Receipt, receipt_paths
from ..records.record import Record
from ..records.together import staged
from .settings_flags import flag_group, with_help
from .terminal import notice

if TYPE_CHECKING:
    from ..receipts.issue import Model

RECEIPT = flag_group("Receipt", 7)


class Written(NamedTuple):
    """The receipt of a run, None if none was written, and the lines to print."""

    receipt: Receipt | None
    lines: list[str]


@with_help
@dataclass(frozen=True, kw_only=True)
class ReceiptFlags:
    """The receipt of a run.

    Args:
        receipt: Write a receipt beside the checkpoint, and the secret that shows which ids were forgotten.
        sign_key: Private key that signs the receipt (`expunge keygen` makes one). Without it the receipt is unsigned.
        passphrase_file: File whose first line opens the key, if it is locked. By default EXPUNGE_PASSPHRASE.
        parent: Receipt of the run that made the input checkpoint. The new receipt names it.
    """

    receipt: bool = True
    sign_key: Path | None = None
    passphrase_file: Path | None = None
    parent: Path | None = None

    def check(self, checkpoint: Path, ema: str | None = None) -> None:
        """Check, before the run, that the receipt can be written after it.

        Args:
            checkpoint: The checkpoint that the run starts from.
            ema: The entry of it that holds the model.

        Raises:
            ExpungeError: The key cannot be opened, or the parent is the receipt of another model.
        """
        if not self.receipt and (self.sign_key is not None or self.parent is not None):
            raise ExpungeError("--no-receipt leaves nothing to sign or to name a parent in: drop a flag.")
        if self.passphrase_file is not None and self.sign_key is None:
            raise ExpungeError("--passphrase-file opens the key of --sign-key, which is not given.")
        if self.sign_key is not None:
            load_private(self.sign_key, passphrase_of(self.passphrase_file))
        if self.parent is not None:
            ended_with = Receipt.load(self.parent).statement.get("model_after")
            if checkpoint.is_file() and _hash_of(checkpoint, ema) != ended_with:
                raise ExpungeError(
                    f"{self.parent} is the receipt of a run that ended with another model than {checkpoint}; give the receipt "
                    "of the run that made it, or leave --parent out."
                )

    def written(self, out: Path) -> dict[str, Path]:
        """Return {name: file} of what is written beside the checkpoint `out`.

        The secret is missing: its name contains the id of the receipt, so it cannot replace another file.
        """
        return {"the receipt": receipt_paths(out, "")[0]} if self.receipt and out.name else {}

    def write(
        self,
        record: Path,
        before: Model,
        after: Path,
        forget_ids: Sequence[str] | None,
        mask: Any = None,
        parent: str = "",
    ) -> Written:
        """Write the receipt of a run and its secret beside the checkpoint `after`; do nothing with --no-receipt.

        Args:
            record: File of the run's record. It may wait in a block of `together`, as may `after`.
            before: Checkpoint or state dict that the run started from.
            after: Checkpoint that the run wrote.
            forget_ids: Ids of the forget set, or None if the data has none.
            mask: The mask of the run, if it had one.
            parent: Id of the receipt of the run that made `before`, if it is known without --parent.
        """
        from ..receipts.issue import issue

        if not self.receipt:
            return Written(None, [])
        run = Record.load(staged(record))
        if run.model.get("hash_after") and run.model.get("hash_before") == run.model["hash_after"]:
            notice("no receipt was written: the run ended with the model that it began with.")
            return Written(None, [])
        receipt, secret = issue(
            run,
            forget_ids,
            before=before,
            after=staged(after),
            mask=mask,
            parent=Receipt.load(self.parent) if self.parent is not None else parent or None,
            key=self.sign_key,
            passphrase=passphrase_of(self.passphrase_file),
            files={"record": staged(record)} | ({"model": staged(after)} if staged(after).is_file() else {}),
        )
        receipt_file, secret_file = receipt_paths(after, receipt.id)
        # the secret first: nobody could open the commitment of a receipt whose secret was lost
        if secret is not None:
            secret.save(secret_file)
        receipt.save(receipt_file)
        lines = [f"receipt: {receipt_file} ({receipt.id}, {'signed' if receipt.signature else 'unsigned'})"]
        if secret is not None:
            lines.append(f"secret: {secret_file} (keep it private; it proves which ids were forgotten)")
        return Written(receipt, lines)


def _hash_of(checkpoint: Path, ema: str | None) -> str:
    from ..records.checkpoint import read_checkpoint
    from ..records.hashing import model_hash

    return model_hash(checkpoint if ema is None else read_checkpoint(checkpoint, ema).state)


def passphrase_of(file: Path | None) -> bytes | None:
    """Return the passphrase in `file`. Without a file, the key itself decides whether the environment is asked."""
    return read_passphrase(file) if file is not None else None


def secret_path(receipt: Path, secret: Path | None, needed: bool) -> Path | None:
    """Return the file of the secret: `secret`, else, if it is needed, the one beside the receipt.

    Raises `ExpungeError` if it is needed and missing.
    """
    if secret is not None or not needed:
        return secret
    try:
        name = Receipt.load(receipt).id
    except ExpungeError:
        # the checks of the receipt report it
        return None
    for path in sorted(receipt.parent.glob(f"*.{name[:11]}.secret.json")):
        return path
    raise ExpungeError(f"no secret of this receipt lies beside {receipt}: name it with --secret.")
