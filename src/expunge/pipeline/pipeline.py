"""The one pipeline: an original, a retrained reference, methods, their scores, a record of each."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import nn

from ..audit.measure import make_measures
from ..data.past_requests import requests_of
from ..errors import ExpungeError
from ..methods._fresh import GoOnFrom, same_for_each_seed
from ..records.hashing import state_hash
from ..records.record import plain
from ..training.execute import execute
from ..training.method import Method
from ..training.registry import MethodLike, make
from ..training.run import Compute, Run
from ..tuning.trials import choose
from .factory import Factory
from .outcome import Outcome, Reference, References
from .scoring import Scorer, check_measured
from .watch import Watch


def _watch_nothing(label: str, method: Method) -> AbstractContextManager[Watch]:
    return nullcontext(Watch())


def _keep_nothing(label: str, outcome: Outcome) -> None:
    pass


@dataclass(frozen=True, kw_only=True)
class Pipeline(Scorer):
    """What the runs of one comparison share, and the sequence in which they are made.

    `split`, `task`, `seed`, `names`, `command`, `scoring`, `measures` and `tolerances` are those of `Scorer`.

    Args:
        factory: Makes a model with fresh parameters, the same at each call: see `seeded_factory`.
        recipe: How the original and the retrained model are trained.
        compute: How the arithmetic is done.
        watch: Returns, for the label and the method of a run, a context that yields how the run is watched.
        keep: Called with label and outcome of each run as soon as it is scored: "original", "retrain", or the label of the
            method.

    Example:
        >>> pipeline = Pipeline(split=split, task=task, factory=factory, recipe=Retrain(epochs=20))  # doctest: +SKIP
        >>> original, retrained, salun = pipeline.run({"salun": SalUn()})  # doctest: +SKIP
        >>> print(salun.audit)  # doctest: +SKIP
    """

    factory: Factory | None = None
    recipe: Method | None = None
    compute: Compute | None = None
    watch: Callable[[str, Method], AbstractContextManager[Watch]] = _watch_nothing
    keep: Callable[[str, Outcome], None] = _keep_nothing

    # ---- the sequence

    def run(
        self,
        methods: Mapping[str, MethodLike],
        *,
        original: Callable[[], Reference] | None = None,
        retrained: Callable[[nn.Module], Reference | None] | None = None,
    ) -> list[Outcome]:
        """Make the original and the reference, run each method on the original, and score and record all of them.

        Args:
            methods: {label: method}.
            original: Returns the original, for example from a file. By default it is trained.
            retrained: Returns the reference for the original's model, or None to go without. By default it is trained.

        Returns:
            The outcomes: original, reference if there is one, then one per method.
        """
        references = self.references(original, retrained)
        model = references.original.model
        outcomes = [self.unlearn(model, method, label, references) for label, method in methods.items()]
        first = [references.original, references.retrained]
        return [outcome for outcome in first if outcome is not None] + outcomes

    def references(
        self,
        original: Callable[[], Reference] | None = None,
        retrained: Callable[[nn.Module], Reference | None] | None = None,
    ) -> References:
        """Make, score and record the original and the reference, each beside the other. Arguments are those of `run`."""
        start = (original or self.train_original)()
        # after earlier requests, no model of the comparison is scored on their samples
        start.run.split = start.run.split.after(requests_of(start.run.model))
        # before its scores: a model that fails on the data is an input error, and training may take long
        self.task.check(start.run.model, start.run.split.retain)
        again = (retrained or self.retrain)(start.run.model)
        make_measures(self.measures, self.task, retrained=again is not None)
        scores = {
            role: None
            if r is None
            else r.outcome.evaluation
            if r.outcome is not None
            else self.measure(r.run)
            for role, r in (("original", start), ("retrain", again))
        }
        return References(
            self._recorded("original", start, own=scores["original"], retrained=scores["retrain"]),
            None
            if again is None
            else self._recorded("retrain", again, own=scores["retrain"], original=scores["original"]),
        )

    def _recorded(self, kind: str, reference: Reference, **measured: Any) -> Outcome:
        """Return the outcome of a reference. A new one is recorded and kept."""
        if reference.outcome is not None:
            return reference.outcome
        outcome = self.outcome(kind, reference.run, reference.method, before=reference.before, **measured)
        self.keep(kind, outcome)
        return outcome

    def train_original(self) -> Reference:
        """Train the original on forget and retain set. Its run has the pipeline's split, on which it is scored."""
        factory, recipe = self._needed()
        model = factory()
        with self.watch("original", recipe) as watch:
            run = self._execute(model, recipe, watch, split=self.split.for_original, factory=GoOnFrom(model))
        run.split = self.split
        return Reference(run, recipe)

    def retrain(self, model: nn.Module) -> Reference:
        """Train the reference on the retain set, from the same fresh parameters as the original `model`."""
        _, recipe = self._needed()
        before = state_hash(model.state_dict())
        with self.watch("retrain", recipe) as watch:
            return Reference(self._execute(model, recipe, watch), recipe, before=before)

    # ---- one run

    def train_alone(self, role: Literal["original", "retrain"]) -> Outcome:
        """Train only an original or only a reference, and score it on the samples it was trained on."""
        if role == "retrain":
            return self._retrain_alone()
        original = self.train_original()
        original.run.split = self.split.for_original
        return self.outcome("original", original.run, original.method)

    def _retrain_alone(self) -> Outcome:
        """Train a reference without an original. There is no trained model to compare its first parameters with."""
        factory, recipe = self._needed()
        model = factory()
        note = same_for_each_seed(factory, model, self.seed) if self.split.answers_request else ""
        if note:
            warnings.warn(note, RuntimeWarning, stacklevel=3)
        with self.watch("retrain", recipe) as watch:
            outcome = replace(self, factory=GoOnFrom(model)).step(model, recipe, watch, kind="retrain")
        if note:
            outcome.record.details["notes"] = [*outcome.record.details.get("notes", ()), note]
        return outcome

    def unlearn(self, model: nn.Module, method: MethodLike, label: str, references: References) -> Outcome:
        """Run one method on the original `model`, score it beside the references, and record it."""
        method = make(method)
        with self.watch(label, method) as watch:
            outcome = self.step(model, method, watch, label=label, **references.measured)
        self.keep(label, outcome)
        return outcome

    def step(
        self,
        model: nn.Module,
        method: Method,
        watch: Watch,
        *,
        kind: str = "unlearn",
        label: str = "",
        original: Any = None,
        retrained: Any = None,
    ) -> Outcome:
        """Choose settings if asked for, run the method on `model`, score and record the result.

        The seconds of the record (RTE) are those of the one run whose model this is, without other trials and without scoring.

        Args:
            model: The model to start from.
            method: The method.
            watch: How the run is watched.
            kind: Kind of the record.
            label: Label of the run.
            original: What was measured of the original, or None.
            retrained: What was measured of the retrained model, or None.
        """
        check_measured(self.split.after(requests_of(model)), original, retrained)
        before = state_hash(model.state_dict())
        trials = watch.trials
        method, run, details = choose(
            model,
            self.split,
            method,
            self.task,
            count=trials.count,
            fixed=trials.fixed,
            may_keep=trials.may_keep,
            on_trial=trials.on_trial,
            trials_file=trials.file,
            **self._options(watch),
        )
        run = run or self._execute(model, method, watch)
        outcome = self.outcome(
            kind, run, method, before=before, label=label, original=original, retrained=retrained
        )
        kept = outcome.record.details
        if notes := dict.fromkeys([*details.pop("notes", ()), *kept.get("notes", ())]):
            kept["notes"] = list(notes)
        kept |= plain(details)
        return outcome

    # ---- pieces

    def _needed(self) -> tuple[Factory, Method]:
        if self.factory is None or self.recipe is None:
            raise ExpungeError(
                "training an original or a reference needs `factory` and `recipe`; give both: `recipe` is a Retrain, and `factory` a "
                "function without arguments that returns the model with fresh parameters."
            )
        return self.factory, self.recipe

    def _options(self, watch: Watch) -> dict[str, Any]:
        return {
            "mask": watch.mask,
            "seed": self.seed,
            "compute": self.compute,
            "factory": self.factory,
            "state_file": watch.state_file,
            "on_row": watch.on_row,
        }

    def _execute(self, model: nn.Module, method: Method, watch: Watch, **changes: Any) -> Run:
        options = {**self._options(watch), **changes}
        return execute(model, options.pop("split", self.split), method, self.task, **options)
