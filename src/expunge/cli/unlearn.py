"""The commands that make a model: train an original or the retrained reference, and unlearn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tyro.conf import OmitArgPrefixes as Flat

from ..errors import ExpungeError
from ..pipeline.experiment import experiment, judge_run, seeded_factory
from ..pipeline.experiment import train as train_model
from ..records.checkpoint_metadata import metadata_for
from ..tasks.classification import Classification
from ..training.processes import first
from ..tuning import presets
from ..tuning.search import Trial
from .flags import (
    ComputeFlags,
    ModelFlags,
    RecipeFlags,
    SplitFlags,
    check_outputs,
    chosen,
    load_model,
    load_reference,
    method_union,
    notice,
    of_original,
    told,
    typed,
)
from .receipt import ReceiptFlags
from .terminal import (
    command_line,
    progress,
    references,
    resumable,
    settings_line,
    show,
    trials_file,
    tried,
    with_record,
    write,
)


def train(
    *,
    model: Flat[ModelFlags],
    out: Path,
    recipe: Flat[RecipeFlags] = RecipeFlags(),
    split: Flat[SplitFlags] = SplitFlags(),
    compute: Flat[ComputeFlags] = ComputeFlags(),
    seed: int = 0,
    without_forget: bool = False,
) -> None:
    """Train an original model, or with --without-forget the retrained reference, and write a checkpoint that says on which samples.

    Args:
        model: The model and its data.
        out: Checkpoint to write (.safetensors or .pt).
        recipe: The training recipe; what is not given comes from the preset of the data.
        split: How the validation set is drawn; a forget set only with --without-forget.
        compute: How the arithmetic is done.
        seed: Seed of the weights and of the order of samples.
        without_forget: Leave the forget set out: the reference that gaps are measured from.
    """
    how = compute.compute()  # first of all, as it decides which GPU is this process's
    check_outputs(with_record(out), split.forget_ids)
    source = model.source()
    if not without_forget and (split.forgets or split.class_share != 1):
        raise ExpungeError(
            "an original is trained on forget and retain set together: leave the forget flags out, or add --without-forget."
        )
    drawn, task = (
        (told if without_forget else of_original)(split, source),
        Classification(len(source.classes)),
    )
    settings = chosen(presets.recipe(model.data), recipe)
    factory = seeded_factory(model.factory(source), seed)
    info = {"model": model.model, "data": source.name, "classes": source.classes}
    said: dict[str, Any] = {"names": info, "command": command_line()}
    with resumable(out) as state:
        watch: dict[str, Any] = {
            "seed": seed,
            "compute": how,
            "on_row": progress(settings, "retrained" if without_forget else "original"),
            "state_file": state,
        }
        if without_forget:
            outcome = experiment(
                factory(), drawn, settings, task, kind="retrain", factory=factory, **said, **watch
            )
        else:
            run = train_model(factory(), drawn, settings, task, **watch)
            outcome = judge_run(run, settings, kind="original", **said)
    if not first():
        return
    write(out, outcome, metadata_for("retrain" if without_forget else "original", drawn, settings, seed))
    seen = "retained" if without_forget else "training"
    scores = outcome.record.scores
    print(
        f"accuracy: {scores['RA']:.2f} % of {seen} samples of the split, {scores['TA']:.2f} % of test samples"
    )


def unlearn(
    method: Flat[Any],
    *,
    model: Flat[ModelFlags],
    checkpoint: Path,
    out: Path | None = None,
    split: Flat[SplitFlags] = SplitFlags(),
    retrained: Path | None = None,
    compute: Flat[ComputeFlags] = ComputeFlags(),
    seed: int = 0,
    trials: int = 1,
    report: Path | None = None,
    save_mask: Path | None = None,
    receipt: Flat[ReceiptFlags] = ReceiptFlags(),
) -> None:
    """Unlearn a forget set from a checkpoint, audit the result, and write the new checkpoint, its record and its receipt.

    Args:
        method: The method and its settings.
        model: The model and its data.
        checkpoint: The original's weights, .safetensors or .pt; only read.
        out: Checkpoint to write, in the input's format and with its keys; by default beside the input, with the method's name.
        split: What to forget.
        retrained: Checkpoint of a model retrained without the forget set, to measure the gap from.
        compute: How the arithmetic is done.
        seed: Seed of everything random in the run.
        trials: How many settings to try, chosen by validation data; fields given as flags stay. 1 takes the settings as they are.
        report: HTML report to write.
        save_mask: File to write the mask to, a bit a weight, for `expunge verify --mask`.
        receipt: What was run, in a file that shows every change made to it.
    """
    how = compute.compute()  # first of all, as it decides which GPU is this process's
    if why := getattr(method, "python_only", ""):
        raise ExpungeError(why)
    receipt.check(checkpoint)  # a key that cannot be read is better known before the run than after it
    source = model.source()
    out = out or checkpoint.with_name(f"{checkpoint.stem}-{method.name()}{checkpoint.suffix}")
    check_outputs(
        {**with_record(out), **receipt.written(out), "--report": report, "--save-mask": save_mask},
        *(checkpoint, retrained, split.forget_ids, receipt.sign_key, receipt.parent),
    )
    drawn, task = told(split, source), Classification(len(source.classes))
    factory = model.factory(source)
    original, read = load_model(factory, checkpoint, drawn)
    again = load_reference(factory, retrained, drawn) if retrained is not None else None
    named = {"model": model.model, "data": source.name, "classes": source.classes}
    if trials > 1 and "train_hash" not in read.metadata:
        notice(
            f"trials are chosen on the validation samples; if {checkpoint.name} was trained on them too, they choose badly."
        )
    start, gold = references(drawn, task, (original, read), again, seed, named)
    with resumable(out) as state:
        outcome = experiment(
            original,
            drawn,
            method,
            task,
            original=start.judged,
            retrained=gold.judged if gold is not None else None,
            seed=seed,
            compute=how,
            factory=factory,
            on_row=progress(method),
            state_file=state,
            names=named,
            command=command_line(),
            trials=trials,
            fixed=typed(type(method).search),
            on_trial=tried(trials),
            trials_file=trials_file(out),
        )
    if not first():
        return
    write(out, outcome, metadata_for("unlearn", drawn, outcome.method or method, seed), like=read)
    if tries := outcome.record.details.get("trials"):
        all_there_are = "" if len(tries) == trials else " (there are no more to try)"
        print(f"settings, the best of {len(tries)} trials{all_there_are}: {settings_line(Trial(**tries[0]))}")
    mask = outcome.run.mask
    if save_mask is not None and mask is not None:
        print(f"mask: {mask.save(save_mask, split=drawn.hash)}")
    elif save_mask is not None:
        notice(f"the run had no mask, so {save_mask} was not written; --density below 1 makes one.")
    receipt.write(out.with_suffix(".json"), checkpoint, out, drawn.forget.ids, mask)
    show([start, gold, outcome], report)


def add_methods() -> None:
    """Make the sub-commands of `unlearn`, one a method; building them costs half a second, so only where they are needed."""
    unlearn.__annotations__["method"] = Flat[method_union()]  # type: ignore[misc]


COMMANDS: dict[str, Callable[..., Any]] = {"train": train, "unlearn": unlearn}
