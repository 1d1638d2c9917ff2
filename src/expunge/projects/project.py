"""`Project`: a folder with a model, its data and settings, and every deletion request in order."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path
from typing import Literal

from torch import nn

from ..data.past_requests import requests_of
from ..data.split import Split
from ..errors import ExpungeError, raise_all
from ..receipts.ledger import Ledger
from ..records.record import Record
from ..records.request_file import answered_requests, requests_path, write_requests
from . import folder as files
from .answer import answer
from .answered import Answer, Setting
from .delivery import deliver
from .file_checks import file_problems
from .folder import Folder
from .plan import Plan, make_plan
from .prepared import Prepared, Say, drawn_entry, for_requests, prepare, sha256, unanswered
from .repeated import answer_by, earlier_answer, evidence
from .requests import ProjectRequest, ProjectStatus, apply_audit, utc_today
from .settings import ProjectSettings, load_original, read_settings
from .state import FORMAT, request_entries
from .wanted import NO_SUBJECT, Wanted, wanted


def _say_nothing(text: str) -> None:
    pass


NOTHING_WAITS = "no request waits; name what to forget, or leave --pending out."


class Project:
    """A project folder. `expunge init` or `Project.create` makes one.

    Args:
        path: The folder.
        wait: Seconds to wait for another command that works in the folder.
        say: Called with notes for the user.

    Raises:
        ExpungeError: The folder has no project.

    Example:
        >>> project = Project("office")  # doctest: +SKIP
        >>> project.forget(ids=["user-17"], subject="case 114").scores["UA"]  # doctest: +SKIP
        4.2
    """

    def __init__(self, path: Path | str, *, wait: float = 0.0, say: Say = _say_nothing):
        self.folder = Folder(path)
        self.path, self.wait, self.say = self.folder.path, wait, say

    def __repr__(self) -> str:
        return f"Project({self.path}, {len(self.folder.state()['requests'])} requests)"

    @classmethod
    def create(
        cls, path: Path | str, settings: ProjectSettings, checkpoint: Path | str, history: Path | None = None
    ) -> Project:
        """Make a project folder.

        Args:
            path: The folder. It must be missing or empty.
            settings: The settings, as `checked` returns them.
            checkpoint: The trained model. It is copied.
            history: File of the requests that the model has answered. By default the one beside the checkpoint.

        Raises:
            ExpungeError: Lists every problem. Nothing is written then.
        """
        path, checkpoint = Path(path), Path(checkpoint)
        files.check_new(path)
        read, problems = load_original(settings, checkpoint)
        raise_all(problems)
        assert read is not None
        answered = answered_requests(read, history)
        path.resolve().parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.resolve().parent))
        try:
            (work / files.MODELS).mkdir()
            name = f"{files.MODELS}/0000{checkpoint.suffix}"
            shutil.copyfile(checkpoint, work / name)
            kept = write_requests(requests_path(work / name), answered) if answered else None
            (work / files.SETTINGS).write_text(settings.to_toml(), encoding="utf-8")
            model = {"file": name, "sha256": sha256(work / name), "receipt": ""}
            state = {
                "format": FORMAT,
                "models": [{**model, "requests": sha256(kept) if kept else ""}],
                "requests": [],
                "moves": [],
            }
            files.write_private_json(work / files.STATE, state)
            files.create(path, work)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        return cls(path)

    # ---- requests

    def forget(
        self,
        *,
        ids: Iterable[str | int] | None = None,
        classes: str | int | Iterable[str | int] | None = None,
        group: str = "",
        goal: Literal["untrain", "unlearn"] | None = None,
        subject: str = "",
        due: str = "",
        command: str = "",
    ) -> Answer:
        """Answer one request with a run of the project's method on the latest model.

        Args:
            ids: Ids of samples, or positions if the data has no ids.
            classes: Class names or numbers.
            group: Group as COLUMN=VALUE.
            goal: "untrain" or "unlearn". By default "unlearn" for classes and "untrain" for all else.
            subject: Reference to the person, for the ledger. Do not use the name.
            due: Day by which it must be answered, as 2026-01-31.
            command: The command as it can be typed again, for the record.

        Returns:
            Model, scores and records. The folder then has the next checkpoint, its record, receipt and request file.

        Raises:
            ExpungeError: The request cannot be answered. The folder stays as it was.
        """
        request = wanted(ids=ids, classes=classes, group=group, goal=goal, subject=subject, due=due)
        return self.answer([request], command=command)

    def answer(self, new: Sequence[Wanted] = (), *, pending: bool = False, command: str = "") -> Answer:
        """Answer several requests with one run.

        A request for samples that an earlier one removed already is answered by the earlier run.

        Args:
            new: New requests.
            pending: Whether to answer the waiting requests too, and those that came back.
            command: The command as it can be typed again, for the record.
        """
        with self.folder.locked(self.wait):
            prepared = self._prepare(command)
            with self.folder.change() as work:
                ledger = self._ledger(work)
                splits = self._enter(prepared, ledger, new)
                entries = prepared.requests[len(prepared.requests) - len(new) :]
                if pending:
                    waiting = unanswered(prepared, self.say, entries)
                    splits = [*_draw_each(prepared.setting, waiting), *splits]
                    entries = [*waiting, *entries]
                if not entries:
                    raise ExpungeError(NOTHING_WAITS)
                found = self._answer(prepared, work, ledger, entries, splits)
                self._commit(prepared, work, ledger)
        return found

    def _answer(
        self,
        prepared: Prepared,
        work: Path,
        ledger: Ledger,
        entries: Sequence[ProjectRequest],
        splits: Sequence[Split],
    ) -> Answer:
        """Answer requests by earlier runs where these removed all samples, and the others by a new run."""
        left: list[tuple[ProjectRequest, Split]] = []
        kept: list[Path] = []
        for entry, split in zip(entries, splits, strict=True):
            earlier = self._earlier(prepared, entry, split)
            files = evidence(self.folder, prepared.state, earlier.run) if earlier else {}
            if earlier and files:
                self.say(answer_by(ledger, entry, earlier, split, files))
                kept.append(files["record"])
            else:
                left.append((entry, split))
        if not left:
            past = [p for p in requests_of(prepared.model) if p.request in {e.request for e in entries}]
            return Answer([], list(splits), past, kept=(prepared.model, Record.load(kept[-1])))
        return self._run(prepared, work, ledger, [e for e, _ in left], [s for _, s in left])

    def _earlier(self, prepared: Prepared, entry: ProjectRequest, split: Split) -> ProjectRequest | None:
        """Return the request whose run answers this one too, or None."""
        if entry.state != "waiting":
            return None
        return earlier_answer(split, requests_of(prepared.model), prepared.requests)

    def _run(
        self,
        prepared: Prepared,
        work: Path,
        ledger: Ledger,
        entries: Sequence[ProjectRequest],
        splits: Sequence[Split],
    ) -> Answer:
        """Answer requests by a new run, and write its files into `work`."""
        wanted = [e.wanted for e in entries]
        setting = for_requests(prepared, wanted)
        found = answer(prepared.model, wanted, setting, splits)
        model = deliver(prepared, work, ledger, entries, found, setting)
        known = [r for r in prepared.requests if r not in entries]
        for entry, past in zip(entries, found.requests, strict=True):
            entry.answered(len(prepared.state["models"]), past)
        for entry in apply_audit(known, found.earlier):
            # the ledger has reopened it where it found its receipt in the audit
            if ledger.request(entry.number).status == "done":
                ledger.attach(entry.number, status="open", note=entry.reason)
        prepared.state = {**prepared.state, "models": [*prepared.state["models"], model]}
        return found

    def register(self, new: Sequence[Wanted]) -> list[ProjectRequest]:
        """Enter requests that wait for `answer(pending=True)`, and return them. No model is changed."""
        with self.folder.locked(self.wait):
            prepared = self._prepare()
            with self.folder.change() as work:
                ledger = self._ledger(work)
                splits = self._enter(prepared, ledger, new)
                entries = prepared.requests[len(prepared.requests) - len(new) :]
                for entry, split in zip(entries, splits, strict=True):
                    if earlier := self._earlier(prepared, entry, split):
                        self.say(
                            f"request {entry.number} asks for samples that request {earlier.number} removed already; "
                            "`expunge forget --pending` answers it without a new run."
                        )
                self._commit(prepared, work, ledger)
        return entries

    def plan(self, new: Sequence[Wanted] = (), *, pending: bool = False) -> Plan:
        """Return what `answer` would do and cost. No file is changed."""
        prepared = self._prepare()
        requests = [r.wanted for r in unanswered(prepared, self.say)] if pending else []
        requests += new
        if not requests:
            raise ExpungeError(NOTHING_WAITS)
        splits = [prepared.setting.draw(request) for request in requests]
        for split in splits:
            if earlier := earlier_answer(split, requests_of(prepared.model), prepared.requests):
                self.say(
                    f"request {earlier.number} removed all samples of a request already; no run would be needed for it."
                )
        setting = for_requests(prepared, requests)
        recipe = prepared.settings.make_recipe()
        return make_plan(prepared.model, splits, setting, recipe, self.path, prepared.model_file)

    def status(self, today: date | None = None) -> ProjectStatus:
        """Return all requests with their states, the latest model, and what is wrong with the files of the project.

        Neither data nor model is read.
        """
        state = self.folder.state()
        problems = file_problems(self.folder, state)
        return ProjectStatus(
            request_entries(state), state["models"][-1]["file"], today or utc_today(), tuple(problems)
        )

    @property
    def settings(self) -> ProjectSettings:
        """The settings in `expunge.toml`. Raises `ExpungeError` with every problem."""
        return read_settings(self.path / files.SETTINGS)

    @property
    def model(self) -> nn.Module:
        """The latest model, which knows the requests it has answered."""
        return self._prepare().model

    # ---- pieces

    def _prepare(self, command: str = "") -> Prepared:
        """Check the files, then load what a command works with."""
        raise_all(file_problems(self.folder, self.folder.state()))
        return prepare(self.folder, self.say, command)

    def _enter(self, prepared: Prepared, ledger: Ledger, new: Sequence[Wanted]) -> list[Split]:
        """Enter new requests in state and ledger, and return their splits. They are drawn first, so a wrong one is refused."""
        splits = [prepared.setting.draw(request) for request in new]
        for request, split in zip(new, splits, strict=True):
            subject = request.subject or NO_SUBJECT
            number = ledger.add(subject, split.forget.ids, due=request.due, days=prepared.settings.days)
            due = ledger.request(number).due
            prepared.requests.append(ProjectRequest.new(number, due, request, subject, split))
        return splits

    def _ledger(self, work: Path) -> Ledger:
        """Return a copy of the ledger in the hidden folder of a change."""
        kept, copied = self.path / files.LEDGER, work / files.LEDGER
        if kept.exists():
            shutil.copy(kept, copied)
        return Ledger(copied, create=not kept.exists())

    def _commit(self, prepared: Prepared, work: Path, ledger: Ledger) -> None:
        """Make the files in `work`, the models and the requests those of the project."""
        state = {
            **prepared.state,
            "requests": [request.to_dict() for request in prepared.requests],
            "ledger": str(ledger.head()),
            "drawn": drawn_entry(prepared, work),
        }
        self.folder.commit(work, state)


def _draw_each(setting: Setting, entries: Sequence[ProjectRequest]) -> list[Split]:
    """Draw the split of each request. An error names the request."""
    splits = []
    for entry in entries:
        try:
            splits.append(setting.draw(entry.wanted))
        except ExpungeError as error:
            raise ExpungeError([f"request {entry.number}: {text}" for text in error.problems]) from error
    return splits
