"""What an erasure is, in words, and the latents it is trained on: read from folders or drawn by the pipeline itself."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..data.resize import Resize
from ..data.samples import Samples
from ..data.split import Split
from ..data.tensors import TensorData
from ..errors import ExpungeError, MissingExtra, raise_all
from ..records.torch_files import load_state, save_state
from ..tasks.diffusion import Diffusion
from ..tasks.sampling import Sampler
from .text_to_image import Loaded, Prompted

TEMPLATES = ("a photo of a {}",)
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


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


def kept_latents(file: Path, made_of: tuple[object, ...], make: Callable[[], TensorData]) -> TensorData:
    """What `make` returns, from `file` if it was kept there by an interrupted call; kept there otherwise. Latents may differ
    from call to call in their last bits on a GPU, and a run goes on only from a state of the same data.

    `made_of` says what they depend on. Raises `ExpungeError` for a file that was made of something else.
    """
    identity = repr(made_of)
    if file.exists():
        found = load_state(file)
        if found.get("identity") != identity:
            raise ExpungeError(
                f"{file} holds the latents of another call (pipeline, prompts, images, their number, sampler or seed differ); "
                "remove it to start anew, or repeat the settings it was made with."
            )
        return TensorData(found["latents"], found["conditions"], name=found["name"])
    data = make()
    save_state(file, {"identity": identity, "latents": data.x, "conditions": data.labels, "name": data.name})
    return data


def image_files(folder: Path, erasure: Erasure) -> dict[str, list[Path]]:
    """The image files of each concept's sub-folder, sorted. Raises `ExpungeError` with every folder that has none."""
    words = [w for w in dict.fromkeys((erasure.concept, erasure.anchor, *erasure.keep)) if w]
    found = {w: sorted(f for f in (folder / w).glob("*") if f.suffix.lower() in SUFFIXES) for w in words}
    raise_all(
        [
            f"{folder / word} has no images ({', '.join(SUFFIXES)}); put those of '{word}' there."
            for word, files in found.items()
            if not files and word != erasure.anchor
        ]
    )
    return found


def contents(files: Mapping[str, Sequence[Path]]) -> list[tuple[str, str, str]]:
    """Each concept's image files by name, and by a hash of what is in them."""
    return [
        (word, f.name, hashlib.sha256(f.read_bytes()).hexdigest())
        for word, some in files.items()
        for f in some
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


def drawn_latents(
    loaded: Loaded, model: Prompted, task: Diffusion, count: int, sampler: Sampler, per_prompt: int, seed: int
) -> TensorData:
    """Latents that the pipeline itself draws for each prompt."""
    y = torch.arange(count).repeat_interleave(per_prompt)
    channels = int(loaded.denoiser.config.in_channels)  # type: ignore[union-attr, arg-type]
    latents = sampler(model, task, y, (channels, loaded.size, loaded.size), seed=seed + 1)
    return TensorData(latents, y, name="drawn by the pipeline")


def read_latents(
    loaded: Loaded, folder: Path, erasure: Erasure, prompts: list[str], batch_size: int = 8
) -> TensorData:
    """Latents of the images in the sub-folders of `folder`, each sub-folder a concept; images take turns at the templates."""
    side = loaded.size * 2 ** (len(loaded.pipeline.vae.config.block_out_channels) - 1)
    found: list[Path] = []
    numbers: list[int] = []
    for word, files in image_files(folder, erasure).items():
        own = [
            k
            for k, p in enumerate(prompts)
            if p in {form.format(word) for form in (*erasure.templates, "{}")}
        ]
        for k, file in enumerate(files):
            found.append(file)
            numbers.append(own[k % len(own)])
    latents = [
        loaded.encode(torch.stack([picture(f, side) for f in found[at : at + batch_size]]))
        for at in range(0, len(found), batch_size)
    ]
    return TensorData(torch.cat(latents), torch.tensor(numbers), name=folder.name)


def picture(file: Path, side: int) -> Tensor:
    """An image file as (3, side, side) in [0, 1]: the short side resized to `side`, then cut at the centre."""
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingExtra("reading images", "images") from error
    with Image.open(file) as image:
        return Resize(side, crop=side)(image).float() / 255
