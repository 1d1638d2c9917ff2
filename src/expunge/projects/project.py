"""`Project`: a folder with a model, its data and settings, and every deletion request in order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any, Literal

from torch import nn

from ..data.split import Split
from ..receipts.ledger import Ledger
from ..tracking.by_name import TrackerLike, make_trackers
from . import folder as files
from .accept import accept_state
from .answer import answer, watched
from .answered import Answer, NotAnswered, check_some
from .arguments import check_project, check_requests, path_of
from .changes import commit, enter, ledger_copy, not_proved
from .creation import make_folder, remove_leftovers
from .delivery import deliver_answer, mark_failed
from .file_checks import check_files, problems_unsealed, project_status
from .ledger_limits import public_key
from .left_waiting import left_waiting
from .pending import draw_open, still_open
from .plan import Plan, plan_answer
from .prepared import Prepared, Say, for_requests, prepare, say_nothing
from .repeated import answer_repeats, answer_without_run, note_repeats
from .request_scores import renumber
from .requests import ProjectRequest
from .same_subject import note_same_subjects
from .settings import ProjectSettings, read_settings
from .shown_status import ProjectStatus
from .status import completed, states_from_file
from .together import check_together
from .wanted import Wanted, wanted
from .words import for_project, in_project_words


class Project:
    """A project folder. `expunge init` or `Project.create` makes one.

    Args:
        path: The folder.
        wait: Seconds to wait for another command that works in the folder.
        say: Called with notes for the user.
        tracker: Watches each run: "tensorboard:DIR", "mlflow:URI", "wandb:PROJECT", a `Tracker`, or several of them.

    Raises:
        ExpungeError: The folder has no project.

    Example:
        >>> project = Project("office")  # doctest: +SKIP
        >>> project.forget(ids=["user-17"], subject="case 114").scores["UA"]  # doctest: +SKIP
        4.2
    """

    def __init__(
        self, path: Path | str, *, wait: float = 0.0, say: Say = say_nothing, tracker: TrackerLike = None
    ):
        self.trackers = make_trackers(tracker)
        check_project(wait, say)
        remove_leftovers(path_of("the folder", path))
        self.folder = files.Folder(path)
        self.path, self.wait, self.say = self.folder.path, wait, lambda text: say(for_project(text))

    def __repr__(self) -> str:
        return f"Project({self.path}, {len(self.folder.state()['requests'])} requests)"

    @classmethod
    def create(
        cls,
        path: Path | str,
        settings: ProjectSettings,
        checkpoint: Path | str,
        history: Path | None = None,
        *,
        say: Say = say_nothing,
    ) -> Project:
        """Make a project folder.

        Args:
            path: The folder. It must be missing or empty.
            settings: The settings, as `checked` returns them.
            checkpoint: The trained model. It is copied.
            history: File of the requests that the model has answered. By default the one beside the checkpoint.
            say: Called with notes for the user.

        Raises:
            ExpungeError: Lists every problem. Nothing is written then.
        """
        make_folder(path, settings, checkpoint, history, say)
        return cls(path)

    def forget(
        self,
        *,
        ids: Iterable[str | int] | None = None,
        classes: str | int | Iterable[str | int] | None = None,
        group: str = "",
        goal: Literal["untrain", "unlearn"] | None = None,
        subject: str = "",
        due: str = "",
        received: str = "",
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
            received: Day on which it came. By default today (UTC).
            command: The command as it can be typed again, for the record.

        Returns:
            Model, scores and records. The folder then has the next checkpoint, its record, receipt and request file.

        Raises:
            NotAnswered: The run diverged, changed nothing, did harm or forgot nothing. The request waits, and the model stays.
            ExpungeError: The request is wrong. The folder stays as it was.
        """
        what: dict[str, Any] = {"ids": ids, "classes": classes, "group": group, "goal": goal}
        return self.answer([wanted(**what, subject=subject, due=due, received=received)], command=command)

    @in_project_words
    def answer(self, new: Sequence[Wanted] = (), *, pending: bool = False, command: str = "") -> Answer:
        """Answer several requests with one run.

        A request for samples that an earlier run removed is answered by that run, if it is proved. One that the run does not
        answer waits (`Answer.failures`), and no run trains on its samples. One that no run can close is in `Answer.skipped`.

        Args:
            new: New requests.
            pending: Whether to answer the waiting requests too, and those that came back or are not proved.
            command: The command as it can be typed again, for the record.

        Raises:
            NotAnswered: The run answers none of the requests. They wait, and the model stays.
            NothingWaits: No request is given, and none waits.
            StillOpen: No request is given, and a run can answer none of the open ones. The folder stays as it was.
            ExpungeError: A new request is wrong. The folder stays as it was.
        """
        with self.folder.locked(self.wait):
            prepared = self._prepare(new, command)
            with self.folder.change() as work:
                ledger = ledger_copy(self.folder, work, prepared, self.say)
                entries, splits = enter(prepared, ledger, new, self.say)
                waiting, of_waiting, skipped = draw_open(prepared, pending, self.say, entries)
                check_some(entries := [*waiting, *entries], [text for _, text in skipped])
                splits = [*of_waiting, *splits]
                left, kept = answer_repeats(self.folder, prepared, ledger, entries, splits, self.say)
                failed = None
                try:
                    again = answer_without_run(prepared, entries, splits, kept) if not left else None
                    found = again or self._run(prepared, work, ledger, left)
                    found.entries, found.not_proved = list(entries), not_proved(ledger, prepared, entries)
                    found.skipped = still_open(prepared, skipped, self.say)
                except NotAnswered as error:
                    failed = error
                    still_open(prepared, skipped, self.say)
                commit(self.folder, prepared, work, ledger)
                if failed:
                    raise failed
        return found

    def _run(
        self, prepared: Prepared, work: Path, ledger: Ledger, left: Sequence[tuple[ProjectRequest, Split]]
    ) -> Answer:
        """Answer requests by a new run, and write its files into `work`. Requests that it does not answer stay open."""
        entries, splits = [entry for entry, _ in left], [split for _, split in left]
        what = [e.wanted for e in entries]
        setting = replace(for_requests(prepared, what), waiting=left_waiting(prepared, entries, self.say))
        check_together(left, setting.waiting, self.path / files.LEDGER)
        with watched(self.trackers, setting, splits) as (setting, tracking):
            try:
                found = answer(prepared.model, what, setting, splits)
            except NotAnswered as error:
                tracking.take_record(error.outcomes[-1].record)
                mark_failed(ledger, entries, error.reasons, setting.method.name())
                renumber(error.outcomes[-1].record, prepared.requests, (), entries)
                error.entries = entries
                raise
            tracking.take_record(found.record)
            deliver_answer(prepared, work, ledger, entries, found, setting)
            model = prepared.state["models"][-1]["file"]
            tracking.wrote(checkpoint=self.path / model, report=self.path / files.REPORT)
        return found

    @in_project_words
    def register(self, new: Sequence[Wanted]) -> list[ProjectRequest]:
        """Enter requests that wait for `answer(pending=True)`, and return them. No model is changed."""
        with self.folder.locked(self.wait):
            prepared = self._prepare(new)
            with self.folder.change() as work:
                ledger = ledger_copy(self.folder, work, prepared, self.say)
                entries, splits = enter(prepared, ledger, new, self.say)
                note_repeats(prepared, entries, splits, self.say)
                commit(self.folder, prepared, work, ledger)
        return entries

    @in_project_words
    def plan(self, new: Sequence[Wanted] = (), *, pending: bool = False) -> Plan:
        """Return what `answer` would do and cost. No file is changed. The checks and errors are those of `answer`."""
        prepared = self._prepare(new)
        prepared.in_ledger = states_from_file(self.folder, prepared.state, prepared.requests)
        entries, splits, skipped = draw_open(prepared, pending, self.say)
        check_some([*entries, *new], [text for _, text in skipped], self.say)
        note_same_subjects([*prepared.requests, *prepared.in_ledger], new, self.say)
        left, pairs = left_waiting(prepared, entries, self.say), list(zip(entries, splits, strict=True))
        return plan_answer(prepared, pairs, new, left, self.path, self.say)

    def status(self, today: date | None = None, *, full: bool = False) -> ProjectStatus:
        """Return all requests with their states in the ledger, the latest model, and what is wrong with files and settings.

        The latest model is read, and the data is not.

        Args:
            today: The day that due days are compared with. Default: today (UTC).
            full: Also compare all files of earlier runs, and their models, with their receipts.
        """
        return completed(self.folder, project_status(self.folder, today, full))

    @property
    def settings(self) -> ProjectSettings:
        """The settings in `expunge.toml`. Raises `ExpungeError` with every problem."""
        return read_settings(self.folder.settings_file)

    @property
    def model(self) -> nn.Module:
        """The latest model, which knows the requests it has answered."""
        return self._prepare().model

    def accept(self) -> None:
        """Accept `state.json` as it is. Raises `ExpungeError` with every entry that contradicts files, ledger, settings or data."""
        with self.folder.locked(self.wait):
            state = self.folder.state()
            accept_state(self.folder, state, problems_unsealed(self.folder, state), self.say)

    def _prepare(self, new: Sequence[Wanted] = (), command: str = "") -> Prepared:
        """Check requests, files and key, then load what a command works with."""
        check_requests(new, Wanted, command)
        check_files(self.folder, self.say)
        public_key(self.settings)
        return prepare(self.folder, self.say, command)
