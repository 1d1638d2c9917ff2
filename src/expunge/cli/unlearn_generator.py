"""`expunge unlearn-generator METHOD`: unlearn classes from a diffusion model."""

# annotations are evaluated here, because the class of the settings' flags is made for the method

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Annotated, Any

import torch
from torch import nn

from ..audit.image_distances import network_distances
from ..audit.image_judge import Judge
from ..errors import ExpungeError, raise_all
from ..generation import presets
from ..generation.runs import Generation, GeneratorScoring, names_for
from ..methods.concept_ablation import ConceptAblation
from ..methods.random_label import RandomLabel
from ..pipeline.outcome import Outcome, Reference
from ..pipeline.pipeline import Pipeline
from ..pipeline.watch import Watch
from ..records.checkpoint import dropped_metadata
from ..records.checkpoint_metadata import metadata_for, split_description
from ..report import write_report
from ..tasks.diffusion import Diffusion
from ..tracking.tracking import Tracking
from ..training.method import Method
from ..training.processes import is_first_process
from ..training.registry import METHODS, find, serves, unsuited_text
from ..training.run import Run
from ..training.settings import settings_problems
from ..training.tracked import run_settings
from ..tuning.presets import data_name
from .checks import mask_problems, scenario_problems
from .compute_flags import ComputeFlags
from .demo_generation import come_back
from .feature_network import feature_network
from .flags import COMPUTE
from .inputs import ModelFiles
from .method_commands import MethodCommands, first_line
from .output_checks import output_problems, run_output_problems, size_of
from .outputs import FAILURE, FailureFlags, deliver, record_dropped, refuse_failed, resumable
from .run_files import with_record, written
from .settings_flags import FLAT, flag_group, given, method_group, settings_flags
from .terminal import print_row
from .track_flags import TRACK, TrackFlags
from .train_generator import GeneratorFlags, write_generator
from .unlearn_generator_flags import UnlearnGeneratorFlags

TEXT = """Unlearn classes from a diffusion model that `train-generator` wrote, and audit the images.

The command samples images before and after, and writes the new checkpoint and its record. An interrupted run resumes when you
give the same command again."""


def unlearn_generator_commands() -> MethodCommands:
    """Return `expunge unlearn-generator` with one sub-command per method that serves diffusion models."""
    return MethodCommands("unlearn-generator", TEXT, _methods, _command)


def _methods() -> dict[str, str]:
    methods = METHODS.classes()
    return {name: first_line(method) for name, method in methods.items() if serves(method, Diffusion)}


def _command(name: str) -> Callable[..., None]:
    """Return the function of one method's sub-command. Raises `ExpungeError` for a method that has none."""
    method_class = find(name)
    if not serves(method_class, Diffusion):
        raise ExpungeError(unsuited_text(method_class, Diffusion))
    settings_class: Any = settings_flags(method_class, default_text="from the preset of the data")

    def unlearn_generator(
        *,
        flags: Annotated[UnlearnGeneratorFlags, FLAT],
        generator: Annotated[GeneratorFlags, flag_group("Data", 1)],
        settings: Annotated[settings_class, method_group(name)] = settings_class(),
        compute: Annotated[ComputeFlags, COMPUTE] = ComputeFlags(),
        failure: Annotated[FailureFlags, FAILURE] = FailureFlags(),
        track: Annotated[TrackFlags, TRACK] = TrackFlags(),
    ) -> None:
        method = replace(presets.method(name, data_name(generator.data)), **given(settings))
        GeneratorRun(method, flags, generator, compute, failure, track).run()

    unlearn_generator.__doc__ = f"{first_line(method_class)}\n\n{TEXT}"
    return unlearn_generator


class GeneratorRun:
    """One call of the command.

    Args:
        method: The method with its settings.
        flags: The files, and how the images are audited.
        generator: The data and the place.
        compute: How the arithmetic is done.
        failure: What happens if the run fails.
        track: Trackers of the run.
    """

    def __init__(
        self,
        method: Method,
        flags: UnlearnGeneratorFlags,
        generator: GeneratorFlags,
        compute: ComputeFlags,
        failure: FailureFlags,
        track: TrackFlags,
    ):
        self.method, self.flags, self.generator = method, flags, generator
        self.failure, self.track = failure, track
        # before any model is made: it decides which GPU belongs to this process
        self.compute = compute.start()
        self.files = ModelFiles(
            {"original": flags.checkpoint, "retrained": flags.retrained},
            generator.build,
            generator.device,
            ema=flags.ema,
        )

    def run(self) -> None:
        """Check the call, unlearn, sample and judge the images, write and print the results. Raises `ExpungeError`."""
        flags = self.flags
        raise_all(self._problems())
        setting, models, network = self._load()
        # before the run, and in every process: a judge that is too weak ends all of them at once
        judge = setting.judge()
        settings = run_settings(self.method, setting.split, setting.seed, names_for(setting))
        with self.track.run(f"unlearn-generator {self.method.name()}", settings) as tracking:
            outcomes = self._pipeline(setting, judge, models["original"], tracking).run(
                {self.method.name(): self.method},
                original=lambda: self._reference(setting, models["original"]),
                retrained=lambda _: (
                    self._reference(setting, models["retrained"]) if "retrained" in models else None
                ),
            )
            tracking.take_record(outcomes[-1].record)
            self._finish(setting, judge, models, outcomes, network)
            # with the scores of further networks
            tracking.take_record(outcomes[-1].record)
            tracking.wrote(**written(flags.out), report=flags.report)

    def _finish(
        self,
        setting: Generation,
        judge: Judge,
        models: dict[str, nn.Module],
        outcomes: list[Outcome],
        network: tuple[nn.Module, str] | None,
    ) -> None:
        """Measure further, write and print the results."""
        flags = self.flags
        start, outcome = outcomes[0], outcomes[-1]
        record, like = outcome.record, self.files.metadata("original")
        refuse_failed(flags.out, outcome.run, record, self.failure, like)
        if not is_first_process():
            return
        if network is not None:
            record.scores |= _network_scores(setting, outcome, network)
        if flags.attacks:
            order = {"original": models["original"], "unlearned": outcome.model, **models}
            record.details["attacks"] = come_back(setting, judge, order)
        record_dropped(record, like)
        # the class is named in the metadata, so no hash needs a key
        metadata = metadata_for("unlearn", setting.split, self.method, setting.seed, key=None)
        metadata |= dropped_metadata(like)
        deliver(flags.out, lambda place: write_generator(place, outcome.run, record, metadata), self.failure)
        for name in ("UA", "RA"):
            print(f"{name}: {start.evaluation.scores[name]:.1f} % before, {record.scores[name]:.1f} % after")
        print(f"judge: {judge.accuracy:.1f} % of real test images")
        if flags.report is not None:
            write_report(flags.report, [record])
            print(f"report: {flags.report}")

    def _pipeline(
        self, setting: Generation, judge: Judge, original: nn.Module, tracking: Tracking
    ) -> Pipeline:
        @contextmanager
        def watch(label: str, method: Method) -> Iterator[Watch]:
            with resumable(self.flags.out) as state:
                yield Watch(on_row=tracking.rows(print_row), state_file=state)

        return Pipeline(
            split=setting.split,
            task=replace(setting.task, teacher=original if self.flags.frozen_target else None),
            factory=setting.factory,
            seed=setting.seed,
            compute=self.compute,
            names=names_for(setting),
            command=setting.command,
            scoring=GeneratorScoring(setting, judge, {self.method.name(): "after"}),
            watch=watch,
        )

    @staticmethod
    def _reference(setting: Generation, model: nn.Module) -> Reference:
        return Reference(Run(model, setting.split, setting.task, setting.seed))

    def _problems(self) -> list[str]:
        """Return the problems that are known before data and models are read."""
        flags, method = self.flags, self.method
        outputs = {**with_record(flags.out), "--report": flags.report}
        problems = [
            *output_problems(outputs, flags.checkpoint, flags.retrained),
            *run_output_problems(flags.out, size_of(flags.checkpoint), self.failure.spill),
            *self.generator.problems(),
            *settings_problems(method),
            *mask_problems(method),
            *scenario_problems(method, "class"),
            *self.compute.problems(),
            *self.track.problems(),
            *self.files.problems(self.generator.preview()),
        ]
        if flags.per_class < 2:
            problems.append(
                f"--per-class is {flags.per_class}; distances of sampled images need at least 2 of each class."
            )
        if flags.frozen_target and not isinstance(method, RandomLabel | ConceptAblation):
            problems.append(
                f"{method.name()} has no targets of relabelled images; leave --frozen-target out."
            )
        return problems

    def _load(self) -> tuple[Generation, dict[str, nn.Module], tuple[nn.Module, str] | None]:
        """Return the setting, the models by role, and the network of `--features` if given."""
        flags = self.flags
        network = feature_network(flags.features, self.generator.device)
        validation = float(split_description(self.files.metadata("original")).get("validation", 0.1))
        setting = self.generator.setting(flags.forget, validation, flags.per_class)
        models = {role: self.files.load(role, setting.source, setting.split)[0] for role in self.files.files}
        return setting, models, network


def _network_scores(
    setting: Generation, outcome: Outcome, network: tuple[nn.Module, str]
) -> dict[str, float]:
    """Return FID and KID of the kept classes in the features of the user's network."""
    unlearned = outcome.evaluation
    real = torch.cat([setting.task.images(batch) for batch in setting.split.retain.batches(512)])
    return network_distances(real, unlearned.images[~unlearned.forgotten], *network)
