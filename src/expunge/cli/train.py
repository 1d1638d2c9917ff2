"""`expunge train`: train an original model or the retrained reference."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from ..data.past_requests import answered_by
from ..data.split import Split
from ..errors import raise_all
from ..methods.retrain import Retrain
from ..pipeline.factory import seeded_factory
from ..pipeline.outcome import Outcome
from ..pipeline.pipeline import Pipeline
from ..pipeline.watch import Watch
from ..records.checkpoint_metadata import metadata_for
from ..records.keyed import new_key
from ..records.request_file import read_requests, requests_path, write_requests
from ..tasks.classification import Classification
from ..tracking.tracking import Tracking
from ..training.method import Method
from ..training.processes import is_first_process
from ..training.tracked import run_settings
from ..tuning import presets
from .checks import run_problems
from .compute_flags import ComputeFlags, RecipeFlags
from .flags import COMPUTE, MODEL, SPLIT, ModelFlags, SplitFlags
from .inputs import draw_split, split_for_original
from .invocation import command_line
from .output_checks import output_problems, run_output_problems, size_of_model
from .outputs import FAILURE, FailureFlags, deliver, note_status, refuse_failed, resumable, write_outcome
from .run_files import with_record, written
from .settings_flags import REQUIRED, flag_group, given
from .terminal import progress
from .track_flags import TRACK, TrackFlags

Role = Literal["original", "retrain"]


def train(
    *,
    model: Annotated[ModelFlags, MODEL],
    out: Annotated[Path, REQUIRED],
    seed: int = 0,
    without_forget: bool = False,
    history: Path | None = None,
    recipe: Annotated[RecipeFlags, flag_group("Training recipe", 4)] = RecipeFlags(),
    split: Annotated[SplitFlags, SPLIT] = SplitFlags(),
    compute: Annotated[ComputeFlags, COMPUTE] = ComputeFlags(),
    failure: Annotated[FailureFlags, FAILURE] = FailureFlags(),
    track: Annotated[TrackFlags, TRACK] = TrackFlags(),
) -> None:
    """Train an original model, or with --without-forget the retrained reference.

    The checkpoint's metadata say on which samples the model was trained. Later commands check them. An interrupted run
    resumes when you give the same command again. A training that diverges writes nothing and ends with exit code 3.

    Args:
        model: The model and its data.
        out: Checkpoint to write (.safetensors or .pt). The record is written beside it.
        seed: Seed of the initial parameters and of the order of samples.
        without_forget: Train the retrained reference: leave out the forget set, from which all gaps are measured.
        history: With --without-forget: file of the requests answered before. Their samples are left out too.
        recipe: The training recipe. Fields without a flag come from the preset of the data.
        split: How the validation set is drawn. Forget flags are allowed only with --without-forget.
        compute: How the arithmetic is done.
        failure: What happens if the training fails.
        track: Trackers of the training.
    """
    how = compute.start()
    settings = replace(presets.recipe(model.data), **given(recipe))
    raise_all(
        output_problems(_outputs(out, without_forget), split.forget_ids, split.unseen_ids, history)
        + run_output_problems(out, size_of_model(model), failure.spill)
        + model.problems()
        + track.problems()
        + _split_problems(split, without_forget, history)
        + run_problems(settings, Classification(2), how, model.device, seed)
    )
    source = model.source()
    draw = draw_split if without_forget else split_for_original
    drawn, task = draw(split, source), Classification(len(source.classes))
    if history is not None:
        drawn = drawn.after(read_requests(history))
    role: Role = "retrain" if without_forget else "original"

    pipeline = Pipeline(
        split=drawn,
        task=task,
        factory=seeded_factory(model.factory(source), seed),
        recipe=settings,
        seed=seed,
        compute=how,
        names=model.names(source),
        command=command_line(),
    )
    # the split of an original forgets nothing that anyone asked for
    asked = drawn if without_forget else None
    with track.run(f"train {role}", run_settings(settings, asked, seed, pipeline.names)) as tracking:
        pipeline = replace(pipeline, watch=_watch(out, role, tracking))
        outcome = pipeline.train_alone(role)
        tracking.take_record(outcome.record)
        refuse_failed(out, outcome.run, outcome.record, failure)
        if not is_first_process():
            return
        deliver(out, lambda place: _write(place, outcome, role, drawn, settings), failure)
        tracking.wrote(**written(out))
    note_status(outcome.record, outcome.run)
    scores, seen = outcome.record.scores, "retained" if without_forget else "training"
    print(
        f"accuracy: {scores['RA']:.2f} % of {seen} samples of the split, {scores['TA']:.2f} % of test samples"
    )


def _outputs(out: Path, without_forget: bool) -> dict[str, Path]:
    return {
        **with_record(out),
        **({"the requests": requests_path(out)} if without_forget and out.name else {}),
    }


def _watch(
    out: Path, role: Role, tracking: Tracking
) -> Callable[[str, Method], AbstractContextManager[Watch]]:
    @contextmanager
    def watch(label: str, method: Method) -> Iterator[Watch]:
        name = "retrained" if role == "retrain" else role
        with resumable(out) as state:
            yield Watch(on_row=tracking.rows(progress(method, name)), state_file=state)

    return watch


def _write(out: Path, outcome: Outcome, role: Role, split: Split, recipe: Retrain) -> list[str]:
    """Write checkpoint and record, and for a reference the request file with the key of its metadata. Returns the lines to print."""
    key = new_key()
    metadata = metadata_for(role, split, recipe, outcome.run.seed, key=key)
    lines = write_outcome(out, outcome, metadata)
    if role == "original":
        return lines
    path = write_requests(requests_path(out), answered_by(split, recipe.name()), key)
    return [*lines, f"requests: {path} (keep it private; it holds the forgotten ids)"]


def _split_problems(split: SplitFlags, without_forget: bool, history: Path | None) -> list[str]:
    if without_forget:
        return split.problems()
    if history is not None:
        return [
            "--history names samples to leave out, and an original leaves none out: add --without-forget."
        ]
    if split.forgets or split.class_share != 1:
        return [
            "an original is trained on forget and retain set together: leave the forget flags out, or add --without-forget."
        ]
    return []
