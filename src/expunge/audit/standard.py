"""Run the standard audit: a model's scores beside Retrain's, and the figures that the report draws."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from torch import nn

from ..data.past_requests import requests_of
from ..data.split import Split
from ..errors import ExpungeError, raise_all
from ..records.statistics import contradicted
from ..summaries import waiting_text
from ..tasks.task import Task
from ..torch_utils.prepared import plain_model
from ..tracking.by_name import TrackerLike
from ..training.arguments import argument_problems, wrong_argument
from ..training.run import Compute
from ..training.tracked import run_settings, tracked
from .chance import chance_limits
from .earlier_requests import earlier_entries, not_scored
from .evaluation import BINS, Evaluation, evaluate, gaps
from .examples import embeddings, examples
from .feature_gap import feature_figures, feature_gap
from .grounds import find_grounds
from .measure import Measure, MeasureLike, compute_measures, make_measures
from .result import AuditResult
from .tolerances import Tolerances


def audit(
    model: nn.Module,
    split: Split,
    task: Task,
    *,
    original: nn.Module | Evaluation | None = None,
    retrained: nn.Module | Evaluation | None = None,
    seed: int = 0,
    compute: Compute | None = None,
    measures: Iterable[MeasureLike] = (),
    tolerances: Tolerances | None = None,
    tracker: TrackerLike = None,
) -> AuditResult:
    """Audit how well a model unlearned the forget set of a split.

    Args:
        model: The unlearned model. It is not changed.
        split: The split with the forget set.
        task: The task of the models.
        original: The model before unlearning, or its evaluation on this split.
        retrained: A model that was trained without the forget set, or its evaluation on this split. Without it, the
            audit gives no gap.
        seed: Seed of the choice of members and non-members for MIA.
        compute: Precision. The default is full precision. Lower precision adds its rounding to the scores.
        measures: Extra measures: names such as "ToW", `package.module:Class`, classes or instances of `Measure`. Their values
            are added to the scores and leave the gap as it is.
        tolerances: How far the retrained model may differ from the original, and the forget set from unseen samples. A
            reference that is not comparable gives no gap.
        tracker: Gets the scores: "tensorboard:DIR", "mlflow:URI", "wandb:PROJECT", a `Tracker`, or several of them.

    Returns:
        Scores, figures for the report, and limits.

    Raises:
        ModelError: With every reason why a model does not fit the split, or a measure does not fit the task.
        ExpungeError: If an evaluation belongs to another split, or a measure is unknown or needs a retrained model.

    Example:
        >>> print(audit(model, split, task, original=original, retrained=retrained))
        UA 5.20, RA 99.50, TA 94.10, MIA 13.50, MIA_entropy 12.80; avg. gap to Retrain 0.45
    """

    def evaluation_of(which: nn.Module | Evaluation | None) -> Evaluation | None:
        if which is None or isinstance(which, Evaluation):
            check_references(split, which)
            return which
        plain = plain_model(which)
        task.check(plain, split.retain)
        return evaluate(plain, split, task, seed=seed, compute=compute)

    model = plain_model(model)
    problems = argument_problems(model=model, split=split, task=task, seed=seed, compute=compute)
    for name, value in (("original", original), ("retrained", retrained)):
        problems += wrong_argument(
            name, value, (nn.Module, Evaluation), "a model, or its evaluation on this split"
        )
    problems += wrong_argument(
        "tolerances", tolerances, Tolerances, "a Tolerances, for example Tolerances(forget=5.0)"
    )
    raise_all(problems, ExpungeError)
    split, seed = split.after(requests_of(model)), int(seed)
    extra = make_measures(measures, task, retrained=retrained is not None)
    with tracked(tracker, "audit", run_settings(None, split, seed)) as tracking:
        evaluation = evaluation_of(model)
        assert evaluation is not None
        result = summarize(
            evaluation,
            original=evaluation_of(original),
            retrained=evaluation_of(retrained),
            measures=extra,
            task=task,
            tolerances=tolerances,
        )
        tracking.take("finished", scores=result.scores)
    return result


def summarize(
    evaluation: Evaluation,
    *,
    original: Evaluation | None = None,
    retrained: Evaluation | None = None,
    measures: Sequence[Measure] = (),
    task: Task | None = None,
    tolerances: Tolerances | None = None,
) -> AuditResult:
    """Make the standard audit from evaluations. `audit` evaluates the models for you.

    Args:
        evaluation: The evaluation of the unlearned model.
        original: The evaluation of the original. It may be `evaluation`, for the audit of the original itself.
        retrained: The evaluation of the retrained model.
        measures: Extra measures, as `make_measures` returns them.
        task: The task of the models. It is needed for extra measures.
        tolerances: How far the retrained model may differ from the original, and the forget set from unseen samples.

    Returns:
        Scores, figures for the report, and limits.
    """
    split, scores = evaluation.split, dict(evaluation.scores)
    # the figures of the original itself would be those of the audited model once more
    before = None if original is evaluation else original
    models = {"original": before, "unlearned": evaluation, "retrained": retrained}
    given = {name: e for name, e in models.items() if e is not None}
    grounds = find_grounds(evaluation, original, retrained, tolerances)
    if retrained is not None and not grounds.reference:
        scores["gap"] = gaps(scores, retrained.scores)
    features = {name: feature_figures(e, original) for name, e in given.items()}
    distance = feature_gap(features["unlearned"], features.get("retrained", {}))
    if "gap" in scores and distance is not None:
        scores["gap"]["features"] = distance
    details: dict[str, Any] = {
        "histograms": {
            "bins": np.linspace(0, 1, BINS + 1).round(4).tolist(),
            **{name: e.histogram() for name, e in given.items()},
        },
    }
    if evaluation.has_logits:
        details |= _classifier_details(given, split)
    if features["unlearned"]:
        details["features"] = {
            figure: {name: row[figure] for name, row in features.items() if figure in row}
            for figure in features["unlearned"]
        }
    if entry := grounds.to_dict():
        details["grounds"] = entry
    limits = [*entry.values(), *_limits(split, given, scores)]
    if earlier := earlier_entries(evaluation, retrained):
        details["earlier_requests"] = earlier
        limits += [f"An earlier request came back: {e['reason']}" for e in earlier if e["came_back"]]
        limits += not_scored(earlier)
    if measures:
        assert task is not None
        values, problems = compute_measures(measures, evaluation, original, retrained, task)
        scores |= values
        details["measures"] = {name: entry for m in measures for name, entry in m.described().items()}
        limits += problems
    shown = examples(given) if evaluation.has_logits else []
    return AuditResult(scores, details, limits, shown)


def _classifier_details(given: dict[str, Evaluation], split: Split) -> dict[str, Any]:
    """The figures that only classifiers have: per class, predictions on forget samples, and the embedding."""
    details: dict[str, Any] = {
        "per_class": {name: e.per_class for name, e in given.items()},
        "redistribution": {name: e.redistribution for name, e in given.items()},
    }
    if given["unlearned"].forget.features is not None:
        details["embedding"] = embeddings(given)
    if "original" in given:
        details["worst_class"] = worst_class(
            given["original"].per_class, given["unlearned"].per_class, split.forget_classes
        )
    return details


def _limits(split: Split, given: dict[str, Evaluation], scores: dict[str, Any]) -> list[str]:
    """Return a sentence for everything that these evaluations cannot tell."""
    limits = chance_limits(given)
    if "retrained" not in given:
        limits.append(
            "No retrained model was given. The audit cannot tell how close the model is to one that never saw the forget "
            "set. No score is good or bad by itself."
        )
    if "original" not in given:
        limits.append("No original model was given. The audit cannot tell how much accuracy unlearning cost.")
    if split.waiting:
        left = waiting_text(split.waiting)
        limits.append(f"Left out of retain and validation set, because they wait: {left}.")
    if not len(split.test_forgotten) and split.forget_classes:
        limits.append(
            "The test set has no samples of the forgotten class. The audit cannot tell whether the model recognises unseen "
            "samples of it."
        )
    names = {"unlearned": "", "original": " of the original", "retrained": " of the retrained model"}
    for name, evaluation in given.items():
        if contradicted(evaluation.scores):
            mia, entropy = evaluation.scores["MIA"], evaluation.scores["MIA_entropy"]
            limits.append(
                f"MIA ({mia:.0f}) and MIA_entropy ({entropy:.0f}){names[name]} contradict each other. The forget samples' "
                "confidences lie outside the range that the MIA classifier was fitted on, so this MIA is unreliable."
            )
    if "reliable" in scores.get("gap", {}):
        gap = scores["gap"]["reliable"]
        limits.append(f"Limits of the average gap leave out MIA, which is unreliable: {gap:.1f} points.")
    return limits


def check_references(split: Split, *evaluations: Evaluation | None) -> None:
    """Raise `ExpungeError` if an evaluation belongs to another split, because a gap to it would mean nothing."""
    if any(e is not None and e.split.hash != split.hash for e in evaluations):
        raise ExpungeError(
            "a reference model was evaluated on another split; evaluate it on the split of this audit."
        )


def worst_class(
    before: Sequence[float | None], after: Sequence[float | None], forgotten: Sequence[int]
) -> dict[str, Any] | None:
    """Return the retained class whose figure fell most.

    Args:
        before: Figure of each class before unlearning. None for a class without one.
        after: Figure of each class after unlearning.
        forgotten: The forgotten classes. They are skipped.

    Returns:
        {"class": number, "drop": points}, or None if no class has both figures.
    """
    drops = {
        k: b - a
        for k, (b, a) in enumerate(zip(before, after, strict=True))
        if a is not None and b is not None and k not in forgotten
    }
    if not drops:
        return None
    worst = max(drops, key=lambda k: drops[k])
    return {"class": worst, "drop": drops[worst]}
