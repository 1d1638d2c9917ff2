"""`expunge erase METHOD`: erase a concept from a text-to-image pipeline folder."""

# annotations are evaluated here, because the class of the settings' flags is made for the method

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from ..errors import WriteError, raise_all
from ..generation.concepts import Erasure
from ..generation.erase import erase as erase_concept
from ..generation.erase_checks import inside_problems, place_problems
from ..generation.erase_presets import STEPS, weights_for
from ..generation.erase_presets import settings as preset
from ..generation.erased import Erased
from ..generation.erasure_audit import check_judging
from ..generation.options import EraseOptions
from ..generation.pipeline_index import read_index
from ..report import write_report
from ..tracking.tracking import Tracking
from ..training.method import Method
from ..training.tracked import run_settings
from .checks import device_problems, mask_problems
from .compute_flags import ComputeFlags
from .erase_audit import judge_images
from .erase_flags import (
    CONCEPT,
    JUDGE,
    PICTURES,
    TRAINING,
    ConceptFlags,
    EraseOutputFlags,
    JudgeFlags,
    PictureFlags,
    TrainingFlags,
)
from .feature_network import feature_network
from .flags import COMPUTE
from .invocation import command_line
from .method_commands import MethodCommands, first_line
from .output_checks import output_problems, run_output_problems, size_of
from .outputs import FAILURE, FailureFlags, note_if_written, resumable
from .settings_flags import FLAT, given, method_group, settings_flags
from .terminal import notice, print_progress, print_row
from .track_flags import TRACK, TrackFlags

TEXT = """Erase a concept from a diffusers pipeline folder (Stable Diffusion 1.x, 2.x, XL, DiT), and write a new folder.

An interrupted run resumes when you give the same command again. A run that diverged or changed nothing writes no folder and ends
with exit code 3."""

# the command uses these flags for something else
RENAMED = {"sample_steps": "--method.sample-steps", "guidance": "--method.guidance"}
# set by the command itself: the condition of --anchor
OMITTED = ("anchor",)


def erase_commands() -> MethodCommands:
    """Return `expunge erase` with one sub-command per method that has a form for pipelines."""
    return MethodCommands("erase", TEXT, _methods, _command)


def _methods() -> dict[str, str]:
    return {name: first_line(type(preset(name))) for name in STEPS}


def _command(name: str) -> Callable[..., None]:
    """Return the function of one method's sub-command. Raises `ExpungeError` for a method that has none."""
    defaults = preset(name)
    settings_class: Any = settings_flags(type(defaults), defaults=defaults, omit=OMITTED, renamed=RENAMED)

    def erase(
        pipeline: Path,
        /,
        *,
        concept: Annotated[ConceptFlags, CONCEPT],
        outputs: Annotated[EraseOutputFlags, FLAT],
        training: Annotated[TrainingFlags, TRAINING] = TrainingFlags(),
        settings: Annotated[settings_class, method_group(name)] = settings_class(),
        pictures: Annotated[PictureFlags, PICTURES] = PictureFlags(),
        judge: Annotated[JudgeFlags, JUDGE] = JudgeFlags(),
        compute: Annotated[ComputeFlags, COMPUTE] = ComputeFlags(),
        failure: Annotated[FailureFlags, FAILURE] = FailureFlags(),
        track: Annotated[TrackFlags, TRACK] = TrackFlags(),
    ) -> None:
        call = EraseRun(pipeline, concept, outputs, training, pictures, judge, compute, failure, track)
        call.run(defaults, given(settings))

    erase.__doc__ = (
        f"{first_line(type(defaults))}\n\n{TEXT}\n\nArgs:\n"
        "    pipeline: Folder that `save_pretrained` wrote. It is only read. Nothing is downloaded."
    )
    return erase


class EraseRun:
    """One call of the command: its flags, and what they stand for.

    Args:
        pipeline: The pipeline folder.
        concept: What is erased, and what must stay.
        outputs: Where the run takes place, and what it writes.
        training: What is trained, how long, and on which images.
        pictures: How images are sampled.
        judge: How the images are judged.
        compute: How the arithmetic is done.
        failure: What happens if the run fails.
        track: Trackers of the run.
    """

    def __init__(
        self,
        pipeline: Path,
        concept: ConceptFlags,
        outputs: EraseOutputFlags,
        training: TrainingFlags,
        pictures: PictureFlags,
        judge: JudgeFlags,
        compute: ComputeFlags,
        failure: FailureFlags,
        track: TrackFlags,
    ):
        self.pipeline, self.outputs, self.training, self.pictures = pipeline, outputs, training, pictures
        self.judge_flags, self.failure, self.track = judge, failure, track
        self.erasure = Erasure(
            concept=concept.concept, anchor=concept.anchor, keep=concept.keep, templates=concept.template
        )
        self.compute = compute.start()

    def run(self, defaults: Method, changes: dict[str, Any]) -> None:
        """Check the call, erase the concept, write the folder, judge the images. Raises `ExpungeError`.

        Args:
            defaults: The method with its published settings.
            changes: The settings that were given as flags.
        """
        outputs, training = self.outputs, self.training
        # LoRA starts at zero, where no parameter is salient
        if training.lora and defaults.name() == "salun":
            changes = {"density": 1.0, **changes}
        method = replace(defaults, **changes)
        steps = (
            training.steps
            if training.steps is not None or "epochs" in changes
            else STEPS.get(defaults.name())
        )
        raise_all(self._problems(method, changes))
        # an unsupported pipeline is refused before anything large is loaded
        index = read_index(self.pipeline)
        weights = training.weights or weights_for(defaults.name(), index.kind)
        judge, network = self.judge_flags.load(), feature_network(self.judge_flags.features, outputs.device)
        if judge is not None:
            check_judging(
                self.erasure, *judge, self.judge_flags.judge_count, None if network is None else network[1]
            )
        sampler = self.pictures.sampler(method, self.compute.accumulate)
        with note_if_written(outputs.out), resumable(outputs.out) as state, self._watched(method) as tracking:
            erased = erase_concept(
                self.pipeline,
                self.erasure,
                method,
                EraseOptions(
                    images=training.images,
                    per_prompt=training.per_prompt,
                    weights=weights,
                    lora=training.lora,
                    half=training.half,
                    steps=steps,
                    safe=self.pictures.safe,
                    sampler=sampler,
                    seed=outputs.seed,
                    device=outputs.device,
                    compute=self.compute,
                    gradient_checkpointing=training.gradient_checkpointing,
                    keep_failed=self.failure.keep_failed,
                    spill=self.failure.spill,
                ),
                out=outputs.out,
                on_row=tracking.rows(print_row),
                on_progress=print_progress,
                state_file=state,
                command=command_line(),
            )
            print(f"LoRA weights: {erased.out}" if training.lora else f"pipeline: {erased.out}")
            if left_out := erased.record.details.get("left_out"):
                notice(f"{erased.out} does not have these files of {self.pipeline}: {', '.join(left_out)}.")
            if judge is not None:
                judge_images(erased, judge, self.judge_flags, sampler, outputs.seed, network)
            tracking.take_record(erased.record)
            tracking.wrote(pipeline=erased.out, report=outputs.report)
        self._report(erased)

    def _watched(self, method: Method) -> AbstractContextManager[Tracking]:
        # the concept itself may be a person
        training = {"weights": self.training.weights, "lora": self.training.lora}
        settings = {**run_settings(method, None, self.outputs.seed), **training}
        return self.track.run(f"erase {method.name()}", settings)

    def _report(self, erased: Erased) -> None:
        """Write the report. Raises `WriteError` if the folder is not at its place."""
        outputs = self.outputs
        if outputs.report is not None:
            write_report(outputs.report, [erased.record], title=f"Erased: {self.erasure.title}")
            print(f"report: {outputs.report}")
        if erased.out != outputs.out:
            raise WriteError(f"{outputs.out} could not be written; {erased.out} holds the result instead.")

    def _problems(self, method: Method, changes: dict[str, Any]) -> list[str]:
        """Return the problems that are known before the pipeline is opened."""
        outputs, training = self.outputs, self.training
        reads = [path for path in (self.pipeline, training.images) if path is not None]
        writes = [path for path in (outputs.out, self.failure.spill, outputs.report) if path is not None]
        # the next checks write into the folders of the outputs
        raise_all([problem for path in writes for problem in inside_problems(path, *reads)])
        problems = [
            *place_problems(outputs.out),
            *output_problems({"--report": outputs.report}, self.pipeline, outputs.out),
            *run_output_problems(
                outputs.out,
                0 if training.lora else size_of(self.pipeline),
                self.failure.spill,
                # all files are inside of the folder
                has_files_beside=False,
            ),
            *device_problems(outputs.device),
            *mask_problems(method),
            *self.track.problems(),
        ]
        if self.compute.processes:
            problems.append("expunge erase works in one process; start it without torchrun.")
        if training.steps is not None and "epochs" in changes:
            problems.append("--steps and --epochs both say how long to train; give one of them.")
        if training.images is not None and training.per_prompt is not None:
            problems.append("--images brings the images and --per-prompt samples them; give one of them.")
        return problems
