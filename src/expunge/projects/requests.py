"""The requests of a project as `state.json` keeps them, with their states in the ledger."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import date
from pathlib import Path
from typing import Any, Literal

from ..data.past_requests import PastRequest
from ..data.split import Split
from ..receipts.deletion import Request as LedgerRequest
from .wanted import Wanted

RequestState = Literal["waiting", "done", "came back"]
# the state of a done request in the ledger that lacks something
NOT_PROVED = "done, not proved"
# kind of a request that was added with `expunge ledger add`: nobody said which samples it names
IN_LEDGER = "in ledger only"
# in the names of files with the audit of one request
AUDIT = ".request-"
# fields that the ledger keeps, and not `state.json`
_OF_LEDGER = ("ledger_state", "missing", "foreign")


@dataclass
class ProjectRequest:
    """Hold one request of a project.

    Args:
        number: Number in the project and in its ledger, from 1.
        subject: Reference to the person.
        due: Day by which it must be answered.
        what: What it asks for (`Wanted.to_dict`). While it waits, `ids` are all samples that it had when it came, also those
            of a class or group. The ledger has their hash.
        kind: "ids", "class" or "group"; IN_LEDGER if only the ledger has it.
        samples: Number of its samples.
        state: What the project knows: "waiting", "done" if a run answered it, or "came back" if a later audit found that its
            samples are recognised again. The ledger says whether it is proved.
        request: Hash of its split. It identifies the request in records and audits.
        run: Number of the run that answered it, or 0.
        part: Positions of its samples among those that the model remembers for it (`PastRequest.ids`). Empty if it has all
            of them: a run may have forgotten more, because its group had grown or an earlier request had more samples.
        before: {hash of the split of an earlier run for it: positions of its samples there that its last run lacked, as the
            data had lost them}. They are its samples too, and a later run removes those that are back.
        tried: What the last run for it was made with (`Entries.attempt`).
        then: UA and MIA of the audit that followed its run.
        now: UA and MIA of the latest audit.
        audited: Number of the run whose audit scored it last, or 0.
        gone: Which of its samples the data no longer has, in a sentence without a full stop; empty if it has all.
        not_shown: Whether the scores of its own audit do not show that it is forgotten (`ConfidenceChange.warning`).
        unreliable_mia: Whether MIA and MIA_entropy contradict each other in the audit of its run.
        reason: Why it came back, or why the last run did not answer it, in a sentence.
        scores_of: Number of the request whose scores `then` and `now` are: one with more samples, whose run answered this one too; 0
            if they are its own.
        ledger_state: Its state in the ledger. `Project.status` reads it; it is not kept in `state.json`.
        missing: What the ledger lacks to call it proved.
        foreign: Id of the receipt that the ledger has for it and that is of no run of this project which answered it; empty for none.
    """

    number: int
    subject: str
    due: str
    what: dict[str, Any]
    kind: str
    samples: int
    state: RequestState = "waiting"
    request: str = ""
    run: int = 0
    part: list[int] = field(default_factory=list)
    before: dict[str, list[int]] = field(default_factory=dict)
    tried: str = ""
    then: dict[str, float] = field(default_factory=dict)
    now: dict[str, float] = field(default_factory=dict)
    audited: int = 0
    gone: str = ""
    not_shown: bool = False
    unreliable_mia: bool = False
    reason: str = ""
    scores_of: int = 0
    ledger_state: str = ""
    missing: tuple[str, ...] = ()
    foreign: str = ""

    @classmethod
    def new(cls, number: int, due: str, wanted: Wanted, subject: str, split: Split) -> ProjectRequest:
        """Make a waiting request."""
        kind = "ids" if wanted.ids else "class" if wanted.classes else "group"
        what = {**wanted.to_dict(), "ids": list(split.forget.ids), "subject": subject, "due": due}
        return cls(number, subject, due, what, kind, len(split.forget), request=split.request)

    @classmethod
    def of_ledger(cls, entry: LedgerRequest, receipts: Mapping[str, Collection[str]]) -> ProjectRequest:
        """Make a request that only the ledger has. `receipts` are those of the project (`receipts_of`)."""
        request = cls(entry.number, entry.subject, entry.due, {}, IN_LEDGER, 0)
        request.read_ledger(entry, receipts)
        return request

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ProjectRequest:
        """Make a request from an entry of `state.json`."""
        known = {f.name for f in fields(cls)} - set(_OF_LEDGER)
        return cls(**{k: v for k, v in values.items() if k in known})

    @property
    def wanted(self) -> Wanted:
        """What the request asks for."""
        return Wanted.from_dict({**self.what, "ids": self.what["ids"] if self.kind == "ids" else []})

    @property
    def drift(self) -> dict[str, float]:
        """Change of UA and MIA since the request's own audit, in percentage points."""
        return {k: self.now[k] - v for k, v in self.then.items() if k in self.now}

    @property
    def is_open(self) -> bool:
        """Whether a run has to answer it: it waits, came back, or is not proved."""
        if self.ledger_state:
            return self.ledger_state in ("open", "running", NOT_PROVED)
        return self.state != "done"

    @property
    def is_reopened(self) -> bool:
        """Whether a run answered it and somebody has opened it again in the ledger."""
        return self.state == "done" and self.ledger_state in ("open", "running")

    @property
    def shown_state(self) -> str:
        """The state in the ledger, in its words. A request that came back is open again."""
        state = self.ledger_state or ("done" if self.state == "done" else "open")
        if self.is_reopened:
            return f"{state}, reopened"
        return f"{state}, came back" if self.state == "came back" and state == "open" else state

    def is_overdue(self, today: date) -> bool:
        """Return whether the due day has passed and the request is open, or done but not proved."""
        return self.is_open and date.fromisoformat(self.due) < today

    def read_ledger(self, request: LedgerRequest, receipts: Mapping[str, Collection[str]]) -> None:
        """Take over what the ledger says of this request. `receipts` are those that count for the project (`receipts_of`)."""
        self.ledger_state, self.missing = request.state, tuple(request.missing)
        if request.status != "done" or not request.receipt or self.is_answered(request.receipt, receipts):
            self.foreign = ""
            return
        self.ledger_state, self.foreign = NOT_PROVED, request.receipt
        other = "its run did not answer the request" if request.receipt in receipts else "of another model"
        self.missing += (f"a receipt of a run of this project ({self.foreign[:11]} is no proof: {other})",)

    def is_answered(self, receipt: str, receipts: Mapping[str, Collection[str]]) -> bool:
        """Return whether a receipt is of the project, and of a run that answered for the samples of a request that waits."""
        if receipt not in receipts or self.state != "waiting" or self.kind == IN_LEDGER:
            return receipt in receipts
        ids = self.what["ids"]
        return bool(ids) and set(ids) <= set(receipts[receipt])

    @property
    def waits(self) -> bool:
        """Whether no run has answered it, and nobody refused or withdrew it: no run may train on its samples."""
        return self.state == "waiting" and self.ledger_state not in ("refused", "withdrawn")

    def answered(self, run: int, past: PastRequest, known: Mapping[str, Sequence[str]]) -> None:
        """Mark the request as answered by a run, as the model remembers it.

        Args:
            run: Number of the run.
            past: The request, as the model remembers it.
            known: {hash of a split: ids that the model before the run remembered for it}.
        """
        removed = set(past.ids)
        left = {split: [at for at, name in own if name not in removed] for split, own in self._places(known)}
        self.before = {split: places for split, places in left.items() if places and split != past.request}
        self.state, self.run, self.request, self.reason = "done", run, past.request, ""
        self.audited, self.scores_of = run, 0
        self.then, self.now = dict(past.scores), dict(past.scores)
        self.keep_part(past)

    def keep_part(self, past: PastRequest) -> None:
        """Replace the ids of the request by their positions in what the model remembers."""
        own = set(self.what["ids"])
        places = [at for at, name in enumerate(past.ids) if name in own]
        self.part = places if len(places) < len(past.ids) else []
        self.what = {**self.what, "ids": []}

    def ids_in(self, past: Sequence[str]) -> list[str]:
        """Return the ids of an answered request, given those that the model remembers for it."""
        return [past[at] for at in self.part if at < len(past)] if self.part else list(past)

    def all_ids(self, known: Mapping[str, Sequence[str]]) -> list[str]:
        """Return all ids of an answered request, also those that its last run lacked.

        Args:
            known: {hash of a split: ids that the model remembers for it}.
        """
        return list(dict.fromkeys(name for _, own in self._places(known) for _, name in own))

    def _places(self, known: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, list[tuple[int, str]]]]:
        """Yield each split that has samples of the request, with their positions and ids there."""
        for split, places in ({self.request: self.part} | self.before).items() if self.run else ():
            ids = known.get(split, ())
            yield split, [(at, ids[at]) for at in places or range(len(ids)) if at < len(ids)]

    def to_dict(self) -> dict[str, Any]:
        """Return the values as JSON holds them."""
        values = {k: v for k, v in asdict(self).items() if k not in _OF_LEDGER}
        if self.state != "waiting":
            values["what"]["ids"] = []
        return values


def audit_file(model: Path, number: int) -> Path:
    """Return the file of the audit of one request, where a run answered several."""
    return model.with_suffix(f"{AUDIT}{number}.json")


def receipts_of(state: Mapping[str, Any], answered: Iterable[PastRequest]) -> dict[str, set[str]]:
    """Return {id of a receipt: ids that its run answered for}. Of another receipt, nothing is known about a project's models.

    They are those of its runs, and of what its model had answered before. A run may have forgotten more than it answered: samples of
    requests that it declined.

    Args:
        state: Its state.
        answered: The requests that its latest model has answered.
    """
    found: dict[str, set[str]] = {
        entry["receipt"]: set() for entry in state["models"] if entry.get("receipt")
    }
    for past in answered:
        if past.receipt:
            found.setdefault(past.receipt, set()).update(past.ids)
    return found
