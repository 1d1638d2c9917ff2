"""`expunge audit`: audit a model, and end a pipeline where it does not pass."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter

from ..audit.grounds import Tolerances
from ..audit.strong import StrongSettings, strong_audit, with_strong
from ..audit.verdict import Verdict, verdict
from ..errors import raise_all
from ..methods.retrain import Retrain
from ..pipeline.factory import Factory
from ..pipeline.outcome import Outcome, References
from ..pipeline.pipeline import Pipeline
from ..records.record import plain
from ..tasks.classification import Classification
from ..training.registry import method_from_metadata
from ..training.run import Run
from .audit_states import audit_other_states, worst
from .checks import check_measures, output_problems, problems_of
from .flags import MODEL, SPLIT, ModelFlags, SplitFlags
from .inputs import ModelFiles, after_earlier_requests, draw_split, reference_of
from .invocation import command_line
from .settings_flags import FLAT, with_help
from .terminal import came_back, notice, show_outcomes

StrongFlags: Any = with_help(StrongSettings)


@with_help
@dataclass(frozen=True, kw_only=True)
class AuditFlags:
    """The models of an audit and its results.

    Args:
        checkpoint: The unlearned model. If the file holds further models of its shape, each is scored too.
        ema: Entry that holds the model, in a .pt file with several: state_dict_ema, or a path with dots. It is looked for in the
            files of --checkpoint and --original.
        original: The original model.
        retrained: A model retrained without the forget set. Without it there are no gaps.
        level: The strong audit adds attacks with shadow populations, relearning and features. It takes minutes to hours;
            the standard audit takes seconds.
        seed: Seed of the samples that the membership attack is fitted on.
        max_gap: Largest average gap to Retrain that passes, in percentage points. Needs --retrained.
        reference_tolerance: Largest difference of RA, and of TA, between --retrained and --original, in percentage points.
            Beyond it the retrained model is not comparable, and the audit draws no conclusion.
        out: Record to write (JSON).
        report: HTML report to write.
        measure: Extra measures: names such as ToW, or package.module:Class. Can be repeated.
        history: File with the requests that the checkpoint's model has answered. By default the file beside the checkpoint.
            Their samples are scored too.
    """

    checkpoint: Path
    original: Path
    ema: str | None = None
    retrained: Path | None = None
    level: Literal["standard", "strong"] = "standard"
    seed: int = 0
    max_gap: float | None = None
    reference_tolerance: float = 10.0
    out: Path | None = None
    report: Path | None = None
    measure: tuple[str, ...] = ()
    history: Path | None = None

    @property
    def tolerances(self) -> Tolerances:
        """The tolerances of the audit."""
        return Tolerances(reference=self.reference_tolerance)

    def problems(self) -> list[str]:
        """Return what is wrong with `max_gap` and `reference_tolerance`, one sentence each."""
        problems = problems_of(self.tolerances.check)
        if self.max_gap is None:
            return problems
        if not self.max_gap >= 0:
            problems.append(f"--max-gap is {self.max_gap:g}; give the points that are allowed, 0 or more.")
        if self.retrained is None:
            problems.append("--max-gap needs --retrained: without a retrained model there is no gap.")
        return problems


def audit(
    *,
    flags: Annotated[AuditFlags, FLAT],
    model: Annotated[ModelFlags, MODEL],
    split: Annotated[SplitFlags, SPLIT] = SplitFlags(),
    strong: Annotated[StrongFlags, Parameter(group=Group("Strong audit", sort_key=5))] = StrongFlags(),
) -> int:
    """Audit an unlearned checkpoint beside the original and a retrained model.

    Prints the scores and a verdict in plain words. docs/audit.md explains what each score can say. Exit code 1 if the average gap
    of a model in the file exceeds --max-gap, if an earlier request came back, if the retrained model is not comparable with
    the original, or if the checkpoint is the original.

    Args:
        flags: The models and the results.
        model: The model and its data.
        split: What was to be forgotten.
        strong: What the strong audit runs, with --level strong.
    """
    files = ModelFiles(
        {"original": flags.original, "unlearned": flags.checkpoint, "retrained": flags.retrained},
        model.build,
        model.device,
        history=flags.history,
        ema=flags.ema,
    )
    raise_all(_problems(flags, model, split, strong) + model.problems() + files.problems(model.preview()))
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
    said = _verdict(outcome, references, settings, model.factory(source), flags.tolerances)
    if said is not None:
        outcome.record.details["verdict"] = plain(said.to_dict())
    if flags.out is not None:
        outcome.record.save(flags.out)
    show_outcomes([references.original, references.retrained, *others, outcome], flags.report)
    print(said)
    return max(_exit_code([outcome, *others], flags.max_gap), came_back(outcome.record))


def _problems(flags: AuditFlags, model: ModelFlags, split: SplitFlags, strong: StrongSettings) -> list[str]:
    """Return the problems that are known before the data is read."""
    from ..torch_utils.module_state import check_seed

    outputs = {"--out": flags.out, "--report": flags.report}
    return [
        *flags.problems(),
        *output_problems(
            outputs, flags.checkpoint, flags.original, flags.retrained, flags.history, split.forget_ids
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
        on_step=_print_step,
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
            print(f"no conclusion{which}: {reasons[0].partition('. ')[0].rstrip('.')}.", file=sys.stderr)
            refused = True
    with_gap = [o for o in outcomes if not refused or "gap" in o.record.scores]
    if max_gap is None or not with_gap or (outcome := worst(with_gap, max_gap)) is None:  # type: ignore[assignment]
        return int(refused)
    gap = outcome.record.scores["gap"]["avg"]
    print(f"avg. gap {gap:.2f} is above --max-gap {max_gap:g}", file=sys.stderr)
    return 1


def _print_step(what: str, done: int, total: int) -> None:
    end = "" if sys.stderr.isatty() and done < total else "\n"
    print(f"\r{what}: {done} of {total}   ", end=end, file=sys.stderr, flush=True)
