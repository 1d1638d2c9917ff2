"""The groups of flags of `expunge erase`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..audit.image_judge import Judge
from ..errors import ExpungeError, raise_all
from ..imports import call_object
from ..tasks.sampling import Sampler
from ..training.method import Method
from .settings_flags import flag_group, with_help

CONCEPT = flag_group("Concept", 1)
TRAINING = flag_group("Training", 2)
PICTURES = flag_group("Sampled images", 5)
JUDGE = flag_group("Audit", 7)


@with_help
@dataclass(frozen=True, kw_only=True)
class ConceptFlags:
    """What is erased, and what must stay.

    Args:
        concept: What to erase, as it would stand in a prompt. Give it once for each concept to erase several.
        anchor: What the concept's prompts give afterwards. Empty: what the empty prompt gives. Give one for all concepts, or one
            for each, in the same order.
        keep: Further concepts that must stay.
        template: Prompts, with {} where the concept goes.
    """

    concept: tuple[str, ...]
    anchor: tuple[str, ...] = ("",)
    keep: tuple[str, ...] = ()
    template: tuple[str, ...] = ("a photo of a {}",)


@with_help
@dataclass(frozen=True, kw_only=True)
class EraseOutputFlags:
    """Where the run takes place, and what it writes.

    Args:
        out: Folder to write: an ordinary pipeline folder, or LoRA weights with --lora.
        report: HTML report to write.
        device: Where the pipeline is: cpu, cuda or cuda:N.
        seed: Seed of everything random.
    """

    out: Path
    report: Path | None = None
    device: str = "cpu"
    seed: int = 0


@with_help
@dataclass(frozen=True, kw_only=True)
class TrainingFlags:
    """What is trained, how long, and on which images.

    Args:
        steps: Number of training steps, rounded up to whole passes over the concept's images. By default the published number
            of the method. Give --steps or --epochs.
        weights: Parameters that are trained. By default cross_attention (ESD-x) for esd, full for other methods and for DiT.
        lora: Rank of low-rank additions to the attention, trained instead of the parameters. With --weights
            cross_attention they are added to the cross-attention only.
        half: Keep the frozen parameters in bfloat16. Needs --lora and --amp bf16.
        images: Folder with one sub-folder of images per concept. Without it the pipeline samples the images.
        per_prompt: Number of images to sample per prompt, without --images. By default 64, and none for esd, which needs no
            images.
        gradient_checkpointing: Trade time for memory.
    """

    steps: int | None = None
    weights: Literal["full", "cross_attention", "not_cross_attention"] | None = None
    lora: int | None = None
    half: bool = False
    images: Path | None = None
    per_prompt: int | None = None
    gradient_checkpointing: bool = False


@with_help
@dataclass(frozen=True, kw_only=True)
class PictureFlags:
    """How images are sampled, for training and for the record.

    Args:
        sample_steps: Steps of the sampler.
        guidance: w of (1 + w) eps(prompt) - w eps(empty). Software with a guidance scale means w + 1.
        safe: Also sample the original under safe latent diffusion, a filter that changes no parameter.
    """

    sample_steps: int = 50
    guidance: float = 6.5
    safe: bool = False

    def sampler(self, method: Method, accumulate: int) -> Sampler:
        """Return the sampler of the images, with batches that fit where a training batch fits."""
        batch_size = max(1, min(8, getattr(method, "batch_size", 8) // accumulate))
        return Sampler(steps=self.sample_steps, guidance=self.guidance, batch_size=batch_size)


@with_help
@dataclass(frozen=True, kw_only=True)
class JudgeFlags:
    """How the images are judged; the scores go into the record.

    Args:
        judge: package.module:function that returns an expunge.audit.image_judge.Judge.
        judge_class: The judge's class of the concept, the anchor and everything kept, written WORDS=NUMBER.
        judge_count: Number of images to sample per prompt for the judge.
        attacks: Try to bring the concept back, by a learned prompt and by relearning. Needs --judge. For each concept it takes up to
            800 training steps (200 steps, 2 attacks, original and erased pipeline) and samples --judge-count images every 25 steps.
        features: package.module:function that makes the network of published FIDs, for FID and KID in its features. Needs
            --judge.
    """

    judge: str | None = None
    judge_class: tuple[str, ...] = ()
    judge_count: int = 20
    attacks: bool = False
    features: str | None = None

    def load(self) -> tuple[Judge, dict[str, int]] | None:
        """Return the judge and {words: class}; None without --judge. Raises `ExpungeError` with all problems."""
        if self.judge is None:
            if self.judge_class or self.attacks or self.features is not None:
                raise ExpungeError(
                    "--judge-class, --attacks and --features need a judge; give --judge package.module:function."
                )
            return None
        classes = {words: number for words, _, number in (text.rpartition("=") for text in self.judge_class)}
        problems = [
            f"--judge-class {words}={number}: {number or 'nothing'} is no class number; write --judge-class WORDS=NUMBER."
            for words, number in classes.items()
            if not number.isdecimal()
        ]
        if ":" not in self.judge:
            problems.append(
                f"--judge is '{self.judge}'; write package.module:function, importable from here."
            )
        raise_all(problems)
        judge = call_object(self.judge, {}, ExpungeError)
        if not isinstance(judge, Judge):
            raise ExpungeError(
                f"{self.judge} returned {type(judge).__name__}; it must return an expunge.audit.image_judge.Judge."
            )
        return judge, {words: int(number) for words, number in classes.items()}
