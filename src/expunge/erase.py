"""Concept erasure: from a pipeline folder to a pipeline folder in which the prompt of a concept draws something else."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .audit.generation import png
from .data import Samples, TensorData
from .diffusion import Diffusion
from .errors import ExpungeError, MissingExtra, raise_all
from .experiment import record_of
from .forget_me_not import ForgetMeNot
from .hashing import state_hash
from .method import GradientMethod, Method, execute, find
from .pipelines import Weights, add_lora, choose_weights, load, save
from .record import Record
from .run import Compute, Row, Run
from .sampling import Sampler
from .split import Split
from .text_to_image import Loaded, Prompted

TEMPLATES = ("a photo of a {}",)
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")

# SalUn for Stable Diffusion, released code of arXiv:2310.12508: Adam 1e-5, batch 8, 5 epochs, alpha 0.5 (both terms are means
# there), the whole UNet; ESD: 1000 steps at 1e-5 (arXiv:2303.07345); concept ablation: arXiv:2303.13516.
_ADAM = {"optimizer": "adam", "weight_decay": 0.0, "clip": 1.0, "batch_size": 8}
SETTINGS: dict[str, dict[str, Any]] = {
    "salun": {
        **_ADAM,
        "lr": 1e-5,
        "epochs": 5,
        "order": "paired",
        "relabel": "next",
        "retain_weight": 0.5,
        "density": 0.5,
    },
    "random_label": {
        **_ADAM,
        "lr": 1e-5,
        "epochs": 5,
        "order": "paired",
        "relabel": "next",
        "retain_weight": 0.5,
    },
    "gradient_ascent": {**_ADAM, "lr": 1e-6, "epochs": 2},
    "finetune": {**_ADAM, "lr": 1e-5, "epochs": 1},
    "esd": {**_ADAM, "lr": 1e-5, "epochs": 8},
    "concept_ablation": {**_ADAM, "lr": 2e-6, "epochs": 5, "anchor": 1},
}
OWN: dict[str, type[Method]] = {"forget_me_not": ForgetMeNot}  # methods that serve pipelines only


def settings(name: str, **changes: Any) -> Method:
    """A method with its published settings for Stable Diffusion, and `changes`."""
    if name in OWN:
        return replace(OWN[name](), **changes)
    return replace(find(name)(), **{**SETTINGS.get(name, _ADAM), **changes})


@dataclass(frozen=True, kw_only=True)
class Erasure:
    """What is erased and what is kept, in words. Every concept and anchor goes into every template."""

    concept: str
    anchor: str = ""  # what the concept's prompts draw afterwards; empty: what no prompt draws
    keep: tuple[str, ...] = ()  # concepts that must stay as they are; the anchor is always among them
    templates: tuple[str, ...] = TEMPLATES

    def prompts(self, plain: bool = False) -> list[str]:
        """Conditions in their order: concept and anchor of each template side by side, then what is kept.

        So "the next condition" of every concept prompt is its anchor. `plain` leaves the templates out (classes of a DiT).
        """
        forms = ("{}",) if plain else self.templates
        fill = lambda form, word: form.format(word) if word or plain else word  # noqa: E731
        pairs = [fill(form, word) for form in forms for word in (self.concept, self.anchor)]
        return pairs + [fill(form, word) for word in self.keep for form in forms]

    def concepts(self, plain: bool = False) -> list[int]:
        """Which conditions are erased."""
        return [2 * k for k in range(1 if plain else len(self.templates))]

    def check(self, folder: Path | None = None) -> None:
        """Raise `ExpungeError` with every problem."""
        problems = []
        if not self.concept.strip():
            problems.append("the concept is empty; say in a few words what to erase.")
        if self.concept in (self.anchor, *self.keep):
            problems.append(
                f"'{self.concept}' is both the concept and the anchor or a kept one; it can't be erased and kept."
            )
        if bad := [t for t in self.templates if t.count("{}") != 1]:
            problems.append(
                f"templates {bad} don't have the place of the concept, written {{}}, exactly once."
            )
        if not self.templates:
            problems.append("there is no template; '{}' is the plainest.")
        raise_all(problems)


@dataclass(eq=False)
class Erased:
    """What `erase` did: the run, the record, the folder written, and the pieces an audit needs."""

    run: Run
    record: Record
    out: Path | None
    loaded: Loaded
    original: Prompted
    erasure: Erasure
    prompts: list[str] = field(default_factory=list)

    @property
    def model(self) -> Prompted:
        """The erased model; its conditions are `prompts`."""
        return self.run.model  # type: ignore[return-value]


def erase(
    folder: str | Path,
    erasure: Erasure,
    method: Method,
    *,
    out: str | Path | None = None,
    images: str | Path | None = None,
    per_prompt: int = 64,
    weights: Weights = "full",
    lora: int | None = None,
    sampler: Sampler | None = None,
    seed: int = 0,
    device: str = "cpu",
    compute: Compute | None = None,
    gradient_checkpointing: bool = False,
    on_row: Callable[[Row], None] | None = None,
    command: str = "",
) -> Erased:
    """Erase a concept from the pipeline in `folder` and write the result, an ordinary pipeline folder, to `out`.

    Training images are those of `images`, a folder with one sub-folder a concept (its name is the concept's), or are drawn by
    the pipeline itself, `per_prompt` a prompt. `weights` says which may train, `method.density` below 1 picks the salient
    among them; `lora` is the rank of low-rank additions instead, and then `out` holds only those. Raises `ExpungeError`s.
    """
    erasure.check()
    if out is not None and Path(out).exists():
        raise ExpungeError(f"{out} exists and is not replaced; name another folder.")
    if lora and isinstance(method, GradientMethod) and method.density < 1:
        raise ExpungeError(
            "low-rank additions have no saliency at the original weights (they start at zero); use density=1 with LoRA."
        )
    loaded = load(folder, device=device)
    if lora and loaded.kind == "dit":
        raise ExpungeError(
            "diffusers' DiT pipeline has no place for LoRA weights; leave lora out and train full weights."
        )
    plain, sampler = loaded.kind == "dit", sampler or Sampler(steps=50, guidance=6.5, batch_size=8)
    prompts = erasure.prompts(plain)
    original, task = loaded.prompted(prompts, erasure.concept), loaded.task(len(prompts))
    data = (
        _read(loaded, Path(images), erasure, prompts)
        if images is not None
        else _draw(loaded, original, task, len(prompts), sampler, per_prompt, seed)
    )
    split = split_of(data, erasure.concepts(plain), len(prompts), erasure.concept)
    start = copy.deepcopy(original)
    if gradient_checkpointing:
        start.denoiser.enable_gradient_checkpointing()  # type: ignore[operator]
    trained = add_lora(start.denoiser, lora) if lora else choose_weights(start, weights)
    before = state_hash(original.denoiser.state_dict())
    run = execute(start, split, method, task, seed=seed, compute=compute, on_row=on_row)
    record = record_of(
        "erase",
        run,
        method,
        before=before,
        command=command,
        names={
            "model": type(loaded.pipeline).__name__,
            "data": "images" if images else "drawn by the pipeline",
            "classes": prompts,
        },
    )
    record.details.update(
        erasure={
            "concept": erasure.concept,
            "anchor": erasure.anchor,
            "keep": list(erasure.keep),
            "prompts": prompts,
        },
        trained={"weights": f"LoRA of rank {lora}" if lora else weights, "count": trained},
    )
    done = Erased(run, record, None, loaded, original, erasure, prompts)
    record.details["images"] = grids(done, sampler, seed=seed)
    if out is not None:
        done.out = save(loaded, done.model, out, lora=bool(lora))
        record.save(done.out / "expunge.json")
    return done


def grids(erased: Erased, sampler: Sampler, *, count: int = 6, seed: int = 0) -> list[dict[str, str]]:
    """Before and after: a row a prompt, a column a seed, the same in both pictures."""
    task: Diffusion = erased.run.task  # type: ignore[assignment]
    y = torch.arange(len(erased.prompts)).repeat_interleave(count)
    shape = tuple(task.images(next(erased.run.split.retain.take(torch.arange(1)).batches(1))).shape[1:])
    note = "rows: " + ", ".join(f"“{p}”" for p in erased.prompts)
    return [
        {
            "title": title,
            "png": png(erased.loaded.decode(sampler(model, task, y, shape, seed=seed)), count),
            "note": note,
        }
        for title, model in (("before", erased.original), (f"after {erased.record.method}", erased.model))
    ]


def split_of(data: TensorData, concepts: Sequence[int], count: int, name: str) -> Split:
    """The split whose forget set are the samples of the conditions `concepts`; nothing is held out."""
    gone = torch.isin(data.labels, torch.tensor(concepts))
    at = lambda where: Samples(data, where.nonzero()[:, 0])  # noqa: E731
    problems = [
        f"there are no images of {what}; give some."
        for what, where in (("the concept", gone), ("anything kept", ~gone))
        if not where.any()
    ]
    raise_all(problems)
    none = at(gone & False)
    return Split(
        at(gone),
        at(~gone),
        none,
        none,
        none,
        none,
        count,
        "class",
        "unlearn",
        {"scenario": "class", "forget": list(concepts), "concept": name},
        tuple(concepts),
    )


def _draw(
    loaded: Loaded, model: Prompted, task: Diffusion, count: int, sampler: Sampler, per_prompt: int, seed: int
) -> TensorData:
    """Latents that the pipeline itself draws for each prompt."""
    y = torch.arange(count).repeat_interleave(per_prompt)
    channels = int(loaded.denoiser.config.in_channels)  # type: ignore[union-attr, arg-type]
    latents = sampler(model, task, y, (channels, loaded.size, loaded.size), seed=seed + 1)
    return TensorData(latents, y, name="drawn by the pipeline")


def _read(loaded: Loaded, folder: Path, erasure: Erasure, prompts: list[str]) -> TensorData:
    """Latents of the images in the sub-folders of `folder`, each sub-folder a concept; images take turns at the templates."""
    side = loaded.size * 2 ** (len(loaded.pipeline.vae.config.block_out_channels) - 1)
    words = [w for w in dict.fromkeys((erasure.concept, erasure.anchor, *erasure.keep)) if w]
    found: list[Tensor] = []
    numbers: list[int] = []
    problems = []
    for word in words:
        files = sorted(f for f in (folder / word).glob("*") if f.suffix.lower() in SUFFIXES)
        if not files and word != erasure.anchor:
            problems.append(
                f"{folder / word} has no images ({', '.join(SUFFIXES)}); put those of '{word}' there."
            )
        own = [
            k
            for k, p in enumerate(prompts)
            if p in {form.format(word) for form in (*erasure.templates, "{}")}
        ]
        for k, file in enumerate(files):
            found.append(picture(file, side))
            numbers.append(own[k % len(own)])
    raise_all(problems)
    return loaded.data(torch.stack(found), torch.tensor(numbers), folder.name)


def picture(file: Path, side: int) -> Tensor:
    """An image file as (3, side, side) in [0, 1]: the short side resized to `side` (bicubic), then cut at the centre."""
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingExtra("reading images", "images") from error
    with Image.open(file) as image:
        rgb = image.convert("RGB")
    scale = side / min(rgb.size)
    width, height = (max(side, round(n * scale)) for n in rgb.size)
    left, top = (width - side) // 2, (height - side) // 2
    resized = rgb.resize((width, height), Image.Resampling.BICUBIC).crop((left, top, left + side, top + side))
    return torch.from_numpy(np.asarray(resized).copy()).permute(2, 0, 1).float() / 255
