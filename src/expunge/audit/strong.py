"""The strong audit: attacks with shadow populations, attacks on one model, and features, each beside
Retrain's.

`strong_audit` runs what is asked for and gives the dictionaries that a record keeps under `attacks`,
`features` and `verdict`. What each figure is, where it comes from and what it can say: `docs/audit.md`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from torch import nn

from ..data.split import Split
from ..errors import ExpungeError, raise_all
from ..methods.retrain import Retrain
from ..tasks.classification import Classification
from ..torch_utils.module_state import check_seed
from ..training.method import Method
from .accuracy import Judged, Scores, judge
from .confusion import interclass_confusion
from .features import feature_audit
from .population import Shadows
from .probing import label_only, relearning_delay
from .shadow_attacks import population_attacks
from .verdict import Verdict, verdict

Attack = Literal["lira", "rmia", "challenge", "klom", "label-only", "relearning", "confusion", "features"]
ATTACKS: tuple[Attack, ...] = get_args(Attack)
OF_POPULATIONS = {"lira", "rmia", "challenge", "klom"}


@dataclass(frozen=True, kw_only=True)
class StrongSettings:
    """What a strong audit runs, and with how much effort."""

    attacks: tuple[Attack, ...] = ATTACKS  # what to run
    shadows: int = 32  # shadow originals, and as many retrained models
    share: float = (
        1.0  # of the samples that stay which each shadow sees; forget samples are in every original
    )
    folder: Path | None = None  # where shadows are kept; a run that was cut off goes on from there
    relearn_steps: int = 200  # at which relearning gives up
    seed: int = 0  # of everything random in it

    def check(self) -> None:
        """Raise `ExpungeError` with every problem."""
        check_seed(self.seed)
        found = [
            f"there is no attack '{a}'; known: {', '.join(ATTACKS)}."
            for a in self.attacks
            if a not in ATTACKS
        ]
        if self.shadows < 4:
            found.append(
                f"shadows is {self.shadows}; populations are compared in halves of at least two: give 4 or more."
            )
        if not 0 < self.share <= 1:
            found.append(f"share is {self.share:g}; it is above 0 and at most 1.")
        if self.relearn_steps < 1:
            found.append(f"relearn_steps is {self.relearn_steps}; it must be at least 1.")
        raise_all(found)


@dataclass(frozen=True)
class StrongResult:
    """`attacks` and `features` as a record keeps them, the `verdict`, and `limits`: what was left out, and
    why.
    """

    attacks: dict[str, dict[str, Any]] = field(default_factory=dict)
    features: dict[str, dict[str, Any]] = field(default_factory=dict)
    verdict: Verdict | None = None
    limits: list[str] = field(default_factory=list)

    def details(self) -> dict[str, Any]:
        """The entries for `Record.details`."""
        found: dict[str, Any] = {"attacks": self.attacks, "features": self.features}
        return {**found, "verdict": self.verdict.to_dict()} if self.verdict is not None else found


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
    judged: Mapping[str, Judged] | None = None,
    retrained_scores: Sequence[Scores] = (),
    factory: Callable[[], nn.Module] | None = None,
    on_step: Callable[[str, int, int], None] | None = None,
) -> StrongResult:
    """Audit an unlearned `model` with everything that its arguments allow.

    Populations and interclass confusion need `method` (that made the model) and `recipe` (that trained the
    original); relearning needs `original` and `retrained`. What is missing is named in `limits`. `judged`,
    what the standard audit saw of "unlearned", "original" and "retrained", spares their passes; `retrained_scores` are those of
    one or more seeds. No model handed in is changed. Raises `ExpungeError` with all problems.

    `factory` makes a model with fresh weights from torch's global random state, which is seeded anew for each
    shadow: a factory with a seed of its own would start all shadows alike.
    """
    how = settings or StrongSettings()
    how.check()
    task.check(model, split.retain)
    wanted, limits = _possible(how, model, split, task, original, retrained, method, recipe)
    named = {"original": original, "unlearned": model, "retrained": retrained}
    models = {k: m for k, m in named.items() if m is not None}
    attacks: dict[str, dict[str, Any]] = {}
    if wanted & OF_POPULATIONS:
        assert method is not None and recipe is not None
        shadows = Shadows(
            original or model,
            split,
            task,
            recipe,
            how.shadows,
            how.seed,
            how.share,
            how.folder,
            factory,
            on_step=on_step,
        )
        attacks.update(population_attacks(shadows, method, wanted, model, how.seed))
    if "label-only" in wanted:
        try:
            attacks["label-only"] = {n: label_only(m, split, task, seed=how.seed) for n, m in models.items()}
        except ExpungeError as error:
            limits += error.problems
    if "relearning" in wanted:
        assert original is not None and retrained is not None
        attacks["relearning delay"] = _shown(
            relearning_delay(model, retrained, original, split, task, most=how.relearn_steps, seed=how.seed)
        )
    if "confusion" in wanted:
        assert method is not None and recipe is not None
        maker = Shadows(original or model, split, task, recipe, factory=factory)
        try:
            attacks["interclass confusion"] = interclass_confusion(
                original or model, split, task, method, recipe, seed=how.seed, fresh=maker.fresh
            )
        except ExpungeError as error:
            limits += [f"Interclass confusion was left out: {p}" for p in error.problems]
    seen = dict(judged or {})
    for name in ("unlearned",) if retrained_scores else ("unlearned", "retrained"):
        if name in models and name not in seen:
            seen[name] = judge(models[name], split, task, seed=how.seed)
    features = feature_audit(models, split, task, seed=how.seed, judged=seen) if "features" in wanted else {}
    theirs = list(retrained_scores) or ([seen["retrained"].scores] if retrained is not None else [])
    said = verdict(
        seen["unlearned"].scores,
        theirs,
        sizes=split.sizes,
        goal=split.goal,
        attacks=attacks,
        features=features,
    )
    return StrongResult(attacks, features, said, limits)


def _possible(
    how: StrongSettings,
    model: nn.Module,
    split: Split,
    task: Classification,
    original: Any,
    retrained: Any,
    method: Any,
    recipe: Any,
) -> tuple[set[str], list[str]]:
    """What can be run with what was given, and a sentence for what cannot."""
    wanted: set[str] = set(how.attacks)
    limits: list[str] = []
    lost = wanted & (OF_POPULATIONS | {"confusion"})
    if lost and (method is None or recipe is None):
        named, several = ", ".join(a for a in ATTACKS if a in lost), len(lost) > 1
        limits.append(
            f"{named} {'were' if several else 'was'} left out, since {'they repeat' if several else 'it repeats'} the whole "
            "procedure: the method that unlearned, or the recipe that trained the original, is not known. The command line reads "
            "both from the heads of checkpoints that Expunge wrote; in Python give `method` and `recipe`."
        )
        wanted -= lost
    if "relearning" in wanted and (original is None or retrained is None):
        limits.append(
            "relearning was left out: its goal comes from the original and its measure from the retrained model; give both."
        )
        wanted.discard("relearning")
    if "features" in wanted and not task.has_head(model, split.retain):
        limits.append("features were left out: the model has no linear head that takes one vector a sample.")
        wanted.discard("features")
    return wanted, limits


def _shown(delay: dict[str, Any]) -> dict[str, Any]:
    """Without the curves, which a table cannot show."""
    return {"goal": delay["goal"], **{k: delay[k] for k in ("sgd", "adam")}}


def with_strong(details: dict[str, Any], found: StrongResult) -> dict[str, Any]:
    """A record's details with the strong audit's entries, and its limits behind those there are."""
    return {**details, **found.details(), "limits": [*details.get("limits", []), *found.limits]}
