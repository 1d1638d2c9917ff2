"""The work of `expunge audit`: audit a model, and end a pipeline where it does not pass."""

from __future__ import annotations

import sys

from ..audit.strong import strong_audit, with_strong
from ..audit.strong_settings import StrongSettings
from ..audit.tolerances import Tolerances
from ..audit.verdict import Verdict, verdict
from ..errors import raise_all
from ..methods.retrain import Retrain
from ..pipeline.factory import Factory
from ..pipeline.outcome import Outcome, References
from ..pipeline.pipeline import Pipeline
from ..receipts.limits import visible_lines
from ..records.record import plain
from ..records.statistics import limit_gap
from ..tasks.classification import Classification
from ..torch_utils.module_state import check_seed
from ..training.registry import method_from_metadata
from ..training.run import Run
from ..training.tracked import run_settings
from .audit_flags import AuditFlags
from .audit_states import audit_other_states, worst
from .checks import check_measures, problems_of
from .flags import ModelFlags, SplitFlags
from .inputs import ModelFiles, after_earlier_requests, draw_split, reference_of
from .invocation import command_line
from .output_checks import output_problems
from .terminal import came_back, notice, print_progress, show_outcomes
from .track_flags import TrackFlags


def run(
    flags: AuditFlags, model: ModelFlags, split: SplitFlags, strong: StrongSettings, track: TrackFlags
) -> int:
    """Audit a model, print the scores and the verdict, and write record and report.

    Args:
        flags: The models and the results.
        model: The model and its data.
        split: What was to be forgotten.
        strong: What the strong audit runs, if the level is "strong".
        track: Trackers that get the scores.

    Returns:
        The exit code: 1 if the model does not pass, or if the audit draws no conclusion.

    Raises:
        ExpungeError: Flags, files or models do not fit. Lists every problem that is known before the data is read.
    """
    files = ModelFiles(
        {"original": flags.original, "unlearned": flags.checkpoint, "retrained": flags.retrained},
        model.build,
        model.device,
        history=flags.history,
        ema=flags.ema,
    )
    problems = _problems(flags, model, split, strong) + track.problems()
    raise_all(problems + model.problems() + files.problems(model.preview()))
    source = model.source()
    drawn, task = draw_split(split, source), Classification(len(source.classes))
    unlearned, checkpoint = files.load("unlearned", source, drawn)
    drawn = after_earlier_requests(drawn, unlearned)
    original = files.load("original", source, drawn)
    retrained = files.load_if_given("retrained", source, drawn)
    pipeline = Pipeline(
        split=drawn,
        task=task,
        seed=flags.seed,
        names=model.names(source),
        command=command_line(),
        measures=flags.measure,
        tolerances=flags.tolerances,
    )
    references = pipeline.references(
        lambda: reference_of(original, drawn, task, flags.seed),
        lambda _: None if retrained is None else reference_of(retrained, drawn, task, flags.seed),
    )
    outcome = pipeline.outcome(
        "unlearn",
        Run(unlearned, drawn, task, flags.seed),
        method_from_metadata(checkpoint),
        **references.measured,
    )
    others = audit_other_states(files, checkpoint, pipeline, outcome, references)
    settings = strong if flags.level == "strong" else None
    with track.run("audit", run_settings(None, drawn, flags.seed, pipeline.names)) as tracking:
        conclusion = _verdict(outcome, references, settings, model.factory(source), flags.tolerances)
        if conclusion is not None:
            outcome.record.details["verdict"] = plain(conclusion.to_dict())
        if flags.show_forgotten:
            outcome.record = outcome.shown_record
        if flags.out is not None:
            outcome.record.save(flags.out)
        tracking.take("finished", scores=outcome.record.scores)
        tracking.wrote(record=flags.out, report=flags.report)
    show_outcomes([references.original, references.retrained, *others, outcome], flags.report)
    print(visible_lines(str(conclusion)))
    return max(_exit_code([outcome, *others], flags.max_gap), came_back(outcome.record))


def _problems(flags: AuditFlags, model: ModelFlags, split: SplitFlags, strong: StrongSettings) -> list[str]:
    """Return the problems that are known before the data is read."""
    outputs = {"--out": flags.out, "--report": flags.report}
    return [
        *flags.problems(),
        *output_problems(
            outputs,
            flags.checkpoint,
            flags.original,
            flags.retrained,
            flags.history,
            split.forget_ids,
            split.unseen_ids,
        ),
        *split.problems(),
        *problems_of(
            lambda: check_seed(flags.seed),
            lambda: check_seed(split.split_seed),
            lambda: check_measures(flags.measure, flags.retrained),
            strong.check if flags.level == "strong" else lambda: None,
        ),
    ]


def _verdict(
    outcome: Outcome,
    references: References,
    strong: StrongSettings | None,
    factory: Factory,
    tolerances: Tolerances,
) -> Verdict | None:
    """Return the verdict; with `strong` settings, after the strong audit, whose results go into the record."""
    retrained = references.retrained
    retrained_scores = [] if retrained is None else [retrained.record.scores]
    if strong is None:
        return verdict(
            outcome.record.scores,
            retrained_scores,
            sizes=outcome.run.split.sizes,
            goal=outcome.run.split.goal,
            features=outcome.record.details.get("features"),
            original=references.original.record.scores,
            grounds=outcome.audit.grounds if outcome.audit is not None else None,
        )
    recipe = references.original.method
    outcomes = {"original": references.original, "unlearned": outcome, "retrained": retrained}
    result = strong_audit(
        outcome.model,
        outcome.run.split,
        outcome.run.task,  # type: ignore[arg-type]
        original=references.original.model,
        retrained=retrained.model if retrained is not None else None,
        method=outcome.method,
        recipe=recipe if isinstance(recipe, Retrain) else None,
        settings=strong,
        evaluations={
            role: o.evaluation for role, o in outcomes.items() if o is not None and o.evaluation is not None
        },
        retrained_scores=retrained_scores,
        factory=factory,
        on_step=print_progress,
        tolerances=tolerances,
    )
    outcome.record.details = plain(with_strong(outcome.record.details, result))
    for text in result.limits:
        notice(text)
    return result.verdict


def _exit_code(outcomes: list[Outcome], max_gap: float | None) -> int:
    refused = False
    for outcome in outcomes:
        if outcome.audit is not None and (reasons := outcome.audit.grounds.refusals):
            # the verdict gives the reasons in full
            which = f" on {outcome.record.method}" if len(outcomes) > 1 else ""
            reason = reasons[0].partition(". ")[0].rstrip(".")
            print(visible_lines(f"no conclusion{which}: {reason}."), file=sys.stderr)
            refused = True
    with_gap = [o for o in outcomes if not refused or "gap" in o.record.scores]
    if max_gap is None or not with_gap or (outcome := worst(with_gap, max_gap)) is None:  # type: ignore[assignment]
        return int(refused)
    gap = limit_gap(outcome.record.scores)
    print(f"avg. gap {gap:.2f} is above --max-gap {max_gap:g}", file=sys.stderr)
    return 1
