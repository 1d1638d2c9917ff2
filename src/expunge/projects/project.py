"""`Project`: a folder with a model, its data and settings, and every deletion request in order."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any, Literal

from torch import nn

from ..data.past_requests import remember_requests, requests_of
from ..data.split import Split
from ..errors import ExpungeError, raise_all
from ..pipeline.factory import seeded_factory
from ..receipts.ledger import Ledger
from ..records.checkpoint import read_checkpoint
from ..records.checkpoint_loading import load_into
from ..records.checkpoint_metadata import check_original
from ..records.request_file import answered_requests, requests_path, write_requests
from ..sources.loading import load
from ..tasks.classification import Classification
from ..training.run import Compute
from . import folder as files
from .answer import answer
from .answered import Answer, Setting
from .delivery import deliver
from .folder import Folder
from .plan import Plan, make_plan
from .requests import ProjectRequest, ProjectStatus, apply_audit, utc_today
from .settings import ProjectSettings, load_original, read_settings
from .wanted import NO_SUBJECT, Wanted, wanted

Say = Callable[[str], None]


def _say_nothing(text: str) -> None:
    pass


@dataclass
class Prepared:
    """Hold what a command of a project works with: its state, settings, data and latest model."""

    state: dict[str, Any]
    requests: list[ProjectRequest]
    settings: ProjectSettings
    setting: Setting
    model: nn.Module
    model_file: Path


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
            if answered:
                write_requests(requests_path(work / name), answered)
            (work / files.SETTINGS).write_text(settings.to_toml(), encoding="utf-8")
            state = {
                "format": files.FORMAT,
                "models": [{"file": name, "sha256": _sha256(work / name), "receipt": ""}],
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

        Args:
            new: New requests.
            pending: Whether to answer the waiting requests too, and those that came back.
            command: The command as it can be typed again, for the record.
        """
        with self.folder.locked(self.wait):
            prepared = self._prepare(command)
            with self.folder.change() as work:
                ledger = self._ledger(work)
                entries = self._enter(prepared, ledger, new)
                if pending:
                    entries = _unanswered(prepared) + entries
                if not entries:
                    raise ExpungeError("no request waits; name what to forget, or leave --pending out.")
                setting = _for_requests(prepared, [e.wanted for e in entries])
                found = answer(prepared.model, [e.wanted for e in entries], setting)
                model = deliver(self.folder, prepared, work, ledger, entries, found, setting)
                for entry, past in zip(entries, found.requests, strict=True):
                    entry.answered(len(prepared.state["models"]), past.scores)
                known = [r for r in prepared.requests if r not in entries]
                for entry in apply_audit(known, found.earlier):
                    # the ledger has reopened it where it found its receipt in the audit
                    if ledger.request(entry.number).status == "done":
                        ledger.attach(entry.number, status="open", note=entry.reason)
                merged = {r.number: r for r in [*prepared.requests, *entries]}
                self.folder.commit(
                    work,
                    {
                        "models": [
                            *prepared.state["models"],
                            {**model, "sha256": _sha256(work / model["file"])},
                        ],
                        "requests": [r.to_dict() for r in merged.values()],
                    },
                )
        return found

    def register(self, new: Sequence[Wanted]) -> list[ProjectRequest]:
        """Enter requests that wait for `answer(pending=True)`, and return them. No model is changed."""
        with self.folder.locked(self.wait):
            prepared = self._prepare()
            with self.folder.change() as work:
                entries = self._enter(prepared, self._ledger(work), new)
                all_requests = [r.to_dict() for r in [*prepared.requests, *entries]]
                self.folder.commit(work, {**prepared.state, "requests": all_requests})
        return entries

    def plan(self, new: Sequence[Wanted] = (), *, pending: bool = False) -> Plan:
        """Return what `answer` would do and cost. No file is changed."""
        prepared = self._prepare()
        requests = [r.wanted for r in _unanswered(prepared)] if pending else []
        requests += new
        if not requests:
            raise ExpungeError("no request waits; name what to forget, or leave --pending out.")
        setting = _for_requests(prepared, requests)
        recipe = prepared.settings.make_recipe()
        return make_plan(prepared.model, requests, setting, recipe, self.path, prepared.model_file)

    def status(self, today: date | None = None) -> ProjectStatus:
        """Return all requests with their states, and the latest model. Neither data nor model is read."""
        state = self.folder.state()
        requests = [ProjectRequest.from_dict(r) for r in state["requests"]]
        return ProjectStatus(requests, state["models"][-1]["file"], today or utc_today())

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
        state, settings = self.folder.state(), self.settings
        entry = state["models"][-1]
        path = self.folder.find(entry["file"])
        if not path.is_file() or _sha256(path) != entry["sha256"]:
            raise ExpungeError(f"{path} is missing or was changed; restore it from a backup.")
        source = load(settings.data)
        checkpoint = read_checkpoint(path, settings.ema if len(state["models"]) == 1 else None)
        model = settings.build(source)
        load_into(model, checkpoint)
        kept = self.folder.find(str(requests_path(Path(entry["file"]))))
        remember_requests(model, answered_requests(checkpoint, kept if kept.exists() else None))
        setting = Setting(
            train=source.train,
            test=source.test,
            task=Classification(len(source.classes)),
            method=settings.make_method(),
            validation=settings.validation,
            split_seed=settings.split_seed,
            copies=settings.copies,
            seed=settings.seed,
            compute=Compute(**settings.compute),
            rehearse=settings.rehearse,
            recipe=settings.make_recipe() if settings.reference else None,
            factory=seeded_factory(lambda: settings.build(source).to(settings.device), settings.seed),
            measures=settings.measures,
            names={"model": settings.model, "data": source.name, "classes": source.classes},
            command=command,
        )
        requests = [ProjectRequest.from_dict(r) for r in state["requests"]]
        prepared = Prepared(state, requests, settings, setting, model.to(settings.device), path)
        if len(state["models"]) == 1 and (note := check_original(checkpoint, _any_split(setting))):
            self.say(note.replace("add --validation 0", "set validation = 0 in expunge.toml"))
        return prepared

    def _enter(self, prepared: Prepared, ledger: Ledger, new: Sequence[Wanted]) -> list[ProjectRequest]:
        """Enter new requests in the ledger. They are drawn first, so a wrong one is refused."""
        splits: list[Split] = [prepared.setting.draw(request) for request in new]
        entries = []
        for request, split in zip(new, splits, strict=True):
            subject = request.subject or NO_SUBJECT
            number = ledger.add(subject, split.forget.ids, due=request.due, days=prepared.settings.days)
            due = ledger.request(number).due
            entries.append(ProjectRequest.new(number, due, request, subject, split))
        return entries

    def _ledger(self, work: Path) -> Ledger:
        """Return a copy of the ledger in the hidden folder of a change."""
        kept, copied = self.path / files.LEDGER, work / files.LEDGER
        if kept.exists():
            shutil.copy(kept, copied)
        return Ledger(copied, create=not kept.exists())


def _unanswered(prepared: Prepared) -> list[ProjectRequest]:
    """Return the requests that wait or came back, with the ids of their samples."""
    known = {past.request: past.ids for past in requests_of(prepared.model)}
    entries = [r for r in prepared.requests if r.state != "done"]
    for entry in entries:
        if entry.kind == "ids" and not entry.what["ids"]:
            entry.what = {**entry.what, "ids": list(known[entry.request])}
    return entries


def _for_requests(prepared: Prepared, requests: Sequence[Wanted]) -> Setting:
    """Return the setting with the preset for what is forgotten."""
    scenario: Literal["class", "random"] = "class" if all(r.classes for r in requests) else "random"
    return replace(prepared.setting, method=prepared.settings.make_method(scenario))


def _any_split(setting: Setting) -> Split:
    """Return a split whose training samples are those of every other one."""
    first = "0" if setting.train.ids is None else str(setting.train.ids[0])
    return setting.draw(Wanted(ids=(first,)))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
