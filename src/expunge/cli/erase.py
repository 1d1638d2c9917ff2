"""The command that erases a concept from a pipeline folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tyro.conf import OmitArgPrefixes as Flat
from tyro.conf import Positional

from ..errors import ExpungeError, raise_all
from .flags import ComputeFlags, check_device, check_outputs, notice
from .settings import changed, check_mask, feature_network, given, print_row
from .terminal import command_line, resumable

if TYPE_CHECKING:
    from torch import nn

    from ..audit.image_judge import Judge
    from ..generation.erased import Erased
    from ..generation.sampling import Sampler


def erase(
    pipeline: Positional[Path],
    /,
    *,
    concept: str,
    out: Path,
    anchor: str = "",
    keep: tuple[str, ...] = (),
    template: tuple[str, ...] = ("a photo of a {}",),
    method: str = "salun",
    images: Path | None = None,
    per_prompt: int | None = None,
    weights: Literal["full", "cross_attention", "not_cross_attention"] = "full",
    density: float | None = None,
    mask: Literal["saliency", "random", "inverted"] = "saliency",
    lora: int | None = None,
    half: bool = False,
    lr: float | None = None,
    steps: int | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    retain_weight: float | None = None,
    sample_steps: int = 50,
    guidance: float = 6.5,
    safe: bool = False,
    judge: str | None = None,
    judge_class: tuple[str, ...] = (),
    judge_count: int = 20,
    attacks: bool = False,
    features: str | None = None,
    gradient_checkpointing: bool = False,
    device: str = "cpu",
    report: Path | None = None,
    compute: Flat[ComputeFlags] = ComputeFlags(),
    seed: int = 0,
) -> None:
    """Erase a concept from a diffusers pipeline folder (Stable Diffusion 1.x, 2.x, XL, DiT) and write a new folder.

    An interrupted run resumes.

    Args:
        pipeline: Folder that `save_pretrained` wrote; only read. Nothing is fetched from a hub.
        concept: What to erase, as it would stand in a prompt.
        out: Folder to write: an ordinary pipeline folder, or LoRA weights with --lora.
        anchor: What the concept's prompts draw afterwards; empty: what no prompt draws.
        keep: Further concepts that must stay.
        template: Prompts, with {} where the concept goes.
        method: salun, random_label, esd, concept_ablation, forget_me_not, selective_amnesia, finetune or gradient_ascent.
        images: Folder with one sub-folder of images a concept; without it the pipeline draws them.
        per_prompt: Images to draw a prompt, 64 if not given; without --images.
        weights: Which weights may train.
        density: Share of those that may move.
        mask: Which share: most salient, random or least salient, the controls of SalUn.
        lora: Rank of low-rank additions to the attention to train instead; with --weights cross_attention to that alone.
        half: Hold the frozen weights in bfloat16; with --lora and --amp bf16.
        lr: Learning rate.
        steps: Steps to train, in whole passes over the concept's images; the published number of the method if not given.
        epochs: Passes over the concept's images, in place of --steps.
        batch_size: Images a step, of each set.
        retain_weight: Weight of the loss on kept images.
        sample_steps: Steps of the sampler that draws.
        guidance: w of (1 + w) eps(prompt) - w eps(empty); software that speaks of a guidance scale means w + 1.
        safe: Also draw what safe latent diffusion, a filter that changes no weight, makes of the original.
        judge: package.module:function that returns an expunge.audit.image_judge.Judge; scores are then in the record.
        judge_class: The judge's class of the concept, the anchor and everything kept, written WORDS=NUMBER.
        judge_count: Images a prompt for the judge.
        attacks: With --judge: try to bring the concept back, by a learned prompt and by relearning.
        features: package.module:function that makes the network of published FIDs, for FID and KID by it beside --judge.
        gradient_checkpointing: Trade time for memory.
        device: cpu, cuda or cuda:N.
        report: HTML report to write.
        compute: How the arithmetic is done.
        seed: Seed of everything random.
    """
    from ..audit.erasure import check_judging
    from ..generation.concepts import Erasure
    from ..generation.erase import erase as run
    from ..generation.erase_checks import place_problems
    from ..generation.erase_presets import STEPS, settings
    from ..generation.options import EraseOptions
    from ..generation.sampling import Sampler
    from ..report import write_report

    raise_all(place_problems(out))
    check_outputs({"--out": out, "--report": report}, pipeline)
    check_device(device)
    what = Erasure(concept=concept, anchor=anchor, keep=keep, templates=template)
    judged = _judge(judge, judge_class, attacks or features is not None)
    network = feature_network(features, device)
    if judged is not None:
        check_judging(what, *judged, judge_count, None if network is None else network[1])
    how = compute.compute()
    if how.processes:
        raise ExpungeError("expunge erase works in one process; start it without torchrun.")
    changes = given(density=density, lr=lr, epochs=epochs, batch_size=batch_size, retain_weight=retain_weight)
    if mask != "saliency":
        changes["mask"] = mask
    if lora and density is None and method == "salun":
        changes["density"] = 1.0
    chosen = changed(settings(method), changes)
    check_mask(chosen)
    if steps is not None and epochs is not None:
        raise ExpungeError("--steps and --epochs both say how long to train; give one of them.")
    if images is not None and per_prompt is not None:
        raise ExpungeError("--images brings the images and --per-prompt draws them; give one of them.")
    at_once = max(1, min(8, getattr(chosen, "batch_size", 8) // how.accumulate))
    sampler = Sampler(steps=sample_steps, guidance=guidance, batch_size=at_once)
    with _written(out), resumable(out) as state:
        done = run(
            pipeline,
            what,
            chosen,
            EraseOptions(
                images=images,
                per_prompt=64 if per_prompt is None else per_prompt,
                weights=weights,
                lora=lora,
                half=half,
                steps=steps if steps is not None or epochs is not None else STEPS.get(method),
                safe=safe,
                sampler=sampler,
                seed=seed,
                device=device,
                compute=how,
                gradient_checkpointing=gradient_checkpointing,
            ),
            out=out,
            on_row=print_row,
            state_file=state,
            command=command_line(),
        )
        print(f"pipeline: {done.out}" if not lora else f"LoRA weights: {done.out}")
        if judged is not None:
            _audited(done, *judged, sampler, judge_count, attacks, network, seed)
    if report is not None:
        write_report(report, [done.record], title=f"Erased: {concept}")
        print(f"report: {report}")


@contextmanager
def _written(out: Path) -> Iterator[None]:
    """Around a run that writes the new folder `out`: interrupted when that is there, it says what there is and what is not."""
    try:
        yield
    except KeyboardInterrupt:
        if out.exists():
            notice(f"{out} and its record are written; what is missing in it is only pictures and scores.")
        raise


def _judge(spec: str | None, given: tuple[str, ...], needed: bool) -> tuple[Judge, dict[str, int]] | None:
    """The judge that the user's function makes, and its classes by words. Raises `ExpungeError` with every problem."""
    from ..audit.image_judge import Judge
    from ..models import called

    if spec is None:
        if given or needed:
            raise ExpungeError(
                "--judge-class, --attacks and --features need a judge; give --judge package.module:function."
            )
        return None
    found = {w: n for w, _, n in (g.rpartition("=") for g in given)}
    problems = [
        f"--judge-class {w}={n}: {n or 'nothing'} is no class number; write --judge-class WORDS=NUMBER."
        for w, n in found.items()
        if not n.isdecimal()
    ]
    if ":" not in spec:
        problems.append(f"--judge is '{spec}'; write package.module:function, importable from here.")
    raise_all(problems)
    judge = called(spec, {}, ExpungeError)
    if not isinstance(judge, Judge):
        raise ExpungeError(
            f"{spec} returned {type(judge).__name__}; it must return an expunge.audit.image_judge.Judge."
        )
    return judge, {w: int(n) for w, n in found.items()}


def _audited(
    done: Erased,
    judge: Judge,
    classes: dict[str, int],
    sampler: Sampler,
    count: int,
    attacks: bool,
    network: tuple[nn.Module, str] | None,
    seed: int,
) -> None:
    """Scores into the record, beside the weights and on the terminal."""
    from ..audit.erasure import audit_erasure
    from ..audit.generation_attacks import Attack
    from ..records.record import plain

    size: dict[str, Any] = {"batch_size": sampler.batch_size, "count": count, "sampler": sampler}
    attack = Attack(**size) if attacks else None
    more: dict[str, Any] = {} if network is None else dict(zip(("network", "name"), network, strict=True))
    found = audit_erasure(
        done, judge, classes, sampler=sampler, count=count, attack=attack, seed=seed, **more
    )
    done.record.scores = plain(found.scores)
    done.record.details.update(plain(found.details))
    done.save_record()
    for name, value in found.scores.items():
        if value is not None:
            print(f"{name}: {found.details['before'][name]:.3g} before, {value:.3g} after")


COMMANDS: dict[str, Callable[..., Any]] = {"erase": erase}
