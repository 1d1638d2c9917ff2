"""The commands of generation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tyro.conf import OmitArgPrefixes as Flat

from ..errors import ExpungeError, raise_all
from ..training.processes import first
from .flags import ComputeFlags, check_device, check_outputs, load_reference, notice
from .settings import changed, check_mask, feature_network, given, print_row
from .terminal import command_line, forget_state, resumable, with_record

if TYPE_CHECKING:
    from ..generation.runs import Generation


def demo_generation(
    *,
    data: str = "digits",
    forget: int = 3,
    out: Path = Path("demo/generation"),
    methods: tuple[str, ...] = (),
    per_class: int = 50,
    attacks: bool = True,
    seed: int = 0,
) -> None:
    """Forget a class from a diffusion model of real images, in minutes: before and after, table and report.

    Args:
        data: digits or fashion-mnist (the latter with :FOLDER, or found in EXPUNGE_DATA).
        forget: The class to forget.
        out: Folder for report.html, checkpoints and records.
        methods: Runs to make; by default salun, its random, inverted and full masks (random_label), esd, concept_ablation, gradient_ascent.
        per_class: Images drawn of each class.
        attacks: Try to bring the class back, by a learned condition and by relearning.
        seed: Seed of everything random.
    """
    from .demo_generation import RUNS, SHOWN
    from .demo_generation import demo_generation as run

    if unknown := [m for m in methods if m not in RUNS]:
        raise ExpungeError(f"there are no runs {unknown}; known: {', '.join(RUNS)}.")
    run(
        data=data,
        forget=forget,
        out=out,
        methods=methods or SHOWN,
        per_class=per_class,
        attacks=attacks,
        seed=seed,
        command=command_line(),
    )


def train_generator(
    *,
    data: str,
    out: Path,
    epochs: int | None = None,
    lr: float | None = None,
    batch_size: int | None = None,
    validation: float = 0.1,
    device: str = "cpu",
    compute: Flat[ComputeFlags] = ComputeFlags(),
    seed: int = 0,
) -> None:
    """Train a class-conditional diffusion model with guidance and averaged weights; an interrupted run resumes.

    Args:
        data: digits, fashion-mnist or cifar10 (the latter two with :FOLDER, or found in EXPUNGE_DATA).
        out: Checkpoint to write (.safetensors or .pt).
        epochs: Passes over the training data; the data set's own recipe if not given.
        lr: Largest learning rate.
        batch_size: Images a step.
        validation: Share of each class that is held out of training.
        device: Where the model is: cpu, cuda, cuda:1, mps.
        compute: How the arithmetic is done.
        seed: Seed of the weights and of everything random.
    """
    from ..generation import presets as diffusion_presets
    from ..pipeline.experiment import train
    from ..records.checkpoint_metadata import head

    how = compute.compute()  # first of all, as it decides which GPU is this process's
    check_outputs(with_record(out))
    setting = _setting(data, (0,), validation, seed, device)
    changes = given(epochs=epochs, lr=lr, batch_size=batch_size)
    recipe = replace(diffusion_presets.recipe(setting.data), **changes)
    with resumable(out) as state:
        watch: dict[str, Any] = {"seed": seed, "compute": how, "state_file": state, "on_row": print_row}
        run = train(setting.factory(), setting.split, recipe, setting.task, **watch)
    if not first():
        return
    record = setting.bare_record("original", run, recipe)
    _write(out, run, record, head("original", setting.split, recipe, seed))
    forget_state(out)


def unlearn_generator(
    *,
    data: str,
    checkpoint: Path,
    forget: tuple[str, ...],
    out: Path,
    method: str = "salun",
    density: float | None = None,
    mask: Literal["saliency", "random", "inverted"] = "saliency",
    epochs: int | None = None,
    lr: float | None = None,
    batch_size: int | None = None,
    retain_weight: float | None = None,
    frozen_target: bool = False,
    retrained: Path | None = None,
    per_class: int = 50,
    attacks: bool = False,
    features: str | None = None,
    report: Path | None = None,
    device: str = "cpu",
    compute: Flat[ComputeFlags] = ComputeFlags(),
    seed: int = 0,
) -> None:
    """Forget a class of a diffusion model that `train-generator` wrote; draw before and after, judge, write a record.

    An interrupted run resumes.

    Args:
        data: The data the model was trained on.
        checkpoint: The model; only read.
        forget: The class to forget, or several, by number or name.
        out: Checkpoint to write.
        method: The method, with its settings for this data.
        density: Share of the weights that may move.
        mask: Which weights: most salient, random or least salient.
        epochs: Passes of the method.
        lr: Learning rate.
        batch_size: Images a step.
        retain_weight: Weight of the loss on retained images, both losses being means over pixels.
        frozen_target: Take the targets of salun, random_label and concept_ablation from the original, not the changing model.
        retrained: A model trained without these classes (`--method retrain_ema` makes one), drawn beside the result.
        per_class: Images drawn of each class for the audit.
        attacks: Try to bring the class back, by a learned condition and by relearning.
        features: package.module:function that makes the network of published FIDs, if you have its weights: FID and KID by it.
        device: Where the models are: cpu, cuda, cuda:1, mps.
        report: HTML report to write.
        compute: How the arithmetic is done.
        seed: Seed of everything random.
    """
    import torch

    from ..audit.image_judge import network_distances
    from ..generation import presets as diffusion_presets
    from ..methods.concept_ablation import ConceptAblation
    from ..methods.random_label import RandomLabel
    from ..records.checkpoint import load_into, read_checkpoint
    from ..records.checkpoint_metadata import check_original, drawing, head
    from ..records.hashing import state_hash
    from ..report import write_report
    from ..training.execute import execute
    from ..training.registry import not_for
    from ..training.settings import faults
    from .demo_generation import come_back

    check_outputs({**with_record(out), "--report": report}, checkpoint, retrained)
    how = compute.compute()  # before the model is made, as it decides which GPU is this process's
    read = read_checkpoint(checkpoint)
    setting = _setting(data, forget, float(drawing(read).get("validation", 0.1)), seed, device, per_class)
    network = feature_network(features, device)
    if said := check_original(read, setting.split):
        notice(said)
    load_into(model := setting.factory(), read)
    gold = load_reference(setting.factory, retrained, setting.split)[0] if retrained is not None else None
    flags = given(density=density, epochs=epochs, lr=lr, batch_size=batch_size, retain_weight=retain_weight)
    chosen = changed(
        diffusion_presets.method(method, setting.data),
        {**flags, **({} if mask == "saliency" else {"mask": mask})},
    )
    check_mask(chosen)
    if "diffusion" not in chosen.tasks:
        raise ExpungeError(not_for(type(chosen), "diffusion"))
    raise_all(faults(chosen))  # before the judge, which takes a while
    if frozen_target and not isinstance(chosen, RandomLabel | ConceptAblation):
        raise ExpungeError(f"{method} has no targets of relabelled images; leave --frozen-target out.")
    task = replace(setting.task, teacher=model if frozen_target else None)
    judge = (
        setting.judge()
    )  # first, and by every process: one too weak to be believed ends all of them at once
    with resumable(out) as state:
        watch: dict[str, Any] = {"seed": seed, "compute": how, "state_file": state, "on_row": print_row}
        run = execute(model, setting.split, chosen, task, **watch)
    if not first():
        return
    start, end = setting.sample(model, judge), setting.sample(run.model, judge)
    before = state_hash(model.state_dict())
    beside = {"original": start, **({"retrained": setting.sample(gold, judge)} if gold is not None else {})}
    record = setting.record("unlearn", run, chosen, end, judge, before=before, label="after", **beside)
    if network is not None:
        real = torch.cat([task.images(b) for b in setting.split.retain.batches(512)])
        record.scores |= network_distances(real, end.images[~end.forgotten], *network)
    if attacks:
        models = {
            "original": model,
            "unlearned": run.model,
            **({"retrained": gold} if gold is not None else {}),
        }
        record.details["attacks"] = come_back(setting, judge, models)
    _write(out, run, record, head("unlearn", setting.split, chosen, seed))
    forget_state(out)
    for name in ("UA", "RA"):
        print(f"{name}: {start.scores[name]:.1f} % before, {end.scores[name]:.1f} % after")
    print(f"judge: {judge.accuracy:.1f} % of real test images")
    if report is not None:
        write_report(report, [record])
        print(f"report: {report}")


# ---- pieces of the commands


def _setting(
    data: str, forget: tuple[int | str, ...], validation: float, seed: int, device: str, per_class: int = 50
) -> Generation:
    from ..generation.runs import Generation
    from ..sources import load, place_of

    check_device(device)
    more: dict[str, Any] = {"seed": seed, "per_class": per_class, "command": command_line(), "device": device}
    return Generation.of(load(place_of(data)), data, forget, validation=validation, **more)


def _write(out: Path, run: Any, record: Any, metadata: dict[str, str]) -> None:
    from ..records.checkpoint import write_checkpoint

    write_checkpoint(out, run.model.state_dict(), metadata=metadata)
    record.save(out.with_suffix(".json"))
    print(f"checkpoint: {out}\nrecord: {out.with_suffix('.json')}")


COMMANDS: dict[str, Callable[..., Any]] = {
    "demo-generation": demo_generation,
    "train-generator": train_generator,
    "unlearn-generator": unlearn_generator,
}
