"""`expunge train-generator`: train a class-conditional diffusion model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from torch import nn

from ..errors import raise_all
from ..generation import presets
from ..generation.runs import Generation, names_for
from ..methods.retrain_ema import RetrainEMA
from ..models.unet import for_data, unserved
from ..pipeline.experiment import train as train_original
from ..records.checkpoint import write_checkpoint
from ..records.checkpoint_metadata import metadata_for
from ..records.file_names import beside
from ..records.record import Record
from ..sources.loading import load
from ..sources.preview import Preview, preview
from ..sources.spec import check_spec, locate
from ..torch_utils.module_state import check_seed
from ..training.processes import is_first_process
from ..training.run import Run
from ..training.settings import settings_problems
from ..training.tracked import run_settings
from ..tuning.presets import data_name
from .checks import device_problems, problems_of
from .compute_flags import ComputeFlags
from .flags import COMPUTE
from .invocation import command_line
from .output_checks import output_problems, run_output_problems, size_of_model
from .outputs import FAILURE, FailureFlags, deliver, refuse_failed, resumable
from .run_files import with_record, written
from .settings_flags import FLAT, REQUIRED, flag_group, given, settings_flags, with_help
from .terminal import print_row
from .track_flags import TRACK, TrackFlags

RecipeFlags: Any = settings_flags(
    RetrainEMA, default_text="from the preset of the data", omit=("density", "mask")
)


@with_help
@dataclass(frozen=True, kw_only=True)
class GeneratorFlags:
    """The data and the place of a generator.

    Args:
        data: digits, fashion-mnist or cifar10. The last two need a folder: write fashion-mnist:FOLDER, or set EXPUNGE_DATA.
        device: Where the models are: cpu, cuda, cuda:1 or mps.
        seed: Seed of the initial parameters and of everything random.
    """

    data: str
    device: str = "cpu"
    seed: int = 0

    def problems(self) -> list[str]:
        """Return what is wrong with the flags, one sentence each."""
        return [
            *device_problems(self.device),
            *problems_of(lambda: check_spec(locate(self.data)), lambda: check_seed(self.seed)),
            *unserved(data_name(self.data)),
        ]

    def preview(self) -> Preview | None:
        """Return classes and shape of the data; None where the flags have problems."""
        return None if self.problems() else preview(locate(self.data))

    def build(self, data: Preview) -> nn.Module:
        """Return the network for the data with fresh parameters, on the CPU."""
        return for_data(data_name(self.data), data.classes, data.shape)  # type: ignore[arg-type]

    def setting(self, forget: tuple[int | str, ...], validation: float, per_class: int = 50) -> Generation:
        """Return the data with the classes to forget, the network that suits it, and how images are sampled."""
        return Generation.of(
            load(locate(self.data)),
            self.data,
            forget,
            validation=validation,
            seed=self.seed,
            per_class=per_class,
            command=command_line(),
            device=self.device,
        )


def train_generator(
    *,
    generator: Annotated[GeneratorFlags, FLAT],
    out: Annotated[Path, REQUIRED],
    validation: float = 0.1,
    recipe: Annotated[RecipeFlags, flag_group("Training recipe", 4)] = RecipeFlags(),
    compute: Annotated[ComputeFlags, COMPUTE] = ComputeFlags(),
    failure: Annotated[FailureFlags, FAILURE] = FailureFlags(),
    track: Annotated[TrackFlags, TRACK] = TrackFlags(),
) -> None:
    """Train a class-conditional diffusion model.

    It is trained with classifier-free guidance, and the parameters are averaged over steps. An interrupted run resumes when you
    give the same command again.

    Args:
        generator: The data and the place.
        out: Checkpoint to write (.safetensors or .pt). The record is written beside it.
        validation: Share of each class that is held out of training.
        recipe: The training recipe. Fields without a flag come from the preset of the data.
        compute: How the arithmetic is done.
        failure: What happens if the training fails.
        track: Trackers of the training.
    """
    how = compute.start()
    settings = replace(presets.recipe(data_name(generator.data)), **given(recipe))
    raise_all(
        output_problems(with_record(out))
        + run_output_problems(out, size_of_model(generator), failure.spill)
        + generator.problems()
        + settings_problems(settings)
        + how.problems()
        + track.problems()
    )
    setting = generator.setting((0,), validation)
    tracked = track.run(
        "train generator", run_settings(settings, setting.split, generator.seed, names_for(setting))
    )
    with resumable(out) as state, tracked as tracking:
        run = train_original(
            setting.factory(),
            setting.split,
            settings,  # type: ignore[arg-type]
            setting.task,
            seed=generator.seed,
            compute=how,
            state_file=state,
            on_row=tracking.rows(print_row),
        )
        record = setting.bare_record("original", run, settings)
        tracking.take_record(record)
        refuse_failed(out, run, record, failure)
        if is_first_process():
            metadata = metadata_for("original", setting.split, settings, generator.seed, key=None)
            deliver(out, lambda place: write_generator(place, run, record, metadata), failure)
            tracking.wrote(**written(out))


def write_generator(out: Path, run: Run, record: Record, metadata: dict[str, str]) -> list[str]:
    """Write the checkpoint and the record beside it. Returns the lines to print."""
    write_checkpoint(out, run.model.state_dict(), metadata=metadata)
    saved = record.save(beside(out, ".json"))
    return [f"checkpoint: {out}", f"record: {saved}"]
