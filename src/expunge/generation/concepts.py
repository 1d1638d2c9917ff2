"""What an erasure erases and keeps, and the latents it trains on.

The latents come from folders of images, or the pipeline samples them.
"""

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
from ..errors import ExpungeError, raise_all
from ..records.torch_files import load_state, save_state
from ..tasks.diffusion import Diffusion
from ..tasks.sampling import Sampler
from .text_to_image import Loaded, Prompted

TEMPLATES = ("a photo of a {}",)
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


@dataclass(frozen=True, kw_only=True)
class Erasure:
    """Name the concept to erase, its anchor, and the concepts to keep.

    Args:
        concept: The concept to erase, in the words of a prompt.
        anchor: What the model shows for the concept's prompts after the erasure. Empty: what it shows for the
            null condition.
        keep: Concepts that must stay as they are. The anchor is always kept too.
        templates: Prompts with `{}` in place of the concept. Every concept and anchor goes into every template.

    Example:
        >>> Erasure(concept="dress", anchor="coat", keep=("bag",)).prompts()
        ['a photo of a dress', 'a photo of a coat', 'a photo of a bag']
    """

    concept: str
    anchor: str = ""
    keep: tuple[str, ...] = ()
    templates: tuple[str, ...] = TEMPLATES

    def prompts(self, plain: bool = False) -> list[str]:
        """Return the prompts in the order of their conditions.

        Concept and anchor of each template stand side by side, so the next condition of each concept prompt is
        its anchor. The kept concepts follow.

        Args:
            plain: Leave the templates out, as for the classes of a DiT.
        """
        templates = ("{}",) if plain else self.templates

        def fill(template: str, word: str) -> str:
            return template.format(word) if word or plain else word

        pairs = [fill(template, word) for template in templates for word in (self.concept, self.anchor)]
        return pairs + [fill(template, word) for word in self.keep for template in templates]

    def concepts(self, plain: bool = False) -> list[int]:
        """Return the conditions to erase, as positions in `prompts(plain)`."""
        return [2 * k for k in range(1 if plain else len(self.templates))]

    def problems(self) -> list[str]:
        """Return the problems of the words and templates, one sentence each."""
        problems = []
        if not self.concept.strip():
            problems.append("the concept is empty; name in a few words what to erase.")
        if self.concept in (self.anchor, *self.keep):
            problems.append(
                f"'{self.concept}' is the concept and also the anchor or a kept concept; "
                "it cannot be erased and kept. Name another anchor or kept concept."
            )
        if bad := [t for t in self.templates if t.count("{}") != 1]:
            problems.append(
                f"templates {bad} do not contain {{}} exactly once; write {{}} in the place of the concept."
            )
        if not self.templates:
            problems.append("there is no template; give at least one, for example '{}'.")
        return problems

    def check(self) -> None:
        """Raise `ExpungeError` with every problem of the words and templates."""
        raise_all(self.problems())


def kept_latents(path: Path, made_of: tuple[object, ...], make: Callable[[], TensorData]) -> TensorData:
    """Return the latents in `path`, or make them and save them there.

    An interrupted call must resume with the same latents. Latents made again on a GPU may differ in the last bits.

    Args:
        path: File of the latents.
        made_of: Everything the latents depend on.
        make: Makes the latents.

    Raises:
        ExpungeError: If the file was made with another `made_of`.
    """
    identity = repr(made_of)
    if path.exists():
        state = load_state(path)
        if state.get("identity") != identity:
            raise ExpungeError(
                f"{path} holds the latents of another call: pipeline, prompts, images, their number, sampler or seed "
                "differ. Remove the file to start again, or repeat the settings of that call."
            )
        return TensorData(state["latents"], state["conditions"], name=state["name"])
    data = make()
    save_state(path, {"identity": identity, "latents": data.x, "conditions": data.labels, "name": data.name})
    return data


def image_files(folder: Path, erasure: Erasure) -> dict[str, list[Path]]:
    """List the image files in the sub-folder of each concept, sorted.

    Raises:
        ExpungeError: With every sub-folder that has no images. The anchor may have none.
    """
    words = [w for w in dict.fromkeys((erasure.concept, erasure.anchor, *erasure.keep)) if w]
    paths = {w: sorted(f for f in (folder / w).glob("*") if f.suffix.lower() in SUFFIXES) for w in words}
    raise_all(
        [
            f"{folder / word} has no images ({', '.join(SUFFIXES)}); put the images of '{word}' there."
            for word, files in paths.items()
            if not files and word != erasure.anchor
        ]
    )
    return paths


def contents(files: Mapping[str, Sequence[Path]]) -> list[tuple[str, str, str]]:
    """Return the concept, the file name and the SHA-256 of every image file."""
    return [
        (word, path.name, hashlib.sha256(path.read_bytes()).hexdigest())
        for word, paths in files.items()
        for path in paths
    ]


def split_of(data: TensorData, concepts: Sequence[int], count: int, name: str) -> Split:
    """Return the split whose forget set has the conditions `concepts`. Validation and test set are empty.

    Args:
        data: Latents of every condition.
        concepts: The conditions to erase.
        count: Number of conditions.
        name: The concept's words.

    Raises:
        ExpungeError: If the forget set or the retain set is empty.
    """
    forget = torch.isin(data.labels, torch.tensor(concepts))

    def samples(where: Tensor) -> Samples:
        return Samples(data, where.nonzero()[:, 0])

    raise_all(
        [
            f"there are no images of {what}; add some."
            for what, where in (("the concept", forget), ("any kept concept or the anchor", ~forget))
            if not where.any()
        ]
    )
    empty = samples(forget & False)
    return Split(
        samples(forget),
        samples(~forget),
        empty,
        empty,
        empty,
        empty,
        count,
        "class",
        "unlearn",
        {"scenario": "class", "forget": list(concepts), "concept": name},
        tuple(concepts),
    )


def sampled_latents(
    loaded: Loaded, model: Prompted, task: Diffusion, count: int, sampler: Sampler, per_prompt: int, seed: int
) -> TensorData:
    """Sample `per_prompt` latents for each of the `count` conditions of `model`."""
    conditions = torch.arange(count).repeat_interleave(per_prompt)
    channels = int(loaded.denoiser.config.in_channels)  # type: ignore[union-attr, arg-type]
    latents = sampler(model, task, conditions, (channels, loaded.size, loaded.size), seed=seed + 1)
    return TensorData(latents, conditions, name="drawn by the pipeline")


def read_latents(
    loaded: Loaded, folder: Path, erasure: Erasure, prompts: list[str], batch_size: int = 8
) -> TensorData:
    """Encode the images in the sub-folders of `folder`.

    The images of a concept take its prompts (templates) in turn.

    Args:
        loaded: The pipeline whose autoencoder encodes.
        folder: Folder with one sub-folder per concept.
        erasure: The concepts and templates.
        prompts: The conditions, in order.
        batch_size: Images to encode at once.
    """
    side = loaded.size * 2 ** (len(loaded.pipeline.vae.config.block_out_channels) - 1)
    paths: list[Path] = []
    conditions: list[int] = []
    for word, files in image_files(folder, erasure).items():
        filled = {template.format(word) for template in (*erasure.templates, "{}")}
        choices = [k for k, prompt in enumerate(prompts) if prompt in filled]
        for k, path in enumerate(files):
            paths.append(path)
            conditions.append(choices[k % len(choices)])
    latents = [
        loaded.encode(torch.stack([picture(path, side) for path in paths[start : start + batch_size]]))
        for start in range(0, len(paths), batch_size)
    ]
    return TensorData(torch.cat(latents), torch.tensor(conditions), name=folder.name)


def picture(path: Path, side: int) -> Tensor:
    """Read an image file as (3, side, side) in [0, 1]: resize the short side to `side`, then crop the centre."""
    from PIL import Image

    with Image.open(path) as image:
        return Resize(side, crop=side)(image).float() / 255
