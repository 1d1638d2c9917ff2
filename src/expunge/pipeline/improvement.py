"""Say where a run ended further from its target than the original, so that nobody takes it for a success."""

from __future__ import annotations

from typing import Any

from ..audit.evaluation import Evaluation, gaps
from ..tasks.task import Task
from ..tuning.caution import CautiousEstimate
from ..tuning.estimate import predict_sets


def worse_text(own: Any, original: Any, retrained: Any, task: Task) -> str:
    """Return that a model is further from the target than the original, as a sentence. Empty if it is not, or unknown.

    The target is the retrained model. Without one, it is estimated from validation samples, and a difference within the
    sampling error counts as none.

    Args:
        own: Evaluation of the model.
        original: Evaluation of the original, or None.
        retrained: Evaluation of the retrained model, or None. It must be comparable with the original.
        task: The task of the models.
    """
    if not isinstance(own, Evaluation) or not isinstance(original, Evaluation) or own.model is original.model:
        return ""
    if isinstance(retrained, Evaluation):
        gap, before = (gaps(e.scores, retrained.scores)["avg"] for e in (own, original))
        return _sentence("average gap to Retrain", gap, before) if gap > before else ""
    split = own.split
    if own.model is None or original.model is None or not len(split.unseen):
        return ""
    was = predict_sets(original.model, split, task, original)
    estimate = CautiousEstimate.of(was, split)
    gap, before = estimate.gap(predict_sets(own.model, split, task, own)), estimate.gap(was)
    return _sentence("estimated gap", gap, before) if gap > before + estimate.doubt(len(split.forget)) else ""


def _sentence(name: str, gap: float, before: float) -> str:
    return (
        f"the {name} is {gap:.2f} points, the original's {before:.2f}. The run did harm. Choose other settings, another method, "
        "or trials='auto' (--trials auto)."
    )
