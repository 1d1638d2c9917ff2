"""The command that erases a concept from a pipeline folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from tyro.conf import OmitArgPrefixes as Flat
from tyro.conf import Positional

from .cli_generation import changed, given, print_row, typed
from .errors import ExpungeError
from .flags import ComputeFlags


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
    per_prompt: int = 64,
    weights: Literal["full", "cross_attention", "not_cross_attention"] = "full",
    density: float | None = None,
    lora: int | None = None,
    half: bool = False,
    lr: float | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    retain_weight: float | None = None,
    sample_steps: int = 50,
    guidance: float = 6.5,
    gradient_checkpointing: bool = False,
    device: str = "cpu",
    report: Path | None = None,
    compute: Flat[ComputeFlags] = ComputeFlags(),
    seed: int = 0,
) -> None:
    """Erase a concept from a diffusers pipeline folder (Stable Diffusion 1.x, 2.x, XL, DiT) and write a new folder.

    Args:
        pipeline: Folder that `save_pretrained` wrote; only read. Nothing is fetched from a hub.
        concept: What to erase, as it would stand in a prompt.
        out: Folder to write: an ordinary pipeline folder, or LoRA weights with --lora.
        anchor: What the concept's prompts draw afterwards; empty: what no prompt draws.
        keep: Further concepts that must stay.
        template: Prompts, with {} where the concept goes.
        method: salun, random_label, esd, concept_ablation, forget_me_not, selective_amnesia, finetune or gradient_ascent.
        images: Folder with one sub-folder of images a concept; without it the pipeline draws them.
        per_prompt: Images to draw a prompt, without --images.
        weights: Which weights may train.
        density: Share of those that may move, the most salient ones.
        lora: Rank of low-rank additions to train instead.
        half: Hold the frozen weights in bfloat16; with --lora and --amp bf16.
        lr: Learning rate.
        epochs: Passes over the concept's images.
        batch_size: Images a step, of each set.
        retain_weight: Weight of the loss on kept images.
        sample_steps: Steps of the sampler that draws.
        guidance: w of (1 + w) eps(prompt) - w eps(empty); software that speaks of a guidance scale means w + 1.
        gradient_checkpointing: Trade time for memory.
        device: cpu, cuda or cuda:N.
        report: HTML report to write.
        compute: How the arithmetic is done.
        seed: Seed of everything random.
    """
    from .concepts import Erasure
    from .erase import erase as run
    from .erase import settings
    from .report import write_report
    from .sampling import Sampler

    how = compute.compute()
    if how.processes:
        raise ExpungeError("expunge erase works in one process; start it without torchrun.")
    changes = given(density=density, lr=lr, epochs=epochs, batch_size=batch_size, retain_weight=retain_weight)
    if lora and density is None and method == "salun":
        changes["density"] = 1.0
    chosen = changed(settings(method), changes)
    done = run(
        pipeline,
        Erasure(concept=concept, anchor=anchor, keep=keep, templates=template),
        chosen,
        out=out,
        images=images,
        per_prompt=per_prompt,
        weights=weights,
        lora=lora,
        half=half,
        seed=seed,
        device=device,
        compute=how,
        on_row=print_row,
        sampler=Sampler(steps=sample_steps, guidance=guidance, batch_size=8),
        gradient_checkpointing=gradient_checkpointing,
        command=typed(),
    )
    print(f"pipeline: {done.out}" if not lora else f"LoRA weights: {done.out}")
    if report is not None:
        write_report(report, [done.record], title=f"Erased: {concept}")
        print(f"report: {report}")


COMMANDS: dict[str, Callable[..., Any]] = {"erase": erase}
