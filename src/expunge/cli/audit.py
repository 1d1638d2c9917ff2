"""`expunge audit`: audit a model, and end a pipeline where it does not pass."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter

from ..audit.strong import StrongResult, StrongSettings, strong_audit, with_strong
from ..audit.verdict import verdict, within_gap
from ..errors import raise_all
from ..methods.retrain import Retrain
from ..pipeline.experiment import Outcome, judge_run
from ..records.record import plain
from ..tasks.classification import Classification
from ..training.registry import method_from_metadata, recipe_from_metadata
from ..training.run import Run
from .checks import output_problems, problems_of
from .flags import MODEL, SPLIT, ModelFlags, SplitFlags
from .inputs import Loaded, ModelFiles, draw_split, score_references
from .invocation import command_line
from .settings_flags import FLAT, with_help
from .terminal import notice, show_outcomes

StrongFlags: Any = with_help(StrongSettings)


@with_help
@dataclass(frozen=True, kw_only=True)
class AuditFlags:
    """The models of an audit and its results.

    Args:
        checkpoint: The unlearned model.
        original: The original model.
        retrained: A model retrained without the forget set. Without it there are no gaps.
        level: The strong audit adds attacks with shadow populations, relearning and features. It takes minutes to hours;
            the standard audit takes seconds.
        seed: Seed of the samples that the membership attack is fitted on.
        max_gap: Largest average gap to Retrain that passes, in percentage points. Needs --retrained.
        out: Record to write (JSON).
        report: HTML report to write.
    """

    checkpoint: Path
    original: Path
    retrained: Path | None = None
    level: Literal["standard", "strong"] = "standard"
    seed: int = 0
    max_gap: float | None = None
    out: Path | None = None
    report: Path | None = None

    def problems(self) -> list[str]:
        """Return what is wrong with `max_gap`, one sentence each."""
        if self.max_gap is None:
            return []
        problems = []
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

    Prints the scores and a verdict in plain words. Exit code 1 if the average gap exceeds --max-gap. docs/audit.md explains what
    each score can say.

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
    )
    raise_all(_problems(flags, model, split, strong) + model.problems() + files.problems(model.preview()))
    source = model.source()
    drawn, task = draw_split(split, source), Classification(len(source.classes))
    factory, names = model.factory(source), model.names(source)
    original = files.load("original", source, drawn)
    unlearned, checkpoint = files.load("unlearned", source, drawn)
    retrained = files.load_if_given("retrained", source, drawn)
    start, gold = score_references(drawn, task, original, retrained, flags.seed, names)
    outcome = judge_run(
        Run(unlearned, drawn, task, flags.seed),
        method_from_metadata(checkpoint),
        kind="unlearn",
        original=start.judged,
        retrained=gold.judged if gold is not None else None,
        names=names,
        command=command_line(),
    )
    if flags.level == "strong":
        result = _strong(outcome, start, gold, (original, retrained), strong, factory)
        outcome.record.details = plain(with_strong(outcome.record.details, result))
        for text in result.limits:
            notice(text)
        said = result.verdict
    else:
        said = verdict(
            outcome.record.scores,
            [gold.record.scores] if gold is not None else [],
            sizes=drawn.sizes,
            goal=drawn.goal,
            original=start.record.scores,
        )
    if said is not None:
        outcome.record.details["verdict"] = plain(said.to_dict())
    if flags.out is not None:
        outcome.record.save(flags.out)
    show_outcomes([start, gold, outcome], flags.report)
    print(said)
    return _exit_code(outcome, flags.max_gap)


def _problems(flags: AuditFlags, model: ModelFlags, split: SplitFlags, strong: StrongSettings) -> list[str]:
    """Return the problems that are known before the data is read."""
    from ..torch_utils.module_state import check_seed

    outputs = {"--out": flags.out, "--report": flags.report}
    return [
        *flags.problems(),
        *output_problems(outputs, flags.checkpoint, flags.original, flags.retrained, split.forget_ids),
        *split.problems(),
        *problems_of(
            lambda: check_seed(flags.seed),
            lambda: check_seed(split.split_seed),
            strong.check if flags.level == "strong" else lambda: None,
        ),
    ]


def _strong(
    outcome: Outcome,
    start: Outcome,
    gold: Outcome | None,
    loaded: tuple[Loaded, Loaded | None],
    settings: StrongSettings,
    factory: Any,
) -> StrongResult:
    """Run the strong audit of an outcome beside the outcomes of the original (`start`) and the retrained model (`gold`)."""
    (original, original_checkpoint), retrained = loaded
    recipe = recipe_from_metadata(original_checkpoint)
    outcomes = {"original": start, "unlearned": outcome, "retrained": gold}
    return strong_audit(
        outcome.model,
        outcome.run.split,
        outcome.run.task,  # type: ignore[arg-type]
        original=original,
        retrained=retrained[0] if retrained is not None else None,
        method=outcome.method,
        recipe=recipe if isinstance(recipe, Retrain) else None,
        settings=settings,
        judged={k: o.judged for k, o in outcomes.items() if o is not None and o.judged is not None},
        retrained_scores=[gold.record.scores] if gold is not None else [],
        factory=factory,
        on_step=_print_step,
    )


def _exit_code(outcome: Outcome, max_gap: float | None) -> int:
    if max_gap is None or within_gap(outcome.record.scores, max_gap):
        return 0
    gap = outcome.record.scores["gap"]["avg"]
    print(f"avg. gap {gap:.2f} is above --max-gap {max_gap:g}", file=sys.stderr)
    return 1


def _print_step(what: str, done: int, total: int) -> None:
    end = "" if sys.stderr.isatty() and done < total else "\n"
    print(f"\r{what}: {done} of {total}   ", end=end, file=sys.stderr, flush=True)
