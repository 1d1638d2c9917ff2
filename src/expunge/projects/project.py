"""`Project`: a folder with a model, its data, and every deletion request with its run, audit and receipt."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..data.past_requests import remember_requests, requests_of
from ..errors import ExpungeError, raise_all
from ..models import build
from ..records.atomic_files import write_text
from ..records.checkpoint import Checkpoint, read_checkpoint
from ..records.checkpoint_loading import load_into
from ..records.record import Record
from ..records.request_file import answered_requests
from ..report import write_report
from ..sources.loading import load
from ..sources.source import Source
from ..summaries import summary
from ..tasks.classification import Classification
from ..training.run import Row
from .answer import answer
from .entries import attach_results, enter, withdraw_unknown
from .plan import Plan, make_plan
from .requested import batches_of, new_request, split_of, union_of
from .settings import FILE, Settings, as_toml, read_settings
from .state import ProjectRequest, State, clean, locked, move_in, new_files, read_state, write_state


class Project:
    """A project folder. `expunge init` and `Project.create` make one.

    Args:
        folder: The folder.
        wait: Seconds to wait for another command in the folder before it is refused.

    Raises:
        ExpungeError: The folder is no project, or lists every problem of its `expunge.toml`.

    Example:
        >>> project = Project("models/reviews")  # doctest: +SKIP
        >>> project.forget(ids=["17", "230"], subject="case 2026-4")  # doctest: +SKIP
        >>> print(project)  # doctest: +SKIP
    """

    def __init__(self, folder: str | Path, *, wait: float = 0.0):
        self.folder, self.wait = Path(folder), wait
        self.settings = read_settings(self.folder)
        self._source: Source | None = None

    @classmethod
    def create(cls, folder: str | Path, settings: Settings) -> Project:
        """Make a project folder: check settings, data and checkpoint, copy the checkpoint, and write the files.

        Raises:
            ExpungeError: The folder is a project already, or data, model and checkpoint do not fit. Nothing is left then.
        """
        folder = Path(folder)
        if (folder / FILE).exists():
            raise ExpungeError(f"{folder} is a project already; give another folder.")
        checkpoint = Path(settings.model.checkpoint)
        source = load(settings.model.data)
        _load_model(settings, source, checkpoint)
        existed = folder.exists()
        try:
            models = folder / "models"
            models.mkdir(parents=True, exist_ok=True)
            name = f"0000{checkpoint.suffix}"
            shutil.copyfile(checkpoint, models / name)
            for beside in (checkpoint.with_suffix(".requests.json"),):
                if beside.exists():
                    shutil.copyfile(beside, models / "0000.requests.json")
            write_state(folder, State((name,)))
            # the last file: without it the folder is no project
            write_text(folder / FILE, as_toml(settings))
        except OSError as error:
            if not existed:
                shutil.rmtree(folder, ignore_errors=True)
            raise ExpungeError(
                f"{folder} cannot be written: {error.strerror}; give another folder."
            ) from error
        return cls(folder)

    def __repr__(self) -> str:
        state = self.state
        waiting = sum(r.status == "waiting" for r in state.requests)
        return summary(
            f"Project({self.folder.name}, {len(state.models) - 1} runs, {len(state.requests)} requests, {waiting} waiting)",
            f"data {self.settings.model.data}, model {self.settings.model.model}, method {self.settings.method.name}",
            *(f"{r.number}: {r.text}, {r.status}" for r in state.requests[-8:]),
        )

    @property
    def state(self) -> State:
        """The models and requests as the folder has them now."""
        return read_state(self.folder)

    @property
    def source(self) -> Source:
        """The data of the project. It is read once."""
        if self._source is None:
            self._source = load(self.settings.model.data)
        return self._source

    @property
    def requests(self) -> tuple[ProjectRequest, ...]:
        """All requests, in order."""
        return self.state.requests

    def model(self) -> nn.Module:
        """Return the latest model. It knows the requests it has answered."""
        return self._latest(self.state)[0]

    def add(self, **what: Any) -> ProjectRequest:
        """Enter a request without answering it. Arguments are those of `forget`.

        Raises:
            ExpungeError: The request names nothing in the data.
        """
        with locked(self.folder, self.wait):
            return self._add([what])[0]

    def forget(
        self,
        *,
        ids: Sequence[str | int] = (),
        classes: Sequence[str | int] = (),
        group: tuple[str, Sequence[str]] | None = None,
        subject: str = "",
        due: str = "",
        command: str = "",
        on_row: Callable[[Row], None] | None = None,
    ) -> Record:
        """Answer one request: run, audit, receipt, ledger entry, checkpoint and report.

        Args:
            ids: Ids of samples.
            classes: Classes, by name or number.
            group: Column and values of a group, such as ("user", ["alice"]).
            subject: A reference to the person. Do not use the name.
            due: Day by which it must be answered, as 2026-01-31.
            command: The command as it can be typed again.
            on_row: Called with each row of the curves.

        Returns:
            The record of the run.

        Raises:
            ExpungeError: The request names nothing in the data, or the run failed. The folder is then as before, and the
                request waits.
        """
        what = {"ids": ids, "classes": classes, "group": group, "subject": subject, "due": due}
        with locked(self.folder, self.wait):
            (request,) = self._add([what])
            return self._answer([request], command, on_row)

    def forget_pending(
        self, *, command: str = "", on_row: Callable[[Row], None] | None = None
    ) -> list[Record]:
        """Answer all waiting requests: those for classes in one run, all others in one run.

        Returns:
            The records of the runs. Empty if no request waits.
        """
        with locked(self.folder, self.wait):
            self._recover()
            waiting = [r for r in self.state.requests if r.status == "waiting"]
            return [self._answer(part, command, on_row) for part in batches_of(waiting)]

    def plan(self, requests: Sequence[ProjectRequest] | None = None, **what: Any) -> Plan:
        """Return what answering a request would do and cost. No file changes.

        Args:
            requests: Waiting requests. By default the one that `what` describes.
            what: Arguments of `forget`.
        """
        state = self.state
        chosen = list(requests) if requests is not None else [new_request(len(state.requests) + 1, **what)]
        raise_all([] if chosen else ["no request waits; name one."])
        model, _ = self._latest(state)
        split = union_of(chosen, self.source, self.settings.split)
        split = split.after(requests_of(model), rehearse=self.settings.method.rehearse)
        return make_plan(
            model,
            split,
            self.settings.make_method(split.scenario),
            self.settings.make_recipe(),
            Classification(len(self.source.classes)),
            request="; ".join(r.text for r in chosen),
            compute=self.settings.make_compute(),
            folder=self.folder,
        )

    def report(self, path: str | Path | None = None) -> Path:
        """Write the HTML report of all runs. By default `report.html` in the folder."""
        models = [Path(name).stem for name in self.state.models[1:]]
        records = [Record.load(self.folder / "models" / f"{name}.json") for name in models]
        return write_report(path or self.folder / "report.html", records)

    # ---- pieces

    def _add(self, wanted: Sequence[dict[str, Any]]) -> list[ProjectRequest]:
        """Check requests against the data, and enter them in the ledger and the state."""
        self._recover()
        state, source = self.state, self.source
        first = len(state.requests) + 1
        requests = [new_request(first + at, **what) for at, what in enumerate(wanted)]
        problems: list[str] = []
        for request in requests:
            try:
                split_of(request, source, self.settings.split)
            except ExpungeError as error:
                problems += error.problems
        raise_all(problems)
        entered = enter(self.folder, requests, source, self.settings)
        write_state(self.folder, state.with_requests(entered))
        return entered

    def _answer(
        self, requests: list[ProjectRequest], command: str, on_row: Callable[[Row], None] | None
    ) -> Record:
        """Run, audit and write one batch of requests. The folder changes at the end, at once."""
        state = self.state
        model, checkpoint = self._latest(state)
        split = union_of(requests, self.source, self.settings.split)
        name = f"{len(state.models):04d}"
        with new_files(self.folder) as parts:
            answered = answer(
                model,
                checkpoint,
                split,
                requests,
                self.source,
                self.settings,
                parts / name,
                command=command,
                on_row=on_row,
            )
            move_in(parts, self.folder / "models")
        now = {r.number: r for r in answered.requests}
        later = [
            _updated(r, answered.record)
            for r in state.requests
            if r.number not in now and r.status == "answered"
        ]
        write_state(
            self.folder, state.with_requests([*later, *now.values()], f"{name}{checkpoint.path.suffix}")
        )
        self._recover()
        self.report()
        return answered.record

    def _recover(self) -> None:
        """Remove what a killed command left, and give the ledger the results that it lacks."""
        state = self.state
        clean(self.folder, state)
        withdraw_unknown(self.folder, state.requests)
        missing = [r for r in state.requests if r.status == "answered" and not r.attached]
        if missing:
            done = attach_results(self.folder, missing, self.source, self.settings)
            write_state(self.folder, state.with_requests(done))

    def _latest(self, state: State) -> tuple[nn.Module, Checkpoint]:
        """Return the latest model, with the requests it has answered, and its checkpoint."""
        return _load_model(self.settings, self.source, self.folder / "models" / state.models[-1])


def _load_model(settings: Settings, source: Source, path: Path) -> tuple[nn.Module, Checkpoint]:
    """Read a checkpoint and make its model.

    Raises:
        ExpungeError: The file is missing, broken, or of another model.
    """
    if not path.is_file():
        raise ExpungeError(f"{path} is no file; give the checkpoint of the trained model.")
    checkpoint = read_checkpoint(path)
    with torch.random.fork_rng(devices=[]):
        model = build(settings.model.model, num_classes=len(source.classes), shape=tuple(source.shape))
    load_into(model, checkpoint)
    Classification(len(source.classes)).check(
        model, source.train.samples(torch.arange(min(8, len(source.train))))
    )
    remember_requests(model, answered_requests(checkpoint))
    return model.to(settings.model.device), checkpoint


def _updated(request: ProjectRequest, record: Record) -> ProjectRequest:
    """Return an earlier request with its scores in the latest audit."""
    for entry in record.details.get("earlier_requests", ()):
        if entry["request"] == request.request:
            return replace(request, now={k: entry[k] for k in ("UA", "MIA", "came_back")})
    return request
