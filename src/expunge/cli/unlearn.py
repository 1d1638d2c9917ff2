"""`expunge unlearn METHOD`: unlearn a forget set from a classifier's checkpoint."""

# annotations are evaluated here, because the class of the settings' flags is made for the method

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from ..data.past_requests import requests_of
from ..errors import ExpungeError, raise_all
from ..masks.other_masks import mask_of_file
from ..pipeline.outcome import Outcome
from ..pipeline.pipeline import Pipeline
from ..pipeline.watch import Trials, Watch
from ..receipts.issue import record_hash
from ..receipts.kept import NAMES
from ..records.checkpoint import Checkpoint, read_checkpoint
from ..records.checkpoint_metadata import metadata_for
from ..records.file_names import beside
from ..records.keyed import keyed, new_key
from ..records.request_file import requests_path, write_requests
from ..records.together import staged
from ..tasks.classification import Classification
from ..torch_utils.module_state import check_seed
from ..tracking.tracking import Tracking
from ..training.method import Method
from ..training.processes import is_first_process
from ..training.registry import METHODS, find, serves, unsuited_text
from ..training.tracked import run_settings
from ..tuning.checks import trial_problems
from ..tuning.search import AUTO, tries
from .checks import check_measures, problems_of, run_problems, scenario_of, scenario_problems
from .compute_flags import ComputeFlags
from .exit_codes import CHECK_FAILED
from .flags import COMPUTE, MODEL, SPLIT, ModelFlags, SplitFlags
from .inputs import ModelFiles, after_earlier_requests, draw_split, reference_of
from .invocation import command_line
from .method_commands import MethodCommands, first_line
from .output_checks import output_problems, run_output_problems, size_of
from .outputs import FAILURE, FailureFlags, deliver, note_status, refuse_failed, resumable, write_outcome
from .receipt_flags import RECEIPT, ReceiptFlags
from .run_files import failed_file, trials_file, with_record, written
from .settings_flags import FLAT, given, method_group, settings_flags
from .terminal import came_back, notice, print_trials, progress, show_outcomes
from .track_flags import TRACK, TrackFlags
from .trial_lines import note_no_gain, print_chosen
from .unlearn_flags import Request, UnlearnFlags

TEXT = """Unlearn a forget set from a classifier's checkpoint, and audit the result.

The command writes the new checkpoint, its record and its receipt together. If the run diverged or changed nothing, it writes none
of them and ends with exit code 3. An interrupted run resumes when you give the same command again."""


def unlearn_commands() -> MethodCommands:
    """Return `expunge unlearn` with one sub-command per method that serves classifiers."""
    return MethodCommands("unlearn", TEXT, _methods, _command)


def _methods() -> dict[str, str]:
    methods = METHODS.classes()
    return {name: first_line(method) for name, method in methods.items() if serves(method, Classification)}


def _command(name: str) -> Callable[..., int]:
    """Return the function of one method's sub-command. Raises `ExpungeError` for a method that has none."""
    method_class = find(name)
    if not serves(method_class, Classification):
        raise ExpungeError(unsuited_text(method_class, Classification))
    if reason := getattr(method_class, "python_only", ""):
        raise ExpungeError(reason)
    settings_class: Any = settings_flags(method_class)

    def unlearn(
        *,
        flags: Annotated[UnlearnFlags, FLAT],
        model: Annotated[ModelFlags, MODEL],
        split: Annotated[SplitFlags, SPLIT] = SplitFlags(),
        settings: Annotated[settings_class, method_group(name)] = settings_class(),
        compute: Annotated[ComputeFlags, COMPUTE] = ComputeFlags(),
        receipt: Annotated[ReceiptFlags, RECEIPT] = ReceiptFlags(),
        failure: Annotated[FailureFlags, FAILURE] = FailureFlags(),
        track: Annotated[TrackFlags, TRACK] = TrackFlags(),
    ) -> int:
        values = given(settings)
        return run(
            Request(
                method=method_class(**values),
                fixed=sorted(values),
                model=model,
                flags=flags,
                split=split,
                compute=compute,
                receipt=receipt,
                failure=failure,
                track=track,
            )
        )

    unlearn.__doc__ = f"{first_line(method_class)}\n\n{TEXT}"
    return unlearn


def run(request: Request) -> int:
    """Check the request, unlearn, and write and show the results.

    Returns:
        The exit code: 1 if an earlier request came back, or the model is further from the target than the original; else 0.

    Raises:
        UnlearningFailed: The run diverged or changed nothing.
    """
    method, flags, model = request.method, request.flags, request.model
    how = request.compute.start()
    out = flags.checkpoint_to_write(method)
    files = ModelFiles(
        {"original": flags.checkpoint, "retrained": flags.retrained},
        model.build,
        model.device,
        history=flags.history,
        ema=flags.ema,
    )
    # the number of classes is not known yet, and no setting depends on it
    checked = run_problems(method, Classification(2), how, model.device, flags.seed)
    raise_all(_problems(request, out) + checked + model.problems() + files.problems(model.preview()))
    source = model.source()
    split, task = draw_split(request.split, source), Classification(len(source.classes))
    original = files.load("original", source, split)
    split = after_earlier_requests(split, original[0], flags.rehearse)
    retrained = files.load_if_given("retrained", source, split)
    _note_on_trials(flags, request.split, original[1])

    pipeline = Pipeline(
        split=split,
        task=task,
        factory=model.factory(source),
        seed=flags.seed,
        compute=how,
        names=model.names(source),
        command=command_line(),
        measures=flags.measure,
    )
    name, settings = f"unlearn {method.name()}", run_settings(method, split, flags.seed, pipeline.names)
    with request.track.run(name, settings) as tracking:
        outcomes = replace(pipeline, watch=_watch(request, out, tracking)).run(
            {method.name(): method},
            original=lambda: reference_of(original, split, task, flags.seed),
            retrained=lambda _: (
                None if retrained is None else reference_of(retrained, split, task, flags.seed)
            ),
        )
        record = outcomes[-1].record
        tracking.take_record(record)
        _finish(request, out, outcomes, original[1])
        receipt = request.receipt.written(out).get("the receipt")
        tracking.wrote(**written(out), receipt=receipt, report=flags.report)
    return CHECK_FAILED if record.ended == "worse" else came_back(record)


def _watch(
    request: Request, out: Path, tracking: Tracking
) -> Callable[[str, Method], AbstractContextManager[Watch]]:
    flags = request.flags

    @contextmanager
    def watch(label: str, method: Method) -> Iterator[Watch]:
        trials = Trials(
            count=flags.trials,
            fixed=request.fixed,
            on_trial=print_trials(flags.trials),
            file=trials_file(out),
        )
        with resumable(out, keeps_original=flags.trials == AUTO) as state:
            adapts = flags.trials == AUTO and "epochs" not in request.fixed
            on_row = tracking.rows(progress(method, adapts=adapts))
            yield Watch(on_row=on_row, state_file=state, trials=trials)

    return watch


def _finish(request: Request, out: Path, outcomes: list[Outcome], like: Checkpoint) -> None:
    """Write and show the results. Raises `UnlearningFailed` for a run without a result, after its table."""
    outcome = outcomes[-1]
    if request.flags.show_forgotten:
        outcome.record = outcome.shown_record
    if is_first_process() and not outcome.run.has_result:
        show_outcomes(outcomes, None)
    refuse_failed(out, outcome.run, outcome.record, request.failure, like)
    if is_first_process():
        deliver(out, lambda place: _write(request, place, outcome, like), request.failure)
        print_chosen(outcome, request.flags.trials)
        note_status(outcome.record, outcome.run)
        show_outcomes(outcomes, request.flags.report)
        note_no_gain(outcome.record)


def _write(request: Request, out: Path, outcome: Outcome, like: Checkpoint) -> list[str]:
    """Write checkpoint, record, mask, receipt and request file of a finished run, and return the lines to print."""
    flags = request.flags
    split = outcome.run.split
    key = new_key()
    metadata = metadata_for("unlearn", split, outcome.method or request.method, flags.seed, key=key)
    lines = write_outcome(out, outcome, metadata, like=like)
    mask, mask_file = outcome.run.mask, flags.save_mask
    if mask is not None:
        mask = mask_of_file(mask, like)
        # the receipt states the names too
        mask.metadata[NAMES] = json.dumps(like.names_in_file(mask))
    if mask_file is not None and mask is not None:
        # spilled outputs are all in one folder
        mask_file = (
            mask_file if out == flags.checkpoint_to_write(request.method) else out.parent / mask_file.name
        )
        lines.append(f"mask: {mask.save(mask_file, split=keyed(key, 'split', split.hash))}")
    elif mask_file is not None:
        notice(f"the run had no mask, so {mask_file} was not written; --density below 1 makes one.")
    answered = requests_of(outcome.model)
    before = flags.checkpoint if flags.ema is None else read_checkpoint(flags.checkpoint, flags.ema).state
    record = beside(out, ".json")
    earlier = answered[:-1]
    parent = earlier[-1].receipt if earlier else ""
    receipt, written = request.receipt.write(record, before, out, split.forget.ids, mask, parent)
    proof = {"receipt": receipt.id, "commitment": receipt.statement["forget_commitment"]} if receipt else {}
    last = replace(answered[-1], record=record_hash(staged(record)), **proof)
    path = write_requests(requests_path(out), [*earlier, last], key)
    return [*lines, *written, f"requests: {path} (keep it private; it holds the forgotten ids)"]


def _problems(request: Request, out: Path) -> list[str]:
    """Return the problems of files, split and trials, all known before the data is read."""
    method, flags, split, receipt = request.method, request.flags, request.split, request.receipt
    outputs = {
        **with_record(out),
        **receipt.written(out),
        **({"the requests": requests_path(out)} if out.name else {}),
        "--report": flags.report,
        "--save-mask": flags.save_mask,
        **({"--keep-failed": failed_file(out)} if request.failure.keep_failed and out.name else {}),
    }
    inputs = (
        flags.checkpoint,
        flags.retrained,
        flags.history,
        split.forget_ids,
        split.unseen_ids,
        receipt.sign_key,
        receipt.parent,
    )
    return [
        *output_problems(outputs, *inputs),
        *run_output_problems(out, size_of(flags.checkpoint), request.failure.spill),
        *split.problems(),
        *request.track.problems(),
        *scenario_problems(method, scenario_of(split)),
        *(trial_problems(method, flags.trials, request.fixed) if flags.trials not in (0, 1, AUTO) else []),
        *problems_of(
            lambda: check_seed(split.split_seed),
            lambda: receipt.check(flags.checkpoint, flags.ema),
            lambda: check_measures(flags.measure, flags.retrained),
        ),
    ]


def _note_on_trials(flags: UnlearnFlags, split: SplitFlags, checkpoint: Checkpoint) -> None:
    """Warn where the checkpoint does not say that it never saw the validation samples, by which trials are chosen."""
    drawn = split.validation and split.validation_from == "train" and split.unseen_ids is None
    if drawn and tries(flags.trials) and "train_hash" not in checkpoint.metadata:
        notice(
            f"trials are chosen on the validation samples; if {checkpoint.path.name} was trained on them too, the choice is poor. "
            "Add --validation-from test then."
        )
