"""The commands about receipts: verify, sign, keygen, and the ledger of deletion requests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any, Union

import tyro
from rich.console import Console
from rich.table import Column, Table

from .chain import Head
from .errors import ExpungeError
from .keys import load_private, make_key
from .ledger import DAYS, Ledger, Request, Status, check_export
from .merkle import Proof, Secret
from .receipt import Receipt, issue, signed
from .record import Record
from .verify import Check
from .verify import verify as verify_receipt

Place = tyro.conf.Positional[Path]


def verify(receipt: Place, *, model: Path | None = None, original: Path | None = None,
           record: Path | None = None,
           key: str | None = None, prove: str | None = None, secret: Path | None = None,
           write_proof: Path | None = None,
           proof: Path | None = None, parent: Path | None = None) -> None:
    """Check a receipt and what belongs to it; exit code 1 if anything fails. It shows what was run, not that
    data
    is forgotten.

    Args:
        receipt: The receipt (JSON).
        model: Checkpoint that the run wrote.
        original: Checkpoint that the run started from.
        record: The run's record (JSON).
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
    kept = _secret(receipt, secret, prove is not None)
    shown = Proof.load(proof) if proof is not None else prove
    checks = verify_receipt(receipt, model, record, shown, key, original=original, secret=kept, parent=parent)
    good = _print(checks)
    if good and write_proof is not None and kept is not None and prove is not None:
        kept.prove(prove).save(write_proof)
        print(f"proof: {write_proof}")
    if not good:
        raise SystemExit(1)
    print("This shows what was run. It does not show that the data is forgotten: see the audit for that.")


def sign(receipt: Place, *, key: Path, out: Path | None = None) -> None:
    """Sign a receipt, or sign it anew with another key. Its id stays; date and key in its envelope are new.

    Args:
        receipt: The receipt to sign; it must hold.
        key: Private key file, made by `expunge keygen`.
        out: File to write; in place by default.
    """
    if not all(check.ok for check in verify_receipt(receipt)):
        raise ExpungeError(f"{receipt} does not hold as it is, so it is not signed: see `expunge verify`.")
    new = signed(Receipt.load(receipt), key)
    print(f"receipt: {new.save(out or receipt)} ({new.id}, signed by {new.envelope['key']['fingerprint']})")


def keygen(out: Place) -> None:
    """Make a key pair for receipts: the private key in OUT (keep it), the public one in OUT.pub (give it
    away).

    Args:
        out: File of the private key, readable by you only; existing files are not replaced.
    """
    print(f"private key: {out}\npublic key: {out}.pub\nfingerprint: {make_key(out)}")


@dataclass(frozen=True, kw_only=True)
class ReceiptFlags:
    """The receipt of a run."""

    receipt: bool = True  # write one beside the checkpoint, and the secret that shows what was forgotten
    sign_key: Path | None = None  # private key (`expunge keygen`) to sign the receipt with; unsigned without
    parent: Path | None = None  # receipt of the run that made the input checkpoint, to name it in the new

    def check(self) -> None:
        """Raise `ExpungeError` for a key or a parent that could not be used after the run."""
        if not self.receipt and (self.sign_key is not None or self.parent is not None):
            raise ExpungeError("--no-receipt leaves nothing to sign or to name a parent in: drop a flag.")
        if self.sign_key is not None:
            load_private(self.sign_key)
        if self.parent is not None:
            Receipt.load(self.parent)

    def write(self, record: Path, before: Path, after: Path, forget_ids: Sequence[str] | None,
              mask: Any = None) -> None:
        """Write the receipt of a run beside the checkpoint `after`, and its secret: `receipt_paths`."""
        if not self.receipt:
            return
        parent = Receipt.load(self.parent) if self.parent is not None else None
        made, secret = issue(Record.load(record), forget_ids, before=before, after=after, mask=mask,
                             parent=parent, key=self.sign_key)
        path, secret_path = receipt_paths(after, made.id)
        if secret is not None:
            secret.save(secret_path)  # first: a receipt whose commitment nobody can open is worth little
        made.save(path)
        print(f"receipt: {path} ({made.id}, {'signed' if made.signature else 'unsigned'})")
        if secret is not None:
            print(f"secret: {secret_path} (keep it private; it proves which ids were forgotten)")


def receipt_paths(checkpoint: Path, name: str) -> tuple[Path, Path]:
    """Where the receipt called `name` of a checkpoint lies, and its secret. The secret's file carries the
    receipt's name: another run to the same checkpoint must not lose the secret of a receipt handed out."""
    return checkpoint.with_suffix(".receipt.json"), checkpoint.with_suffix(f".{name[:11]}.secret.json")


def _secret(receipt: Path, given: Path | None, needed: bool) -> Secret | None:
    """The secret in the file given, else, where one is needed, the one beside the receipt."""
    if given is not None:
        return Secret.load(given)
    if not needed:
        return None
    try:
        name = Receipt.load(receipt).id
    except ExpungeError:
        return None  # the checks will say so
    for path in sorted(receipt.parent.glob(f"*.{name[:11]}.secret.json")):
        return Secret.load(path)
    raise ExpungeError(f"no secret of this receipt lies beside {receipt}: name it with --secret.")


def _print(checks: Sequence[Check]) -> bool:
    """One line a check, and whether all held."""
    for check in checks:
        print(f"{'ok    ' if check.ok else 'FAILED'} {check.name}: {check.words}")
    failed = sum(not check.ok for check in checks)
    print(f"{failed} of {len(checks)} checks failed" if failed else f"all {len(checks)} checks hold")
    return not failed


# ---- the ledger: one dataclass an action

@dataclass
class Add:
    """Enter a deletion request; the first one makes the file."""

    ledger: Place  # the ledger file
    subject: tyro.conf.Positional[str]  # a reference to the person, not the name: entries cannot be deleted
    ids: Path | None = None  # text file with the sample ids, one a line; only a salted hash of them is kept
    received: str = ""  # day the request came, as 2026-01-31; today (UTC) by default
    due: str = ""  # day it must be answered by; --days after it came by default
    days: int = DAYS  # days to answer in, where no --due is given
    note: str = ""  # anything worth keeping

    def run(self) -> None:
        ledger = Ledger(self.ledger, create=True)
        request = ledger.request(ledger.add(self.subject, _ids(self.ids), received=self.received,
                                            due=self.due, days=self.days,
                                            note=self.note))
        print(f"request {request.number}, due {request.due}")


@dataclass
class List:
    """Show all requests as they stand."""

    ledger: Place  # the ledger file
    status: Status | None = None  # only those with this status

    def run(self) -> None:
        _table([r for r in Ledger(self.ledger).requests() if self.status in (None, r.status)])


@dataclass
class Attach:
    """Attach a run's record, an audit, a receipt or a status. A receipt that holds makes the request done."""

    ledger: Place  # the ledger file
    request: tyro.conf.Positional[int]  # the request's number
    record: Path | None = None  # the run's record (JSON)
    audit: Path | None = None  # record of the audit (JSON)
    receipt: Path | None = None  # the receipt (JSON); it is verified and kept whole
    secret: Path | None = None  # the receipt's secret, to show that the request's ids were in the forget set
    ids: Path | None = None  # the request's ids again, one a line
    key: str | None = None  # public key that must have signed the receipt: its .pub file or 64 hex digits
    status: Status | None = None  # say how the request stands, such as refused
    note: str = ""  # anything worth keeping

    def run(self) -> None:
        now = Ledger(self.ledger).attach(
            self.request, record=self.record, audit=self.audit, receipt=self.receipt, secret=self.secret,
            ids=_ids(self.ids),
            public_key=self.key, status=self.status, note=self.note)
        shown = f"; all {now.ids} ids shown to be in its forget set" if now.proved else ""
        print(f"request {now.number} is {now.status}{shown}")


@dataclass
class Overdue:
    """Show requests still to be answered whose day has passed. Exit code 1 if there are any."""

    ledger: Place  # the ledger file
    today: str = ""  # the day to judge by, as 2026-01-31; today (UTC) by default

    def run(self) -> None:
        found = Ledger(self.ledger).overdue(_day(self.today))
        _table(found)
        if found:
            raise SystemExit(1)


@dataclass
class CheckLedger:
    """Check that no row was changed, added or lost; exit code 1 if one was. Note its head somewhere else."""

    ledger: Place  # the ledger file, or its export (.json)
    head: str = ""  # a head that an earlier check printed (count:hash): was this ledger ever there?

    def run(self) -> None:
        noted = Head.of(self.head) if self.head else None
        exported = self.ledger.suffix == ".json"
        if not _print(check_export(self.ledger, noted) if exported else Ledger(self.ledger).check(noted)):
            raise SystemExit(1)


@dataclass
class Export:
    """Write all rows as one JSON file, readable by you only."""

    ledger: Place  # the ledger file
    out: Place  # file to write; an existing one is not replaced

    def run(self) -> None:
        ledger = Ledger(self.ledger)
        ledger.export(self.out)
        print(f"export: {self.out}, head {ledger.head()}")


_ACTIONS: dict[str, type] = {"add": Add, "list": List, "attach": Attach, "overdue": Overdue,
                             "check": CheckLedger, "export": Export}
_Action: Any = Union[tuple(Annotated[kind, tyro.conf.subcommand(name=name, prefix_name=False)]  # noqa: UP007
                           for name, kind in _ACTIONS.items())]


def ledger(action: tyro.conf.OmitArgPrefixes[_Action]) -> None:
    """Keep deletion requests and their receipts in one file that shows every later change."""
    action.run()


def _ids(path: Path | None) -> list[str]:
    """The ids in a text file, one a line, as `--forget-ids` reads them."""
    if path is None:
        return []
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise ExpungeError(f"{path} cannot be read as ids, one a line: {error}.") from error


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        raise ExpungeError(f"today is {text!r}; write a day as 2026-01-31.") from None


def _table(requests: Sequence[Request]) -> None:
    today = datetime.now(UTC).date()
    table = Table("no.", "subject", Column("due", no_wrap=True), "status", "ids",
                  Column("receipt", no_wrap=True), "remarks")
    for r in requests:
        status = f"{r.status}, overdue" if r.is_overdue(today) else r.status
        ids = f"{r.ids}, proved" if r.proved else str(r.ids or "")
        remarks = ". ".join(text for text in (r.verdict, r.note) if text)
        table.add_row(str(r.number), r.subject, r.due, status, ids, r.receipt[:11], remarks)
    Console().print(table)


COMMANDS: dict[str, Callable[..., Any]] = {"verify": verify, "sign": sign, "keygen": keygen, "ledger": ledger}
