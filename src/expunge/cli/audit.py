"""The command that judges a model, and ends a pipeline where it does not pass."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from tyro.conf import OmitArgPrefixes as Flat

from ..audit.strong import StrongSettings, strong_audit, with_strong
from ..audit.verdict import verdict, within_gap
from ..errors import ExpungeError
from ..methods.retrain import Retrain
from ..pipeline.experiment import judge_run
from ..records.checkpoint_metadata import check_audited
from ..records.record import plain
from ..tasks.classification import Classification
from ..training.registry import method_from_metadata, recipe_from_metadata
from ..training.run import Run
from .flags import ModelFlags, SplitFlags, check_outputs, load_model, load_reference, notice, told
from .terminal import command_line, references, show


def audit(
    *,
    model: Flat[ModelFlags],
    checkpoint: Path,
    original: Path,
    split: Flat[SplitFlags] = SplitFlags(),
    retrained: Path | None = None,
    level: Literal["standard", "strong"] = "standard",
    strong: StrongSettings = StrongSettings(),
    seed: int = 0,
    max_gap: float | None = None,
    out: Path | None = None,
    report: Path | None = None,
) -> None:
    """Judge an unlearned checkpoint beside the original and a retrained one, and say so in plain words.

    Exit code 1 if the avg. gap exceeds --max-gap. What each figure can say: docs/audit.md.

    Args:
        model: The model and its data.
        checkpoint: The unlearned model's weights.
        original: The original's weights.
        split: What was to be forgotten.
        retrained: A model retrained without the forget set; without it no gap can be given.
        level: strong adds attacks with shadow populations, relearning, and features; minutes to hours instead of seconds.
        strong: What the strong audit runs.
        seed: Seed of the attack's samples.
        max_gap: Largest avg. gap to Retrain, in points, that passes.
        out: Record to write (JSON).
        report: HTML report to write.
    """
    if max_gap is not None and not max_gap >= 0:
        raise ExpungeError(f"--max-gap is {max_gap:g}; give the points that are allowed, 0 or more.")
    check_outputs({"--out": out, "--report": report}, checkpoint, original, retrained, split.forget_ids)
    if level == "strong":
        strong.check()
    source = model.source()
    drawn, task = told(split, source), Classification(len(source.classes))
    if max_gap is not None and retrained is None:
        raise ExpungeError("--max-gap needs --retrained: without a retrained model there is no gap.")
    factory = model.factory(source)
    before, read = load_model(factory, original, drawn)
    after, made = load_model(factory, checkpoint)
    check_audited(made, drawn)
    again = load_reference(factory, retrained, drawn) if retrained is not None else None
    named = {"model": model.model, "data": source.name, "classes": source.classes}
    start, gold = references(drawn, task, (before, read), again, seed, named)
    method = method_from_metadata(made)
    outcome = judge_run(
        Run(after, drawn, task, seed),
        method,
        kind="unlearn",
        original=start.judged,
        retrained=gold.judged if gold is not None else None,
        names=named,
        command=command_line(),
    )
    record, theirs = outcome.record, [gold.record.scores] if gold is not None else []
    if level == "strong":
        trained_by = recipe_from_metadata(read)
        found = strong_audit(
            after, drawn, task, original=before, retrained=again[0] if again is not None else None, method=method,
            recipe=trained_by if isinstance(trained_by, Retrain) else None, settings=strong,
            evaluations={k: o.judged for k, o in (("original", start), ("unlearned", outcome), ("retrained", gold)) if o and o.judged},
            retrained_scores=theirs, factory=factory, on_step=_step,
        )  # fmt: skip
        record.details = plain(with_strong(record.details, found))
        for text in found.limits:
            notice(text)
        said = found.verdict
    else:
        said = verdict(
            record.scores, theirs, sizes=drawn.sizes, goal=drawn.goal, original=start.record.scores
        )
    if said is not None:
        record.details["verdict"] = plain(said.to_dict())
    if out is not None:
        record.save(out)
    show([start, gold, outcome], report)
    print(said)
    if max_gap is not None and not within_gap(record.scores, max_gap):
        gap = record.scores["gap"]["avg"]
        print(f"avg. gap {gap:.2f} is above --max-gap {max_gap:g}", file=sys.stderr)
        raise SystemExit(1)


def _step(what: str, done: int, total: int) -> None:
    end = "" if sys.stderr.isatty() and done < total else "\n"
    print(f"\r{what}: {done} of {total}   ", end=end, file=sys.stderr, flush=True)


COMMANDS: dict[str, Callable[..., Any]] = {"audit": audit}
