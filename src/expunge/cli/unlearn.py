"""`expunge unlearn METHOD`: unlearn a forget set from a classifier's checkpoint."""

# annotations are evaluated here, because the class of the settings' flags is made for the method

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from ..data.past_requests import requests_of
from ..errors import ExpungeError, raise_all
from ..pipeline.outcome import Outcome
from ..pipeline.pipeline import Pipeline
from ..pipeline.watch import Trials, Watch
from ..receipts.issue import record_hash
from ..receipts.kept import NAMES
from ..records.checkpoint import Checkpoint, read_checkpoint
from ..records.checkpoint_metadata import metadata_for
from ..records.request_file import requests_path, write_requests
from ..tasks.classification import Classification
from ..torch_utils.module_state import check_seed
from ..training.method import Method
from ..training.processes import is_first_process
from ..training.registry import METHODS, find, serves, unsuited_text
from ..tuning.checks import trial_problems
from ..tuning.search import AUTO, Trial, tries
from .checks import check_measures, output_problems, problems_of, run_problems, scenario_of, scenario_problems
from .compute_flags import ComputeFlags
from .flags import COMPUTE, MODEL, SPLIT, ModelFlags, SplitFlags
from .inputs import ModelFiles, after_earlier_requests, draw_split, reference_of
from .invocation import command_line
from .method_commands import MethodCommands, first_line
from .outputs import resumable, trials_file, with_record, write_outcome
from .receipt_flags import RECEIPT, ReceiptFlags
from .settings_flags import FLAT, given, method_group, settings_flags, with_help
from .terminal import came_back, notice, print_trials, progress, settings_line, show_outcomes

TEXT = """Unlearn a forget set from a classifier's checkpoint, and audit the result.

The command writes the new checkpoint, its record and its receipt. An interrupted run resumes when you give the same command
again."""


@with_help
@dataclass(frozen=True, kw_only=True)
class UnlearnFlags:
    """The files and the length of one unlearning run.

    Args:
        checkpoint: The original model, .safetensors or .pt. It is only read.
        ema: Entry of the checkpoint that holds the model to unlearn, such as an average of the parameters: state_dict_ema, or a
            path with dots. By default state_dict, model and other usual names are tried. The output holds no other model.
        out: Checkpoint to write, in the format of the input and with its tensor names. By default beside the input, with
            the name of the method.
        retrained: Checkpoint of a model retrained without the forget set, from which gaps are measured.
        seed: Seed of everything random in the run.
        trials: Number of settings to try. The best by validation data is kept; fields given as flags stay fixed. "auto" adapts
            the settings to the request, tries at most 8, and keeps the original if none improves on it. 0 takes the settings
            as they are.
        report: HTML report to write.
        save_mask: File for the mask, one bit per parameter, for `expunge verify --mask`.
        measure: Extra measures of the audit: names such as ToW, or package.module:Class. Can be repeated.
        history: File with the requests that the checkpoint's model has answered (.requests.json, or a text file with one id
            per line). By default the file beside the checkpoint. No later run trains on their samples.
        rehearse: Forget the samples of earlier requests again in this run.
    """

    checkpoint: Path
    ema: str | None = None
    out: Path | None = None
    retrained: Path | None = None
    seed: int = 0
    trials: int | Literal["auto"] = AUTO
    report: Path | None = None
    save_mask: Path | None = None
    measure: tuple[str, ...] = ()
    history: Path | None = None
    rehearse: bool = False

    def checkpoint_to_write(self, method: Method) -> Path:
        """Return `out`, or the default beside the input."""
        return self.out or self.checkpoint.with_name(
            # a colon is not allowed in file names everywhere
            f"{self.checkpoint.stem}-{method.name().replace(':', '.')}{self.checkpoint.suffix}"
        )


@dataclass(frozen=True, kw_only=True)
class Request:
    """Everything that one call of the command asks for. `fixed` names the settings that were given as flags."""

    method: Method
    fixed: list[str]
    model: ModelFlags
    flags: UnlearnFlags
    split: SplitFlags
    compute: ComputeFlags
    receipt: ReceiptFlags


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
            )
        )

    unlearn.__doc__ = f"{first_line(method_class)}\n\n{TEXT}"
    return unlearn


def run(request: Request) -> int:
    """Check the request, unlearn, and write and show the results. Raises `ExpungeError`.

    Returns:
        The exit code: 1 if an earlier request came back, the run diverged or changed nothing, or the model is further from the
        target than the original; else 0.
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
    _note_on_trials(flags, original[1])

    @contextmanager
    def watch(label: str, method: Method) -> Iterator[Watch]:
        trials = Trials(
            count=flags.trials,
            fixed=request.fixed,
            on_trial=print_trials(flags.trials),
            file=trials_file(out),
        )
        with resumable(out) as state:
            adapts = flags.trials == AUTO and "epochs" not in request.fixed
            yield Watch(on_row=progress(method, adapts=adapts), state_file=state, trials=trials)

    outcomes = Pipeline(
        split=split,
        task=task,
        factory=model.factory(source),
        seed=flags.seed,
        compute=how,
        names=model.names(source),
        command=command_line(),
        measures=flags.measure,
        watch=watch,
    ).run(
        {method.name(): method},
        original=lambda: reference_of(original, split, task, flags.seed),
        retrained=lambda _: None if retrained is None else reference_of(retrained, split, task, flags.seed),
    )
    if is_first_process():
        _write(request, out, outcomes, original[1])
    record = outcomes[-1].record
    return 1 if record.ended in ("diverged", "unchanged", "worse") else came_back(record)


def _write(request: Request, out: Path, outcomes: list[Outcome], like: Checkpoint) -> None:
    """Write checkpoint, record, mask, receipt and report of a finished run, and print what there is."""
    flags, outcome = request.flags, outcomes[-1]
    split = outcome.run.split
    answered, metadata = requests_of(outcome.model), {}
    if outcome.run.has_result:
        metadata = metadata_for("unlearn", split, outcome.method or request.method, flags.seed)
    # before the checkpoint: a checkpoint without the ids of its requests could not be used again
    write_requests(requests_path(out), answered)
    write_outcome(out, outcome, metadata, like=like)
    _print_trials(outcome, flags.trials)
    mask = outcome.run.mask
    if flags.save_mask is not None and mask is not None:
        names = {NAMES: json.dumps(like.names_in_file(mask))}
        print(f"mask: {mask.save(flags.save_mask, split=split.hash, **names)}")
    elif flags.save_mask is not None:
        notice(f"the run had no mask, so {flags.save_mask} was not written; --density below 1 makes one.")
    before = flags.checkpoint if flags.ema is None else read_checkpoint(flags.checkpoint, flags.ema).state
    record = out.with_suffix(".json")
    earlier = answered[:-1] if outcome.run.has_result else answered
    parent = earlier[-1].receipt if earlier else ""
    receipt = request.receipt.write(record, before, out, split.forget.ids, mask, parent)
    proof = {"receipt": receipt.id, "commitment": receipt.statement["forget_commitment"]} if receipt else {}
    if outcome.run.has_result:
        last = replace(answered[-1], record=record_hash(record), **proof)
        path = write_requests(requests_path(out), [*earlier, last])
        print(f"requests: {path} (keep it private; it holds the forgotten ids)")
    else:
        notice(
            "the request is not answered: the checkpoint holds the model that the run began with, with its metadata."
        )
    show_outcomes(outcomes, flags.report)


def _problems(request: Request, out: Path) -> list[str]:
    """Return the problems of files, split and trials, all known before the data is read."""
    method, flags, split, receipt = request.method, request.flags, request.split, request.receipt
    outputs = {
        **with_record(out),
        **receipt.written(out),
        **({"the requests": requests_path(out)} if out.name else {}),
        "--report": flags.report,
        "--save-mask": flags.save_mask,
    }
    inputs = (
        flags.checkpoint,
        flags.retrained,
        flags.history,
        split.forget_ids,
        receipt.sign_key,
        receipt.parent,
    )
    return [
        *output_problems(outputs, *inputs),
        *split.problems(),
        *scenario_problems(method, scenario_of(split)),
        *(trial_problems(method, flags.trials, request.fixed) if flags.trials not in (0, 1, AUTO) else []),
        *problems_of(
            lambda: check_seed(split.split_seed),
            lambda: receipt.check(flags.checkpoint, flags.ema),
            lambda: check_measures(flags.measure, flags.retrained),
        ),
    ]


def _note_on_trials(flags: UnlearnFlags, checkpoint: Checkpoint) -> None:
    """Warn where the checkpoint does not say that it never saw the validation samples, by which trials are chosen."""
    if tries(flags.trials) and "train_hash" not in checkpoint.metadata:
        notice(
            f"trials are chosen on the validation samples; if {checkpoint.path.name} was trained on them too, the choice is poor."
        )


def _print_trials(outcome: Outcome, asked: int | str) -> None:
    trials = outcome.record.details.get("trials")
    if trials and not outcome.run.kept_original:
        all_tried = "" if asked in (len(trials), AUTO) else " (there are no more to try)"
        print(f"settings, the best of {len(trials)} trials{all_tried}: {settings_line(Trial(**trials[0]))}")
