"""The other models in the file that is audited: each is scored, so that none passes unseen."""

from __future__ import annotations

from ..audit.verdict import within_gap
from ..pipeline.outcome import Outcome, References
from ..pipeline.pipeline import Pipeline
from ..records.checkpoint import Checkpoint
from ..records.record import plain
from ..records.statistics import limit_gap
from ..training.run import Run
from .inputs import ModelFiles
from .terminal import notice


def audit_other_states(
    files: ModelFiles, checkpoint: Checkpoint, pipeline: Pipeline, audited: Outcome, references: References
) -> list[Outcome]:
    """Score every further model in the audited file, and store the scores in the record of the audited one.

    Args:
        files: The files of the command.
        checkpoint: The audited file.
        pipeline: What scores the models.
        audited: The outcome of the model that the command audits.
        references: The original and the retrained model.

    Returns:
        One outcome for each further model. Its record names the entry beside the method.
    """
    others = []
    for entry in checkpoint.other_states:
        run = Run(files.load_state("unlearned", entry), audited.run.split, audited.run.task, audited.run.seed)
        other = pipeline.outcome("unlearn", run, audited.method, label=entry, **references.measured)
        other.record.method = f"{audited.record.method} ({entry})"
        others.append(other)
    if others:
        scores = {e: plain(o.record.scores) for e, o in zip(checkpoint.other_states, others, strict=True)}
        audited.record.details["other_states"] = scores
        accuracies = ", ".join(
            f"`{entry}` {100 - values['UA']:.1f} %"
            for entry, values in scores.items()
            if values.get("UA") is not None
        )
        notice(
            f"{checkpoint.path.name} holds {len(others) + 1} models; of the forget set they recognise: `{checkpoint.nest}` "
            f"{100 - audited.record.scores['UA']:.1f} %, {accuracies}. Hand over a file with one model."
        )
    return others


def worst(outcomes: list[Outcome], max_gap: float) -> Outcome | None:
    """Return the outcome with the largest average gap above `max_gap`; None if all are within it."""
    beyond = [o for o in outcomes if not within_gap(o.record.scores, max_gap)]
    return max(beyond, key=lambda o: limit_gap(o.record.scores), default=None)
