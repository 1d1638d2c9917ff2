"""`Project`: a folder with a model, its data and settings, and every deletion request in order."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path
from typing import Literal

from torch import nn

from ..data.past_requests import requests_of
from ..data.split import Split
from ..errors import ExpungeError
from ..receipts.ledger import Ledger
from ..records.record import Record
from . import folder as files
from .answer import answer
from .answered import Answer
from .creation import make_folder
from .delivery import deliver, mark_answered
from .file_checks import check_files, project_status
from .folder import Folder
from .plan import Plan, make_plan
from .prepared import Prepared, Say, draw_each, drawn_entry, for_requests, prepare, unanswered
from .repeated import answer_repeats, earlier_answer, earlier_of
from .requests import ProjectRequest, ProjectStatus
from .settings import ProjectSettings, read_settings
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
        make_folder(Path(path), settings, Path(checkpoint), history)
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
                    splits = [*draw_each(prepared.setting, waiting), *splits]
                    entries = [*waiting, *entries]
                if not entries:
                    raise ExpungeError(NOTHING_WAITS)
                left, kept = answer_repeats(self.folder, prepared, ledger, entries, splits, self.say)
                if left:
                    found = self._run(prepared, work, ledger, [e for e, _ in left], [s for _, s in left])
                else:
                    hashes = {entry.request for entry in entries}
                    past = [p for p in requests_of(prepared.model) if p.request in hashes]
                    found = Answer([], splits, past, kept=(prepared.model, Record.load(kept[-1])))
                self._commit(prepared, work, ledger)
        return found

    def _run(
        self,
        prepared: Prepared,
        work: Path,
        ledger: Ledger,
        entries: Sequence[ProjectRequest],
        splits: Sequence[Split],
    ) -> Answer:
        """Answer requests by a new run, and write its files into `work`."""
        requests = [entry.wanted for entry in entries]
        setting = for_requests(prepared, requests)
        found = answer(prepared.model, requests, setting, splits)
        model = deliver(prepared, work, ledger, entries, found, setting)
        mark_answered(prepared, ledger, entries, found, model)
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
                    if earlier := earlier_of(prepared, entry, split):
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
        setting, recipe = for_requests(prepared, requests), prepared.settings.make_recipe()
        return make_plan(prepared.model, splits, setting, recipe, self.path, prepared.model_file)

    def status(self, today: date | None = None, *, full: bool = False) -> ProjectStatus:
        """Return all requests with their states, the latest model, and what is wrong with the files of the project.

        The latest model is read, and the data is not.

        Args:
            today: The day that due days are compared with. Default: today (UTC).
            full: Also compare all files of earlier runs, and their models, with their receipts.
        """
        return project_status(self.folder, today, full)

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
        check_files(self.folder, self.say)
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
