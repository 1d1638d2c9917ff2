"""Run the strong audit: attacks with shadow models, attacks on one model, and features, each beside Retrain's.

docs/audit.md explains every figure, its source and what it can tell.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from ..data.split import Split
from ..errors import ExpungeError
from ..methods.retrain import Retrain
from ..tasks.classification import Classification
from ..tasks.task import require
from ..torch_utils.gradients import with_gradients
from ..torch_utils.prepared import plain_model
from ..training.method import Method
from .evaluation import Evaluation, evaluate
from .features import feature_audit
from .grounds import find_grounds
from .interclass_confusion import interclass_confusion
from .label_only import label_only
from .relearning import relearning_delay
from .result import Scores
from .shadow_attacks import population_attacks
from .shadows import Shadows
from .strong_settings import ATTACKS, WITH_SHADOWS, StrongSettings
from .tolerances import Tolerances
from .verdict import Verdict, verdict


@dataclass(frozen=True)
class StrongResult:
    """Hold the result of a strong audit.

    Args:
        attacks: {attack: {figure: value}}, as a record keeps it.
        features: {measure: {model: figure}}, as a record keeps it.
        verdict: The verdict.
        limits: Sentences on attacks that were left out, with the reason.
    """

    attacks: dict[str, dict[str, Any]] = field(default_factory=dict)
    features: dict[str, dict[str, Any]] = field(default_factory=dict)
    verdict: Verdict | None = None
    limits: list[str] = field(default_factory=list)

    def details(self) -> dict[str, Any]:
        """Return the entries for `Record.details`."""
        entries: dict[str, Any] = {"attacks": self.attacks, "features": self.features}
        return {**entries, "verdict": self.verdict.to_dict()} if self.verdict is not None else entries


@with_gradients
def strong_audit(
    model: nn.Module,
    split: Split,
    task: Classification,
    *,
    original: nn.Module | None = None,
    retrained: nn.Module | None = None,
    method: Method | None = None,
    recipe: Retrain | None = None,
    settings: StrongSettings | None = None,
    evaluations: Mapping[str, Evaluation] | None = None,
    retrained_scores: Sequence[Scores] = (),
    factory: Callable[[], nn.Module] | None = None,
    on_step: Callable[[str, int, int], None] | None = None,
    tolerances: Tolerances | None = None,
) -> StrongResult:
    """Audit an unlearned model with all attacks that the arguments allow.

    Attacks whose inputs you do not pass are skipped and listed in `limits`. No model is changed.

    Args:
        model: The unlearned model.
        split: The split with the forget set.
        task: The task of the models.
        original: The model before unlearning. Relearning needs it.
        retrained: A model that was trained without the forget set. Relearning and the verdict need it.
        method: The method that made the model, with its settings. Shadow models and interclass confusion need it.
        recipe: The recipe that trained the original. Shadow models and interclass confusion need it.
        settings: What to run. The default runs everything.
        evaluations: Evaluations of "unlearned", "original" and "retrained" from the standard audit. They save passes.
        retrained_scores: Scores of retrained models with different seeds. The default evaluates `retrained`.
        factory: Makes a model with fresh parameters from torch's global random state. The state is seeded for each
            shadow, so a factory that sets its own seed would start all shadows alike.
        on_step: Is called with (population, models done, count) while shadow models are made.
        tolerances: How far the retrained model may differ from the original, and the forget set from unseen samples.

    Returns:
        Attacks, features, verdict and limits.

    Raises:
        ExpungeError: With every problem of the settings, or of the model.

    Example:
        >>> result = strong_audit(model, split, task, original=original, retrained=retrained)
        >>> print(result.verdict)
    """
    settings = settings or StrongSettings()
    settings.check()
    require(task, ["logits", "classes", "scores"], "the strong audit")
    model, original, retrained = map(plain_model, (model, original, retrained))
    task.check(model, split.retain)
    inputs = _Inputs(model, split, task, original, retrained, method, recipe, settings, factory, on_step)
    wanted, limits = inputs.possible()
    attacks, attack_limits = inputs.attacks(wanted)
    models = inputs.models
    known = dict(evaluations or {})
    for name in models:
        if name not in known:
            known[name] = evaluate(models[name], split, task, seed=settings.seed)
    features = {}
    if "features" in wanted:
        features = feature_audit(models, split, task, seed=settings.seed, evaluations=known)
    references = list(retrained_scores) or ([known["retrained"].scores] if retrained is not None else [])
    words = verdict(
        known["unlearned"].scores,
        references,
        sizes=split.sizes,
        goal=split.goal,
        attacks=attacks,
        features=features,
        original=known["original"].scores if original is not None else None,
        grounds=find_grounds(known["unlearned"], known.get("original"), known.get("retrained"), tolerances),
    )
    return StrongResult(attacks, features, words, limits + attack_limits)


@dataclass(frozen=True, eq=False)
class _Inputs:
    """Hold the arguments of `strong_audit`, and run the attacks that they allow."""

    model: nn.Module
    split: Split
    task: Classification
    original: nn.Module | None
    retrained: nn.Module | None
    method: Method | None
    recipe: Retrain | None
    settings: StrongSettings
    factory: Callable[[], nn.Module] | None
    on_step: Callable[[str, int, int], None] | None

    @property
    def models(self) -> dict[str, nn.Module]:
        """The models that were given, by name."""
        named = {"original": self.original, "unlearned": self.model, "retrained": self.retrained}
        return {name: m for name, m in named.items() if m is not None}

    def possible(self) -> tuple[set[str], list[str]]:
        """Return the attacks that can run, and a sentence for each that cannot."""
        wanted: set[str] = set(self.settings.attacks)
        limits: list[str] = []
        repeating = wanted & (WITH_SHADOWS | {"confusion"})
        if repeating and (self.method is None or self.recipe is None):
            names = ", ".join(a for a in ATTACKS if a in repeating)
            limits.append(
                f"Left out: {names}. These attacks repeat training and unlearning, so they need the method and the "
                "training recipe. The command line reads both from the metadata of checkpoints that Expunge wrote. In "
                "Python, give `method` and `recipe`."
            )
            wanted -= repeating
        if "relearning" in wanted and (self.original is None or self.retrained is None):
            limits.append(
                "Left out: relearning. Its goal comes from the original, and its figure needs the retrained model. Give "
                "both."
            )
            wanted.discard("relearning")
        if "features" in wanted and not self.task.has_head(self.model, self.split.retain):
            limits.append(
                "Left out: features. The model has no linear head that takes one vector per sample."
            )
            wanted.discard("features")
        return wanted, limits

    def attacks(self, wanted: set[str]) -> tuple[dict[str, dict[str, Any]], list[str]]:
        """Run the wanted attacks. Return them, and a sentence for each that was refused."""
        split, task, seed = self.split, self.task, self.settings.seed
        attacks: dict[str, dict[str, Any]] = {}
        limits: list[str] = []
        if wanted & WITH_SHADOWS:
            assert self.method is not None
            of_populations, limits = population_attacks(self.shadows(), self.method, wanted, self.model, seed)
            attacks |= of_populations
        if "label-only" in wanted:
            try:
                attacks["label-only"] = {
                    name: label_only(m, split, task, seed=seed) for name, m in self.models.items()
                }
            except ExpungeError as error:
                limits += error.problems
        if "relearning" in wanted:
            assert self.original is not None and self.retrained is not None
            steps = self.settings.relearn_steps
            attacks["relearning delay"] = relearning_delay(
                self.model, self.retrained, self.original, split, task, most=steps, seed=seed
            )
        if "confusion" in wanted:
            assert self.method is not None and self.recipe is not None
            model, fresh = self.original or self.model, self.shadows().fresh
            try:
                attacks["interclass confusion"] = interclass_confusion(
                    model, split, task, self.method, self.recipe, seed=seed, fresh=fresh
                )
            except ExpungeError as error:
                limits += [f"Interclass confusion was left out: {p}" for p in error.problems]
        return attacks, limits

    def shadows(self) -> Shadows:
        assert self.recipe is not None
        return Shadows(
            self.original or self.model,
            self.split,
            self.task,
            self.recipe,
            self.settings.shadows,
            self.settings.seed,
            self.settings.share,
            self.settings.folder,
            self.factory,
            on_step=self.on_step,
        )


def with_strong(details: dict[str, Any], result: StrongResult) -> dict[str, Any]:
    """Add the entries of a strong audit to the details of a record.

    Args:
        details: The details of a record. They are not changed.
        result: The strong audit.

    Returns:
        The details with attacks, features and verdict. The new limits follow the ones that are there.
    """
    # the standard audit has some features already
    features = {**(details.get("features") or {}), **result.features}
    limits = [*details.get("limits", []), *result.limits]
    return {**details, **result.details(), "features": features, "limits": limits}
